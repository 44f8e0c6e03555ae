//! The ways in which statements reach the bookkeeping: reads, a relay's fenced writes, its lease, and an operator's changes.

use outbox::{ErrorKind, StoreError, bookkeeping::Lease};
use tokio_postgres::{
    Row,
    types::{FromSql, Type},
};

use super::{
    codec::number,
    connection::{Connection, Failure, Live, Param, Refusal},
    schema::BookkeepingSchema,
};
use crate::postgres::{connection::ConnectOptions, failure::store_error};

/// How often a write is sent again because another handle of the same owner wrote meanwhile.
const TURNS: usize = 64;

/// A bookkeeping's connections. Each is made when it is first needed.
pub(super) struct Books {
    options: ConnectOptions,
    schema: BookkeepingSchema,
    /// For writes: one, so that what was dropped never comes after what was answered since.
    writer: Connection,
    /// For the lease, which has to be renewed in time whatever waits in the writer's queue.
    lease: Connection,
    reader: Connection,
}

impl Books {
    pub(super) fn new(options: ConnectOptions, schema: BookkeepingSchema) -> Self {
        let connection = || Connection::new(options.clone(), schema.clone());
        let (writer, lease, reader) = (connection(), connection(), connection());
        Self { options, schema, writer, lease, reader }
    }

    /// Reads, by one statement: all of it as it was at one moment.
    pub(super) async fn read(
        &self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.over(&self.reader, attempted, sql, params).await
    }

    /// Writes to the lease, past what waits in the writer's queue.
    pub(super) async fn beside(
        &self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.over(&self.lease, attempted, sql, params).await
    }

    /// Does what an operator asks for, without a lease.
    pub(super) async fn change(
        &self,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.over(&self.writer, attempted, sql, params).await
    }

    async fn over(
        &self,
        connection: &Connection,
        attempted: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let live = connection.live().await?;
        let answer = live.query(attempted, &self.schema.named(sql), params).await;
        answer.map_err(|failure| self.in_database(failure.into_error()))
    }

    /// Writes as the owner of `lease`. The statement's `$1`, `$2` and `$3` are the lease's name, its epoch and the number of
    /// this connection, which the function `fence` compares with the lease's row; `params` follow from `$4` on.
    pub(super) async fn fenced(
        &self,
        attempted: &'static str,
        lease: &Lease,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let live = self.writer.live().await?;
        let sql = self.schema.named(sql);
        let (name, epoch) = (lease.name.as_str(), number(lease.epoch));
        let mut attached = live.number(name);
        for _ in 0..TURNS {
            let connection = match attached {
                Some(number) => number,
                None => self.attach(&live, lease).await?,
            };
            let own: [Param<'_>; 3] = [(&name, Type::TEXT), (&epoch, Type::INT8), (&connection, Type::INT8)];
            let all: Vec<_> = own.into_iter().chain(params.iter().cloned()).collect();
            match live.query(attempted, &sql, &all).await {
                // Refused before it changed anything: another handle of the same owner wrote since.
                Err(Failure::Refused(Refusal::Replaced)) => {
                    attached = live.number(name).filter(|now| *now > connection);
                }
                answer => return answer.map_err(|failure| self.in_database(failure.into_error())),
            }
        }
        Err(Refusal::Replaced.into_error().context(attempted))
    }

    /// Makes a connection the one that the lease's owner writes over.
    async fn attach(&self, live: &Live, lease: &Lease) -> Result<i64, StoreError> {
        const ATTACHING: &str = "beginning to write under a lease";
        let (name, epoch) = (lease.name.as_str(), number(lease.epoch));
        let sql = self.schema.named("SELECT outbox_relay.attach($1, $2)");
        let rows = live.query(ATTACHING, &sql, &[(&name, Type::TEXT), (&epoch, Type::INT8)]).await;
        let rows = rows.map_err(|failure| self.in_database(failure.into_error()))?;
        let row = rows.first().ok_or_else(|| {
            let message = format!("{ATTACHING}: the database gave no number: make the bookkeeping's functions anew");
            StoreError::new(ErrorKind::Incompatible, message)
        })?;
        let number = column(row, 0)?;
        live.attached(name, number);
        Ok(number)
    }

    /// Names the database where it is the database that stands in the way.
    fn in_database(&self, error: StoreError) -> StoreError {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::NotPermitted | ErrorKind::Incompatible => {
                error.context(&format!("the bookkeeping in schema `{}` of {}", self.schema, self.options))
            }
            ErrorKind::Fenced
            | ErrorKind::HistoryChanged
            | ErrorKind::Trimmed
            | ErrorKind::Ownership
            | ErrorKind::Invalid => error,
        }
    }
}

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, number: usize) -> Result<T, StoreError> {
    row.try_get(number).map_err(store_error("reading a row of the bookkeeping"))
}
