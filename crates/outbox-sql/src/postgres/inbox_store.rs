//! The inbox in the consumer's own PostgreSQL database, so that record and effect share a transaction.
//!
//! One thread has one connection, and takes whatever is queued into one transaction: calls that come while one commits
//! share the next one. Handlers run in it, and write through its transaction.
//!
//! Of a transaction the inbox needs one round trip to find out what is known of all its events, and sends what it records of
//! them together with the commit; the beginning and the commit are round trips of their own in any transaction.

use std::future::Future;

use outbox::{
    ErrorKind, Event, StoreError,
    inbox::{Answer, Handler},
    inbox_store::{InboxStore, Job},
};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Transaction;

use super::connection::ConnectOptions;

mod driver;
mod ids;
mod kept;
mod lanes;
mod operations;
mod schema;
mod thread;
mod tx;
mod unsent;
mod waits;

#[cfg(feature = "sqlx-postgres")]
pub use driver::SqlxPostgres;
pub use driver::TokioPostgres;
pub use tx::PostgresTx;

use driver::Driver;
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
///
/// `D` is the driver whose transaction handlers are given: that of `tokio-postgres`, unless it was opened by
/// `open_sqlx`.
pub struct PostgresInbox<D: Driver = TokioPostgres> {
    queue: mpsc::Sender<Box<dyn Queued<D>>>,
}

impl<D: Driver> Clone for PostgresInbox<D> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
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
        Self::start(TokioPostgres::new(options), consumer.into())
    }

    /// The names of the inboxes in a database; none if it has none yet.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if they are of another version; else as connecting gives them.
    pub async fn consumers(options: &ConnectOptions) -> Result<Vec<String>, StoreError> {
        schema::consumers(options).await
    }
}

#[cfg(feature = "sqlx-postgres")]
impl PostgresInbox<SqlxPostgres> {
    /// The inbox of `consumer` for handlers that write through a transaction of `sqlx`; see [`handler_fn_sqlx`]. It has one
    /// connection of its own, made with `options` (`PgPool::connect_options` gives those of a pool): TLS and the cache of
    /// prepared statements are as they say, and the latter has to be off behind a pooler of transactions. `sqlx` sends no
    /// statement before the last one was answered: what is recorded costs a round trip before the commit's.
    ///
    /// # Errors
    /// As [`PostgresInbox::open`].
    pub fn open_sqlx(
        options: sqlx::postgres::PgConnectOptions,
        consumer: impl Into<String>,
    ) -> Result<Self, StoreError> {
        Self::start(SqlxPostgres::new(options), consumer.into())
    }
}

impl<D: Driver> PostgresInbox<D> {
    fn start(driver: D, consumer: String) -> Result<Self, StoreError> {
        let unavailable = |what: &str, error: std::io::Error| {
            StoreError::new(ErrorKind::Unavailable, format!("the inbox's {what} could not be started")).because(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unavailable("runtime", error))?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name(format!("inbox {consumer}"))
            .spawn(move || runtime.block_on(thread::run(driver, consumer, jobs)))
            .map_err(|error| unavailable("thread", error))?;
        Ok(Self { queue })
    }
}

impl<D: Driver> InboxStore for PostgresInbox<D> {
    type Tx<'t> = PostgresTx<'t, D>;

    fn transact<J, O>(&self, job: J) -> impl Future<Output = Result<O, StoreError>> + Send
    where
        J: for<'t> Job<PostgresTx<'t, D>, Output = O>,
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

/// A handler of a plain async function, which is given a transaction of `sqlx` and the event; else as [`handler_fn`].
///
/// ```
/// use outbox::Event;
/// use outbox_sql::postgres::handler_fn_sqlx;
/// use sqlx::{Postgres, Transaction};
///
/// let ledger = handler_fn_sqlx(async |tx: &mut Transaction<'_, Postgres>, event: &Event| -> Result<(), sqlx::Error> {
///     sqlx::query("INSERT INTO ledger (id) VALUES ($1)").bind(event.id()).execute(&mut **tx).await?;
///     Ok(())
/// });
/// ```
#[cfg(feature = "sqlx-postgres")]
pub fn handler_fn_sqlx<A, F>(handle: F) -> SqlxHandlerFn<F>
where
    F: AsyncFn(&mut sqlx::Transaction<'_, sqlx::Postgres>, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    SqlxHandlerFn(handle)
}

/// A handler made by [`handler_fn_sqlx`].
#[cfg(feature = "sqlx-postgres")]
pub struct SqlxHandlerFn<F>(F);

#[cfg(feature = "sqlx-postgres")]
impl<'t, A, F> Handler<PostgresTx<'t, SqlxPostgres>> for SqlxHandlerFn<F>
where
    F: AsyncFn(&mut sqlx::Transaction<'_, sqlx::Postgres>, &Event) -> A + Send + Sync + 'static,
    A: Into<Answer>,
{
    async fn handle(&self, tx: &mut PostgresTx<'t, SqlxPostgres>, event: &Event) -> Answer {
        (self.0)(tx.transaction(), event).await.into()
    }
}
