//! A connection that calls share: each sends its statement at once, behind those of the others, and awaits its own answer.
//!
//! What goes over it takes effect in the order in which it was asked for, and a call whose caller is gone is either sent or
//! not: every statement is one message. It is made when it is needed, and anew after it broke.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{ErrorKind, StoreError};
use tokio::sync::Mutex;
use tokio_postgres::{
    Client, Row,
    error::Severity,
    types::{ToSql, Type},
};

use super::schema::{BookkeepingSchema, recognise};
use crate::postgres::{
    connection::{ConnectOptions, connect},
    failure::store_error,
};

/// A parameter and its type: so a statement needs no round trip before it, and no name.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

pub(super) struct Connection {
    options: ConnectOptions,
    schema: BookkeepingSchema,
    live: Mutex<Option<Arc<Live>>>,
}

/// A connection that was made.
pub(super) struct Live {
    client: Client,
    /// By lease, the number under which it writes.
    numbers: std::sync::Mutex<BTreeMap<String, i64>>,
    /// A statement ran out of time: what the server does with it is not known, so the connection is not used again.
    given_up: AtomicBool,
    limit: Duration,
}

impl Connection {
    pub(super) fn new(options: ConnectOptions, schema: BookkeepingSchema) -> Self {
        Self { options, schema, live: Mutex::new(None) }
    }

    /// The connection as it is, or a new one to a bookkeeping of this layout. Callers come out in the order in which they
    /// went in.
    pub(super) async fn live(&self) -> Result<Arc<Live>, StoreError> {
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_ref().filter(|live| live.is_usable()) {
            return Ok(live.clone());
        }
        // Dropped first: a server with few connections left may have no second one.
        *live = None;
        let client = connect(&self.options).await?;
        let limit = self.options.statement_limit();
        let made = Live { client, numbers: std::sync::Mutex::default(), given_up: AtomicBool::new(false), limit };
        let recognised = tokio::time::timeout(limit, recognise(&made.client, &self.options, &self.schema)).await;
        recognised.map_err(|_| {
            let message = format!("looking at the bookkeeping of {}: no answer within {limit:?}", self.options);
            StoreError::new(ErrorKind::Unavailable, message)
        })??;
        Ok(live.insert(Arc::new(made)).clone())
    }
}

impl Live {
    fn is_usable(&self) -> bool {
        !self.client.is_closed() && !self.given_up.load(Ordering::Acquire)
    }

    /// The number under which this connection writes with `lease`, once it was given one.
    pub(super) fn number(&self, lease: &str) -> Option<i64> {
        self.numbers().get(lease).copied()
    }

    /// From now on it writes with `lease` under `number`, or under a later one that was given at the same time.
    pub(super) fn attached(&self, lease: &str, number: i64) {
        let mut numbers = self.numbers();
        let latest = numbers.entry(lease.to_owned()).or_default();
        *latest = number.max(*latest);
    }

    fn numbers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one statement and awaits its answer, which comes once its transaction has ended.
    ///
    /// # Errors
    /// [`Failure::Refused`] with a code of the schema's own functions; else what the server said. Uncertain unless it
    /// surely had no effect.
    pub(super) async fn query(
        &self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let answer = tokio::time::timeout(self.limit, self.client.query_typed(sql, params)).await;
        let Ok(answer) = answer else {
            self.given_up.store(true, Ordering::Release);
            let message = format!(
                "{attempted}: the database did not answer within {:?}: look for what it waits for in pg_stat_activity, or raise `statement_timeout`",
                self.limit
            );
            return Err(Failure::Other(StoreError::new(ErrorKind::Unavailable, message).uncertain()));
        };
        answer.map_err(|error| failure(attempted, error))
    }
}

/// Why a statement failed.
pub(super) enum Failure {
    /// A function of the schema said no, which surely had no effect.
    Refused(Refusal),
    /// Anything else.
    Other(StoreError),
}

/// What the schema's functions say no by.
pub(super) enum Refusal {
    /// OX101: the lease was taken or given up.
    Fenced(String),
    /// OX102: the lease's owner writes over another connection by now.
    Replaced,
    /// OX103: the session's isolation level is not READ COMMITTED.
    Isolation(String),
    /// OX104: what was asked for contradicts what is stored.
    Invalid(String),
}

impl Refusal {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Fenced(message) => StoreError::new(ErrorKind::Fenced, message),
            Self::Replaced => {
                let message = "another process writes under the same lease at the same time: a lease is for one relay";
                StoreError::new(ErrorKind::Unavailable, message)
            }
            Self::Isolation(message) => StoreError::new(ErrorKind::Incompatible, message),
            Self::Invalid(message) => StoreError::new(ErrorKind::Invalid, message),
        }
    }
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Refused(refusal) => refusal.into_error(),
            Self::Other(error) => error,
        }
    }
}

fn failure(attempted: &'static str, error: tokio_postgres::Error) -> Failure {
    let Some(answer) = error.as_db_error() else { return Failure::Other(store_error(attempted)(error)) };
    let said = || match answer.hint() {
        Some(hint) => format!("{}: {hint}", answer.message()),
        None => answer.message().to_owned(),
    };
    match answer.code().code() {
        "OX101" => Failure::Refused(Refusal::Fenced(said())),
        "OX102" => Failure::Refused(Refusal::Replaced),
        "OX103" => Failure::Refused(Refusal::Isolation(said())),
        "OX104" => Failure::Refused(Refusal::Invalid(said())),
        _ => {
            // A session may be ended, by the server or by a pooler before it, when the commit has been done.
            let ended = !matches!(answer.parsed_severity(), Some(Severity::Error));
            let error = store_error(attempted)(error);
            Failure::Other(if ended { error.uncertain() } else { error })
        }
    }
}
