//! The inbox over `sqlx`, which waits for each answer before it sends the next statement.

use std::{
    error::Error,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use outbox::{ErrorKind, StoreError};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Encode, PgConnection, Postgres, Row as _, Transaction,
    TypeInfo as _, ValueRef as _,
    encode::IsNull,
    postgres::{
        PgArgumentBuffer, PgConnectOptions, PgDatabaseError, PgRow, PgSeverity, PgTypeInfo, PgValueFormat, types::Oid,
    },
};
use tokio_postgres::types::{self, FromSql, Type};

use super::{BEGINNING, COMMITTING, Driver, Ended, Failed, Open, Param, Row, Statement};
use crate::postgres::failure::{Said, of_state};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a statement may take before its connection is given up.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// One request, mark included.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL outbox_inbox.open = 'yes'";

/// The driver `sqlx`.
pub struct SqlxPostgres {
    options: PgConnectOptions,
    live: Option<PgConnection>,
    /// Whether the connection cannot be used any more: it broke, or a statement ran out of time.
    broken: Arc<AtomicBool>,
}

/// A transaction that has begun.
pub struct OpenSqlx<'t> {
    transaction: Transaction<'t, Postgres>,
    broken: Arc<AtomicBool>,
}

impl SqlxPostgres {
    pub(in crate::postgres::inbox_store) fn new(options: PgConnectOptions) -> Self {
        Self { options, live: None, broken: Arc::default() }
    }
}

impl Driver for SqlxPostgres {
    type Open<'t> = OpenSqlx<'t>;

    async fn begin(&mut self) -> Result<OpenSqlx<'_>, StoreError> {
        if self.broken.swap(false, Ordering::AcqRel) {
            self.live = None;
        }
        let live = match &mut self.live {
            Some(live) => live,
            none => none.insert(connect(&self.options).await?),
        };
        let beginning = live.begin_with(BEGIN);
        let transaction = within(&self.broken, BEGINNING, beginning).await.map_err(|failed| failed.certain().error)?;
        Ok(OpenSqlx { transaction, broken: self.broken.clone() })
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    const CONNECTING: &str = "connecting to the inbox's database";
    let unanswered = || {
        let message = format!("{CONNECTING}: no answer within {CONNECT_TIMEOUT:?}: check host, port and firewall");
        StoreError::new(ErrorKind::Unavailable, message)
    };
    let made = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await.map_err(|_| unanswered())?;
    made.map_err(|error| failed(CONNECTING, &error).certain().error)
}

impl<'t> OpenSqlx<'t> {
    /// The driver's own transaction.
    pub(in crate::postgres::inbox_store) fn transaction(&mut self) -> &mut Transaction<'t, Postgres> {
        &mut self.transaction
    }
}

impl Open for OpenSqlx<'_> {
    async fn send(&mut self, statements: &[Statement<'_>]) -> Result<Vec<Row>, Failed> {
        let mut rows = Vec::new();
        for Statement { attempted, sql, params } in statements {
            let mut query = sqlx::query(AssertSqlSafe((*sql).to_owned()));
            for param in params {
                query = query.bind(Bound(param));
            }
            rows = within(&self.broken, attempted, query.fetch_all(&mut *self.transaction)).await?;
        }
        Ok(rows.into_iter().map(Row::Sqlx).collect())
    }

    async fn commit(mut self, statements: &[Statement<'_>]) -> Result<Vec<Row>, Ended> {
        let rows = match self.send(statements).await {
            Ok(rows) => rows,
            Err(failed) => {
                self.rollback().await;
                return Err(Ended::Statement(failed.certain()));
            }
        };
        let Self { transaction, broken } = self;
        within(&broken, COMMITTING, transaction.commit()).await.map(|()| rows).map_err(Ended::Commit)
    }

    async fn rollback(self) {
        let _ = within(&self.broken, "rolling back the inbox", self.transaction.rollback()).await;
    }
}

/// Awaits `statement`; `attempted` is what an error begins with.
async fn within<T>(
    broken: &AtomicBool,
    attempted: &'static str,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failed> {
    let answer = tokio::time::timeout(STATEMENT_TIMEOUT, statement).await;
    let failed = match answer {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => failed(attempted, &error),
        Err(_) => {
            let message = format!(
                "{attempted}: the database did not answer within {STATEMENT_TIMEOUT:?}: look for what it waits for in pg_stat_activity"
            );
            Failed { error: StoreError::new(ErrorKind::Unavailable, message).uncertain(), state: None }
        }
    };
    if failed.error.is_uncertain() {
        broken.store(true, Ordering::Release);
    }
    Err(failed)
}

/// What an error of the driver means. Uncertain if the connection broke: then the statement may have taken effect.
fn failed(attempted: &'static str, error: &sqlx::Error) -> Failed {
    let Some(answer) = error.as_database_error() else {
        let ours = matches!(error, sqlx::Error::Encode(_) | sqlx::Error::Configuration(_));
        let kind = if ours { ErrorKind::Invalid } else { ErrorKind::Unavailable };
        let failure = StoreError::new(kind, format!("{attempted}: {error}")).because(Said::new(error.to_string()));
        return Failed { error: if ours { failure } else { failure.uncertain() }, state: None };
    };
    let state = answer.code().unwrap_or_default().into_owned();
    // The detail may show a row.
    let said = format!("{} (SQLSTATE {state})", answer.message());
    let (kind, remedy) = of_state(&state);
    let failure = StoreError::new(kind, format!("{attempted}: {said}{remedy}")).because(Said::new(said));
    let refused = answer.try_downcast_ref::<PgDatabaseError>().is_some_and(|answer| {
        let severity = answer.severity();
        severity == PgSeverity::Error && state != "40003"
    });
    Failed { error: if refused { failure } else { failure.uncertain() }, state: Some(state) }
}

/// A parameter, as `tokio-postgres` writes it.
struct Bound<'a>(&'a Param<'a>);

impl sqlx::Type<Postgres> for Bound<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Type::UNKNOWN.oid()))
    }
}

impl Encode<'_, Postgres> for Bound<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, Box<dyn Error + Send + Sync>> {
        let (value, kind) = self.0;
        let mut bytes = BytesMut::new();
        Ok(match value.to_sql_checked(kind, &mut bytes)? {
            types::IsNull::Yes => IsNull::Yes,
            types::IsNull::No => {
                buffer.extend_from_slice(&bytes);
                IsNull::No
            }
        })
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.0.1.oid())))
    }
}

/// A column of a row, read as `tokio-postgres` reads it.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a PgRow, number: usize) -> Result<T, StoreError> {
    let unreadable = |said: String| {
        StoreError::new(ErrorKind::Invalid, format!("reading a row of the inbox: column {number}: {said}"))
    };
    let value = row.try_get_raw(number).map_err(|error| unreadable(error.to_string()))?;
    let (kind, binary) = {
        let info = value.type_info();
        let kind = info.oid().and_then(|oid| Type::from_oid(oid.0));
        (kind.ok_or_else(|| unreadable(format!("type {} is unknown", info.name())))?, value.format())
    };
    if !T::accepts(&kind) || binary != PgValueFormat::Binary {
        return Err(unreadable(format!("type {kind} was not expected")));
    }
    let read = if value.is_null() {
        T::from_sql_null(&kind)
    } else {
        T::from_sql(&kind, value.as_bytes().map_err(|error| unreadable(error.to_string()))?)
    };
    read.map_err(|error| unreadable(error.to_string()))
}
