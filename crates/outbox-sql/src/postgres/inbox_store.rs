//! The inbox in the consumer's own PostgreSQL database, so that record and effect share a transaction.
//!
//! One thread has one connection, and takes whatever is queued into one transaction: calls that come while one commits
//! share the next one. Handlers run in it, and write through its transaction.

use std::future::Future;

use outbox::{
    ErrorKind, Event, StoreError,
    inbox::{Answer, Handler},
    inbox_store::{InboxStore, Job},
};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Transaction;

use super::connection::{ConnectOptions, connect};

mod ids;
mod kept;
mod lanes;
mod schema;
mod thread;
mod tx;
mod waits;

pub use tx::PostgresTx;

use thread::{Queued, Ticket};

/// Calls that wait for the inbox's thread at most; further ones wait to be queued.
const QUEUE: usize = 256;

/// An inbox in a PostgreSQL database. Cloning gives another handle to it, with the same connection, which is closed when the
/// last one is dropped.
///
/// Several processes may open the same inbox: each event is applied by one of them, and a key's events in turn whoever
/// applies them. One handle works in one transaction at a time; for more at once, open it several times.
///
/// *Durability*: what is answered is on the server's disk, also where `synchronous_commit` is off for this role.
#[derive(Clone)]
pub struct PostgresInbox {
    queue: mpsc::Sender<Box<dyn Queued>>,
}

impl PostgresInbox {
    /// Makes the tables of inboxes if they are not there, else puts their functions in place anew; and makes the inbox of
    /// `consumer`. One database can hold several, each with its own marks.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] for tables of another version, [`ErrorKind::Invalid`] for an empty name,
    /// [`ErrorKind::NotPermitted`] without the right to make tables; else as connecting gives them.
    pub async fn init(options: &ConnectOptions, consumer: &str) -> Result<(), StoreError> {
        schema::init(options, consumer).await
    }

    /// The statements that make the tables of inboxes, for migrations of one's own: to be run once, in one transaction. The
    /// inbox itself is a row of `outbox_inbox.consumers` with its name.
    pub fn sql() -> String {
        schema::sql()
    }

    /// The statements that give `role` the rights that a consumer needs on the inbox's tables, and no others.
    pub fn grants(role: &str) -> String {
        schema::grants(role)
    }

    /// The inbox of `consumer`. It connects when it is first used, and gives then [`ErrorKind::Invalid`] if the database has
    /// no such inbox, or [`ErrorKind::Incompatible`] if its tables are of another version.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub fn open(options: ConnectOptions, consumer: impl Into<String>) -> Result<Self, StoreError> {
        let unavailable = |what: &str, error: std::io::Error| {
            StoreError::new(ErrorKind::Unavailable, format!("the inbox's {what} could not be started")).because(error)
        };
        let consumer = consumer.into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unavailable("runtime", error))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("inbox {consumer}"))
            .spawn(move || runtime.block_on(thread::run(options, consumer, jobs)))
            .map_err(|error| unavailable("thread", error))?;
        Ok(Self { queue })
    }

    /// The names of the inboxes in a database.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if it has none, or of another version; else as connecting gives them.
    pub async fn consumers(options: &ConnectOptions) -> Result<Vec<String>, StoreError> {
        schema::consumers(&connect(options).await?).await
    }
}

impl InboxStore for PostgresInbox {
    type Tx<'t> = PostgresTx<'t>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<PostgresTx<'t>, Output = O>,
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

/// A handler of a plain async function, which is given the transaction and the event.
///
/// What it writes through the transaction commits together with the record that it was done. It may answer `()`, an
/// [`Answer`], or a `Result` of either, whose error asks for another attempt.
///
/// ```
/// use outbox::Event;
/// use outbox_sql::postgres::handler_fn;
/// use tokio_postgres::Transaction;
///
/// let ledger = handler_fn(async |tx: &Transaction<'_>, event: &Event| -> Result<(), tokio_postgres::Error> {
///     tx.execute("INSERT INTO ledger (id) VALUES ($1)", &[&event.id()]).await?;
///     Ok(())
/// });
/// ```
pub fn handler_fn<A, F>(handle: F) -> HandlerFn<F>
where
    F: AsyncFn(&Transaction<'_>, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    HandlerFn(handle)
}

/// A handler made by [`handler_fn`].
pub struct HandlerFn<F>(F);

impl<'t, A, F> Handler<PostgresTx<'t>> for HandlerFn<F>
where
    F: AsyncFn(&Transaction<'_>, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    async fn handle(&self, tx: &mut PostgresTx<'t>, event: &Event) -> Answer {
        (self.0)(tx.transaction(), event).await.into()
    }
}
