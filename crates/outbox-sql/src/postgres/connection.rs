//! One connection to a database, made anew after it broke.
//!
//! Nothing here lasts longer than a transaction: no session settings, and no named statements, provided that the users
//! of this module send their queries by `query_typed` and `execute_typed`. So a relay works through a pooler that gives
//! each transaction another connection of the server.

use std::{
    future::{Future, poll_fn},
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{ErrorKind, StoreError};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage, Client, Row,
    types::{ToSql, Type},
};

use super::failure::{connect_error, store_error};

pub(crate) mod dial;
mod options;
#[cfg(test)]
mod tests;
mod tls;

pub use options::{ConnectOptions, PasswordSource};

/// What goes through many rows may take so long, whatever the limit of other statements is.
const LONG: Duration = Duration::from_secs(60 * 60);

/// One connection, used by one caller at a time; the others wait for their turn.
pub(crate) struct Connection {
    options: ConnectOptions,
    live: Mutex<Option<Live>>,
}

/// A connection that was made.
struct Live {
    client: Client,
    /// A statement ran out of time: what the server does with it is not known, so the connection is not used again.
    given_up: Arc<AtomicBool>,
}

impl Connection {
    /// Connects at the first use.
    pub(crate) fn new(options: ConnectOptions) -> Self {
        Self { options, live: Mutex::new(None) }
    }

    /// Waits for the connection to be free, and connects if there is none, or if it broke.
    ///
    /// # Errors
    /// As [`connect`] gives them.
    pub(crate) async fn client(&self) -> Result<Leased<'_>, StoreError> {
        let mut live = self.live.lock().await;
        renew(&mut live, &self.options).await?;
        MutexGuard::try_map(live, Option::as_mut)
            .map(|live| Leased { limit: self.options.statement_limit(), live })
            .map_err(|_| not_made())
    }

    /// The same for the only one who uses it.
    ///
    /// # Errors
    /// As [`connect`] gives them.
    pub(crate) async fn own(&mut self) -> Result<(&mut Client, StatementLimit), StoreError> {
        let live = self.live.get_mut();
        renew(live, &self.options).await?;
        let Live { client, given_up } = live.as_mut().ok_or_else(not_made)?;
        Ok((client, StatementLimit { limit: self.options.statement_limit(), given_up: given_up.clone() }))
    }
}

fn not_made() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, "the connection to the database was not made")
}

/// Connects if there is no connection, or if it broke.
async fn renew(live: &mut Option<Live>, options: &ConnectOptions) -> Result<(), StoreError> {
    if !live.as_ref().is_some_and(Live::is_usable) {
        // Dropped first: a server with few connections left may have no second one.
        *live = None;
        let client = connect(options).await?;
        *live = Some(Live { client, given_up: Arc::default() });
    }
    Ok(())
}

impl Live {
    fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.given_up.load(Ordering::Acquire)
    }
}

/// The connection, until it is dropped. Dropped in the middle of a transaction, it is rolled back.
pub(crate) struct Leased<'a> {
    limit: Duration,
    live: tokio::sync::MappedMutexGuard<'a, Live>,
}

impl Leased<'_> {
    /// The time limit of this connection's statements, to be taken before a transaction borrows the connection.
    pub(crate) fn limit(&self) -> StatementLimit {
        StatementLimit { limit: self.limit, given_up: self.live.given_up.clone() }
    }
}

impl Deref for Leased<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.live.client
    }
}

impl DerefMut for Leased<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.live.client
    }
}

/// How long a statement may take before its connection is given up.
#[derive(Clone)]
pub(crate) struct StatementLimit {
    limit: Duration,
    given_up: Arc<AtomicBool>,
}

impl StatementLimit {
    /// The limit of what goes through many rows.
    pub(crate) fn for_many_rows(mut self) -> Self {
        self.limit = self.limit.max(LONG);
        self
    }

    /// Awaits `statement`; `attempted` is what an error begins with, as "reading the routes". If it takes longer than the limit, the connection is closed at its next use; the server
    /// ends the statement when it notices.
    ///
    /// # Errors
    /// What the server said, as [`store_error`] reads it; [`ErrorKind::Unavailable`], uncertain, out of time.
    pub(crate) async fn within<T>(
        &self,
        attempted: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.all_within(attempted, async { statement.await.map_err(store_error(attempted)) }).await
    }

    /// The same for several statements, whose errors are read already.
    ///
    /// # Errors
    /// Theirs; [`ErrorKind::Unavailable`], uncertain, out of time.
    pub(crate) async fn all_within<T>(
        &self,
        attempted: &'static str,
        statements: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Ok(answer) = tokio::time::timeout(self.limit, statements).await {
            return answer;
        }
        self.given_up.store(true, Ordering::Release);
        let message = format!(
            "{attempted}: the database did not answer within {:?}: look for what it waits for in pg_stat_activity, or raise `statement_timeout` in the database's URL",
            self.limit
        );
        Err(StoreError::new(ErrorKind::Unavailable, message).uncertain())
    }
}

/// The only row of `sql`, in a transaction of its own that sees what is committed by each of its statements, whatever the
/// role's default is.
///
/// All of it is sent at once: what the transaction locks is let go of though this process stands still.
///
/// # Errors
/// As the server says.
pub(crate) async fn query_read_committed(
    client: &Client,
    sql: &str,
    params: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Row, tokio_postgres::Error> {
    let (begun, row, committed) = tokio::join!(
        biased;
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
        client.query_typed_one(sql, params),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let row = row?;
    committed?;
    Ok(row)
}

/// Makes a connection. Its work is done by a task of the current tokio runtime, which ends with the client.
///
/// # Errors
/// [`ErrorKind::Unavailable`] if the server cannot be reached, [`ErrorKind::NotPermitted`] if it lets us not in,
/// [`ErrorKind::Invalid`] for certificates that cannot be read or verified.
pub async fn connect(options: &ConnectOptions) -> Result<Client, StoreError> {
    // Nobody has asked to be notified.
    connect_and_hear(options, || true).await.map(|(client, _)| client)
}

/// The same, with `hear` called at each notification until it says that nobody is there any more. Gives what ends with the
/// connection besides.
pub(crate) async fn connect_and_hear(
    options: &ConnectOptions,
    hear: impl Fn() -> bool + Send + 'static,
) -> Result<(Client, JoinHandle<()>), StoreError> {
    let config = options.config().await?;
    let tls = tls::Connector::new(options)?;
    let limit = options.connect_limit();
    let Ok(made) = tokio::time::timeout(limit, config.connect(tls)).await else {
        let message = format!(
            "connecting to {options}: no answer within {limit:?}: check host, port and firewall, or raise `connect_timeout`"
        );
        return Err(StoreError::new(ErrorKind::Unavailable, message));
    };
    let (client, mut connection) = made.map_err(connect_error(options))?;
    let work = async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notification(_)) if !hear() => return,
                Ok(_) => {}
                // Whoever uses the client is told of the same failure.
                Err(error) => {
                    tracing::debug!(reason = %super::failure::said(&error), "a connection to the database ended");
                    return;
                }
            }
        }
    };
    Ok((client, tokio::spawn(work)))
}
