//! The schema `outbox` in the service's database: made, checked, brought up to date.
//!
//! `docs/table-layout.md` is the layout's public description; the SQL itself is in `schema/`.

use std::{fmt::Write, sync::Arc};

use outbox::{Entropy, ErrorKind, StoreError, System, event::check_uri_reference};
use tokio_postgres::{Client, GenericClient, IsolationLevel, types::Type};

use super::failure::store_error;

mod grants;

pub use grants::Grants;

/// The table layout that this version makes and works with.
pub const LAYOUT: i32 = 1;

/// The largest payload before any route is registered: what one entry takes (`outbox::writer::MAX_ENTRY_BYTES`).
pub const DEFAULT_MAX_EVENT_BYTES: i64 = 8 << 20;

/// The oldest server that has all that is used.
const OLDEST_SERVER: i32 = 150_000;

/// In the order in which they need each other.
const PARTS: [&str; 8] = [
    include_str!("schema/tables.sql"),
    include_str!("schema/checks.sql"),
    include_str!("schema/write.sql"),
    include_str!("schema/write_all.sql"),
    include_str!("schema/write_entries.sql"),
    include_str!("schema/leaves.sql"),
    include_str!("schema/adoption.sql"),
    include_str!("schema/rights.sql"),
];

/// What the tables are made with.
#[derive(Clone)]
pub struct InitOptions {
    producer: String,
    entropy: Arc<dyn Entropy>,
}

impl InitOptions {
    /// Tables for the events of `producer`: the CloudEvents `source`, a URI reference as `/orders`.
    pub fn new(producer: impl Into<String>) -> Self {
        Self { producer: producer.into(), entropy: Arc::new(System) }
    }

    /// Takes the store's id from `entropy` rather than from the machine.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }
}

/// The one row of `outbox.meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The version of the table layout.
    pub layout: i32,
    /// Given when the tables were made; a copy of the database has the same.
    pub store_id: String,
    /// The CloudEvents `source` of the database's events.
    pub producer: String,
    /// Rises when history went backwards.
    pub incarnation: u32,
    /// The largest payload that the registered routes take, in bytes.
    pub max_event_bytes: u64,
    /// Whether every write tells `LISTEN outbox`.
    pub notify: bool,
    /// The bookkeeping that reads this database, once one has claimed it.
    pub bookkeeping: Option<String>,
    /// The lease's epoch of the latest claim.
    pub claim_epoch: u64,
    /// The nonce of the latest claim.
    pub claim_nonce: Option<String>,
}

/// The SQL, for a team that makes its tables by its own migrations: to be run in one transaction, by the role that is to
/// own the schema. It gives the database no identity: [`init`] does, afterwards.
pub fn sql() -> String {
    PARTS.join("\n")
}

/// Makes the schema and gives the database its identity, or brings an older one up to date; where all is there, it puts
/// the functions in place anew and does nothing else. In one transaction, without holding up who writes meanwhile. The
/// role of `client` becomes the schema's owner; [`Grants`] are what writers and relays need.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the producer is no URI reference, or the database belongs to another producer;
/// [`ErrorKind::Incompatible`] if it has a newer layout, is not in UTF-8, or its server is older than PostgreSQL 15;
/// [`ErrorKind::NotPermitted`] if the role may not make a schema, or the server takes no writes; otherwise as the server
/// says.
pub async fn init(client: &mut Client, options: &InitOptions) -> Result<Meta, StoreError> {
    check_uri_reference("producer", &options.producer)
        .map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))?;
    require_server(client).await?;
    let begin = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
    let transaction = begin.await.map_err(store_error("making the outbox schema"))?;
    // Two at once would each find nothing, and one of them fail. The numbers are Outbox's own, as in leaves.sql. That of the
    // leaves, which tables.sql takes, is waited for here already, where nobody is held up.
    transaction
        .batch_execute("SELECT pg_advisory_xact_lock(7310026, 2); SELECT pg_advisory_xact_lock(7310026, 1)")
        .await
        .map_err(store_error("waiting for another `outbox init`, or for a relay's work on the leaves"))?;
    if let Some(layout) = layout(&transaction).await? {
        known_layout(layout)?;
        // A change of this row changes functions, as what follows does. Writers do not touch the table.
        transaction
            .batch_execute("LOCK TABLE outbox.meta IN SHARE ROW EXCLUSIVE MODE")
            .await
            .map_err(store_error("locking `outbox.meta`"))?;
    }
    transaction.batch_execute(&sql()).await.map_err(store_error("making the outbox schema"))?;
    let id = outbox::CommitId(options.entropy.sixteen()).to_string();
    transaction
        .execute_typed(
            "INSERT INTO outbox.meta (one, layout, store_id, producer, incarnation, max_event_bytes) \
             VALUES (true, $1, $2, $3, 1, $4) ON CONFLICT DO NOTHING",
            &[
                (&LAYOUT, Type::INT4),
                (&id, Type::TEXT),
                (&options.producer, Type::TEXT),
                (&DEFAULT_MAX_EVENT_BYTES, Type::INT8),
            ],
        )
        .await
        .map_err(store_error("giving the database its identity"))?;
    let meta = read_meta(&transaction).await?;
    if meta.producer != options.producer {
        let message = format!(
            "this database holds the events of producer `{}`, not of `{}`: use that name, or another database",
            meta.producer, options.producer
        );
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    transaction
        .batch_execute("SELECT outbox.make_leaf() WHERE NOT EXISTS (SELECT FROM outbox.leaves)")
        .await
        .map_err(store_error("making the first leaf of the entries"))?;
    transaction.commit().await.map_err(|error| store_error("committing the outbox schema")(error).uncertain())?;
    Ok(meta)
}

