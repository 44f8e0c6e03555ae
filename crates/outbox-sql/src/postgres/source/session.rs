//! A session that reads: one connection, its transactions, and what it decodes with.

use std::{borrow::Cow, future::Future};

use outbox::StoreError;
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

use crate::postgres::{
    connection::{ConnectOptions, Connection, Leased, StatementLimit},
    decode::Decoder,
    mapping::Entries,
};

/// Every statement sees what is committed by then, whatever the role's default is. What is planned is pinned: left alone, the
/// planner goes through a whole table for a few new rows, as long as it knows little of it. What it cannot do otherwise counts
/// as so dear that it would be compiled, which takes longer than all the rest. Where a policy hides rows from this role,
/// reading fails, rather than take them for none. All of it ends with the transaction, so it works through a pooler.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off; SET LOCAL row_security = off";

/// A parameter and its type.
pub(in crate::postgres) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A session that one read at a time uses.
pub(in crate::postgres) struct Session {
    connection: Connection,
    entries: Entries,
    pub(in crate::postgres) decoder: Decoder,
    /// A transaction was begun and may be open still, as after a read whose caller is gone.
    is_open: bool,
}

impl Session {
    pub(in crate::postgres) fn new(options: ConnectOptions, entries: Entries) -> Self {
        Self { connection: Connection::new(options), decoder: entries.decoder(""), entries, is_open: false }
    }

    /// The connection, and what else is of use with it; what a caller left open is rolled back.
    pub(in crate::postgres) async fn begin(&mut self) -> Result<Using<'_>, StoreError> {
        let client = self.connection.client().await?;
        let limit = client.limit();
        if self.is_open {
            limit.within("ending what was left open", client.batch_execute("ROLLBACK")).await?;
            self.is_open = false;
        }
        Ok(Using { client, limit, entries: &self.entries, decoder: &mut self.decoder, is_open: &mut self.is_open })
    }
}

/// A session in use.
pub(in crate::postgres) struct Using<'a> {
    client: Leased<'a>,
    limit: StatementLimit,
    pub(in crate::postgres) entries: &'a Entries,
    pub(in crate::postgres) decoder: &'a mut Decoder,
    is_open: &'a mut bool,
}

impl Using<'_> {
    pub(in crate::postgres) fn client(&self) -> &Client {
        &self.client
    }

    /// A statement on `outbox.entries AS e`, as it is for the table that is read.
    pub(in crate::postgres) fn sql<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        self.entries.sql(sql)
    }

    /// Awaits a statement, or several that were sent at once.
    pub(in crate::postgres) async fn within<T>(
        &self,
        attempted: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.limit.within(attempted, statement).await
    }

    /// The same for a statement that goes through many rows.
    pub(in crate::postgres) async fn within_long<T>(
        &self,
        attempted: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.limit.clone().for_many_rows().within(attempted, statement).await
    }

    /// Begins a transaction for reading entries, and sends `first` along.
    pub(in crate::postgres) async fn open<T>(
        &mut self,
        attempted: &'static str,
        first: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        *self.is_open = true;
        let client: &Client = &self.client;
        let both = async { tokio::try_join!(client.batch_execute(BEGIN), first(client)) };
        let ((), first) = self.limit.within(attempted, both).await?;
        Ok(first)
    }

    /// Ends what a read that failed has left open, if that is possible: else the next one does.
    pub(in crate::postgres) async fn give_up(&mut self) {
        if *self.is_open && self.limit.within("giving up a read", self.client.batch_execute("ROLLBACK")).await.is_ok() {
            *self.is_open = false;
        }
    }

    /// Commits.
    pub(in crate::postgres) async fn close(&mut self, attempted: &'static str) -> Result<(), StoreError> {
        self.limit.within(attempted, self.client.batch_execute("COMMIT")).await?;
        *self.is_open = false;
        Ok(())
    }
}
