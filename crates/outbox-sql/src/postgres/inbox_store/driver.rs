//! The drivers that an inbox can work with. Its statements are the same; how they are sent is what differs.

use outbox::{ErrorKind, StoreError};
use tokio_postgres::types::{FromSql, ToSql, Type};

use crate::postgres::failure::store_error;

#[cfg(feature = "sqlx-postgres")]
mod sqlx;
mod tokio;

#[cfg(feature = "sqlx-postgres")]
pub use sqlx::SqlxPostgres;
pub(super) use tokio::OpenTokio;
pub use tokio::TokioPostgres;

/// A driver: what has the inbox's one connection.
#[allow(async_fn_in_trait, reason = "an inbox's transaction stays on its thread")]
pub trait Driver: Sized + Send + 'static {
    /// A transaction that has begun.
    type Open<'t>: Open;

    /// Begins a transaction on level READ COMMITTED, marked by [`MARK`], and connects before if need be.
    ///
    /// # Errors
    /// If that failed; nothing took effect.
    async fn begin(&mut self) -> Result<Self::Open<'_>, StoreError>;
}

/// A transaction that has begun, and has neither been committed nor rolled back.
#[allow(async_fn_in_trait, reason = "an inbox's transaction stays on its thread")]
pub trait Open {
    /// Sends `statements` one behind the other, without waiting in between if the driver can; gives the rows of the last.
    ///
    /// # Errors
    /// What the first said that failed. It has aborted the transaction, and so those behind it have failed, too.
    async fn send(&mut self, statements: &[Statement<'_>]) -> Result<Vec<Row>, Failed>;

    /// The same, and commits behind it. A statement that fails takes the commit with it.
    ///
    /// # Errors
    /// [`Ended`].
    async fn commit(self, statements: &[Statement<'_>]) -> Result<Vec<Row>, Ended>;

    /// Rolls back. A rollback that cannot be sent has happened: the connection is gone.
    async fn rollback(self);
}

/// What marks a transaction as the inbox's own, so that its end finds out whether a handler ended it.
pub(super) const MARK: &str = "SET LOCAL outbox_inbox.open = 'yes'";

/// What an error begins with that says that a transaction did not begin.
pub(super) const BEGINNING: &str = "beginning a transaction of the inbox";
pub(super) const COMMITTING: &str = "committing the inbox";

/// A parameter and its type: so a statement needs no round trip before it, and no name.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement of the inbox.
#[derive(Clone)]
pub struct Statement<'a> {
    /// What it is for, as an error begins.
    pub(super) attempted: &'static str,
    pub(super) sql: &'a str,
    pub(super) params: Vec<Param<'a>>,
}

/// What a statement said that failed.
pub struct Failed {
    pub(super) error: StoreError,
    /// The server's code, if it was the server who said it.
    pub(super) state: Option<String>,
}

impl Failed {
    /// Nothing of a transaction takes effect without its commit: before that no failure is uncertain.
    pub(super) fn certain(self) -> Self {
        let Self { error, state } = self;
        let error = if error.is_uncertain() { StoreError::new(error.kind(), error.to_string()) } else { error };
        Self { error, state }
    }

    /// Whether the server refuses what somebody wrote: for a constraint, or by whatever a trigger raised. Not if it is the
    /// transaction, or the session, that is in no state to go on.
    pub(super) fn refuses_effect(&self) -> bool {
        let refusing = |state: &str| !matches!(state.get(..2), Some("25" | "26" | "2D"));
        self.error.kind() == ErrorKind::Invalid
            && !self.error.is_uncertain()
            && self.state.as_deref().is_some_and(refusing)
    }
}

/// Why a transaction did not commit, as far as is known.
pub enum Ended {
    /// By a statement before the commit.
    Statement(Failed),
    /// The commit itself failed, or its answer was lost.
    Commit(Failed),
}

/// A row, as its driver gave it.
pub enum Row {
    TokioPostgres(tokio_postgres::Row),
    #[cfg(feature = "sqlx-postgres")]
    Sqlx(::sqlx::postgres::PgRow),
}

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, number: usize) -> Result<T, StoreError> {
    match row {
        Row::TokioPostgres(row) => row.try_get(number).map_err(store_error("reading a row of the inbox")),
        #[cfg(feature = "sqlx-postgres")]
        Row::Sqlx(row) => sqlx::column(row, number),
    }
}