/// Reads the database's identity, and makes sure that this version can work with its tables. Writes nothing.
///
/// # Errors
/// [`ErrorKind::Incompatible`] with the remedy: schema missing, a layout of another version, another text encoding than
/// UTF-8, too old a server; otherwise as the server says.
pub async fn check(client: &(impl GenericClient + Sync)) -> Result<Meta, StoreError> {
    require_server(client).await?;
    match layout(client).await? {
        None => {
            let message = "the outbox tables are missing from this database: run `outbox init`";
            Err(StoreError::new(ErrorKind::Incompatible, message))
        }
        Some(layout) => {
            known_layout(layout)?;
            read_meta(client).await
        }
    }
}

/// The layout of the tables; `None` if there are none, or none that has an identity.
async fn layout(client: &(impl GenericClient + Sync)) -> Result<Option<i32>, StoreError> {
    let tables: bool = client
        .query_typed_one("SELECT to_regclass('outbox.meta') IS NOT NULL", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(store_error("looking for the outbox tables"))?;
    if !tables {
        return Ok(None);
    }
    let row = client
        .query_typed_opt("SELECT layout FROM outbox.meta", &[])
        .await
        .map_err(store_error("reading the layout of the outbox tables"))?;
    row.map(|row| row.try_get(0)).transpose().map_err(store_error("reading the layout of the outbox tables"))
}

/// Layout 1 is the first: there is none to bring up to date yet.
pub(super) fn known_layout(layout: i32) -> Result<(), StoreError> {
    let message = match layout {
        LAYOUT => return Ok(()),
        newer if newer > LAYOUT => format!(
            "the outbox tables have layout {newer}, made by a newer version of Outbox; this one knows {LAYOUT}: upgrade this program"
        ),
        never => {
            format!("the outbox tables have layout {never}, which never existed: restore `outbox.meta` from a backup")
        }
    };
    Err(StoreError::new(ErrorKind::Incompatible, message))
}

async fn require_server(client: &(impl GenericClient + Sync)) -> Result<(), StoreError> {
    const ASKING: &str = "asking the server's version and encoding";
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')",
            &[],
        )
        .await
        .map_err(store_error(ASKING))?;
    let version: i32 = row.try_get(0).map_err(store_error(ASKING))?;
    let encoding: String = row.try_get(1).map_err(store_error(ASKING))?;
    if version < OLDEST_SERVER {
        let message =
            format!("this server is PostgreSQL {}, but Outbox needs 15 or later: upgrade it", version / 10_000);
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    // In another encoding the server would change some texts on their way in and out, or refuse them.
    if encoding != "UTF8" {
        let message = format!(
            "the database's text encoding is {encoding}, but events are in UTF-8: make a database with ENCODING 'UTF8', and load a dump into it"
        );
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    }
    Ok(())
}

async fn read_meta(client: &(impl GenericClient + Sync)) -> Result<Meta, StoreError> {
    let read = |row: tokio_postgres::Row| {
        Ok(Meta {
            layout: row.try_get(0)?,
            store_id: row.try_get(1)?,
            producer: row.try_get(2)?,
            incarnation: row.try_get::<_, i32>(3)?.unsigned_abs(),
            max_event_bytes: row.try_get::<_, i64>(4)?.unsigned_abs(),
            notify: row.try_get(5)?,
            bookkeeping: row.try_get(6)?,
            claim_epoch: row.try_get::<_, i64>(7)?.unsigned_abs(),
            claim_nonce: row.try_get(8)?,
        })
    };
    client
        .query_typed_one(
            "SELECT layout, store_id, producer, incarnation, max_event_bytes, notify, bookkeeping, claim_epoch, \
             claim_nonce FROM outbox.meta",
            &[],
        )
        .await
        .and_then(read)
        .map_err(store_error("reading `outbox.meta`"))
}

/// Adds `line` and its end to `text`.
fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{line};");
}
