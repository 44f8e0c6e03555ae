//! The inbox in the consumer's own SQLite file, so that record and effect share a transaction.
//!
//! One thread owns the connection and takes whatever is queued into one transaction, because one writer that commits
//! for many is faster by far than many that wait for each other's locks. Handlers run on that thread: they write through
//! the transaction and wait for nothing else.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use outbox::{
    ErrorKind, Event, StoreError,
    inbox::{Answer, Handler},
    inbox_store::{InboxStore, Job},
};
use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::failure::{meaning, store_error};

mod kept;
mod lanes;
mod schema;
mod thread;
mod tx;

pub use tx::SqliteTx;

use thread::{Queued, Ticket};

/// Calls that wait for the inbox's thread at most; further ones wait to be queued.
const QUEUE: usize = 256;

/// How durable a commit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// A commit survives a power failure: what is acknowledged is never lost.
    #[default]
    Full,
    /// A commit survives the process, but a power failure may take back the last ones, after they were acknowledged.
    /// Only where whoever sends would send them again.
    Normal,
}

type Tables = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// How an inbox's file is opened.
pub struct InboxOptions {
    consumer: String,
    synchronous: Synchronous,
    busy: Duration,
    create: bool,
    tables: Option<Tables>,
}

impl InboxOptions {
    /// The inbox named `consumer`: one file can hold several, each with its own marks.
    pub fn new(consumer: impl Into<String>) -> Self {
        Self {
            consumer: consumer.into(),
            synchronous: Synchronous::default(),
            busy: Duration::from_secs(5),
            create: true,
            tables: None,
        }
    }

    /// How durable a commit is; [`Synchronous::Full`] unless set.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait for another connection's lock before a call fails as unavailable.
    pub fn busy_timeout(mut self, busy: Duration) -> Self {
        self.busy = busy;
        self
    }

    /// Only a file and an inbox that are there already; nothing is made. For operators.
    pub fn existing(mut self) -> Self {
        self.create = false;
        self
    }

    /// Makes the handler's own tables, each time the file is opened, before anything else is done with it.
    pub fn tables(mut self, tables: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) -> Self {
        self.tables = Some(Box::new(tables));
        self
    }
}

/// An inbox in a SQLite file. Cloning gives another handle to it; the file is closed when the last one is dropped.
///
/// A handler must not wait: its future has to be ready at the first poll, which that of a plain function
/// ([`handler_fn`]) always is. One that waits fails its call with [`ErrorKind::Invalid`], and nothing is recorded.
#[derive(Clone)]
pub struct SqliteInbox {
    queue: mpsc::Sender<Box<dyn Queued>>,
    path: Arc<PathBuf>,
}

impl SqliteInbox {
    /// Opens the inbox in the file at `path`, and makes what is missing of its tables.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] for tables of a newer version, or a file that cannot have a WAL;
    /// [`ErrorKind::Invalid`] if [`InboxOptions::existing`] finds no such inbox; otherwise as SQLite says.
    pub fn open(path: impl AsRef<Path>, options: InboxOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let connection = connect(&path, &options)?;
        let consumer = options.consumer;
        if options.create {
            schema::make(&connection, &consumer)?;
        } else {
            schema::check(&connection, &consumer)
                .map_err(|error| error.context(&format!("opening `{}`", path.display())))?;
        }
        if let Some(tables) = options.tables {
            tables(&connection).map_err(store_error("making the handler's tables"))?;
        }
        let (queue, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("inbox {consumer}"))
            .spawn(move || thread::run(&connection, &consumer, jobs))
            .map_err(|error| {
                StoreError::new(ErrorKind::Unavailable, "the inbox's thread could not be started").because(error)
            })?;
        Ok(Self { queue, path: Arc::new(path) })
    }

    /// The names of the inboxes in the file at `path`; none if it has none yet.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if they are of a newer version; otherwise as SQLite says.
    pub fn consumers(path: impl AsRef<Path>) -> Result<Vec<String>, StoreError> {
        let connection = connect(path.as_ref(), &InboxOptions::new("").existing())?;
        if schema::is_there(&connection)? { schema::consumers(&connection) } else { Ok(Vec::new()) }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl InboxStore for SqliteInbox {
    type Tx<'t> = SqliteTx<'t>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<SqliteTx<'t>, Output = O>,
        O: Send + 'static,
    {
        let queue = self.queue.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let ended =
                |_| StoreError::new(ErrorKind::Unavailable, "the inbox's thread has ended: start the consumer anew");
            queue.send(Box::new(Ticket::new(job, answer))).await.map_err(|error| ended(error.0))?;
            answered.await.unwrap_or_else(|_| {
                Err(StoreError::new(ErrorKind::Unavailable, "the inbox's thread ended meanwhile").uncertain())
            })
        }
    }
}

fn connect(path: &Path, options: &InboxOptions) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| {
        let (kind, remedy) = meaning(&error);
        StoreError::new(kind, format!("opening the database `{}`: {error}{remedy}", path.display())).because(error)
    };
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if options.create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(options.busy).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(128);
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let message = format!(
            "the database `{}` has journal mode `{mode}`, and an inbox needs `wal`: use a file on a local disk",
            path.display()
        );
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    Ok(connection)
}

/// A handler of a plain function, which is given the transaction and the event.
///
/// What it writes through the transaction commits together with the record that it was done. It may answer `()`, an
/// [`Answer`], or a `Result` of either, whose error asks for another attempt.
///
/// ```
/// use outbox::Event;
/// use outbox_sql::sqlite::handler_fn;
/// use rusqlite::Transaction;
///
/// let ledger = handler_fn(|tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
///     tx.prepare_cached("INSERT INTO ledger (id) VALUES (?1)")?.execute([event.id()])?;
///     Ok(())
/// });
/// ```
pub fn handler_fn<A, F>(handle: F) -> HandlerFn<F>
where
    F: Fn(&Transaction<'_>, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    HandlerFn(handle)
}

/// A handler made by [`handler_fn`].
pub struct HandlerFn<F>(F);

impl<'t, A, F> Handler<SqliteTx<'t>> for HandlerFn<F>
where
    F: Fn(&Transaction<'_>, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    async fn handle(&self, tx: &mut SqliteTx<'t>, event: &Event) -> Answer {
        (self.0)(tx.transaction(), event).into()
    }
}

#[cfg(test)]
mod tests;
