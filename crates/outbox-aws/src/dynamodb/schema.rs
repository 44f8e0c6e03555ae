//! The tables: made, given their identity, checked.
//!
//! `docs/dynamodb.md` is the layout's public description.

use std::{fmt, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{Client, types::StreamViewType};
use outbox::{Clock, CommitId, Entropy, ErrorKind, StoreError, System, event::check_uri_reference};

use super::{
    calls::{Calls, attempted, names},
    item::{self, Item, number, number_of, text, text_of},
    mapping::Mapping,
    position::EntryName,
};

mod mapped;
mod table;

use table::{Shape, Table};

pub(super) use table::PATIENCE;

/// The layout that this version makes and works with.
pub const LAYOUT: u32 = 1;
/// How long an entry is kept unless said otherwise: 30 days.
pub const DEFAULT_RETENTION: Duration = Duration::from_hours(30 * 24);
/// The largest event before any route is registered: what an item takes.
pub const DEFAULT_MAX_EVENT_BYTES: u64 = item::MAX_ITEM_BYTES as u64;

/// How long looking at a table is tried again.
const CHECKING: Duration = Duration::from_secs(10);

/// The item of the table of heads that says whose tables these are.
pub(super) const STORE: &str = "store";

/// The names of a service's two tables.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tables {
    pub(super) entries: Arc<str>,
    pub(super) heads: Arc<str>,
    /// How the entries are laid out, if not as Outbox does it.
    pub(super) mapping: Option<Arc<Mapping>>,
}

impl Tables {
    /// `PREFIX-entries` and `PREFIX-heads`.
    pub fn with_prefix(prefix: &str) -> Self {
        Self { entries: format!("{prefix}-entries").into(), heads: format!("{prefix}-heads").into(), mapping: None }
    }

    /// The table of `mapping` in place of entries, and beside it `PREFIX-heads`: of heads it has none, but the item `store`.
    /// Such tables can be read, and not be written by a [`Writer`](super::Writer).
    pub fn mapped(prefix: &str, mapping: Mapping) -> Self {
        let entries = mapping.table().into();
        Self { entries, heads: format!("{prefix}-heads").into(), mapping: Some(Arc::new(mapping)) }
    }

    /// Tables of these names.
    pub fn named(entries: &str, heads: &str) -> Self {
        Self { entries: entries.into(), heads: heads.into(), mapping: None }
    }

    /// How the entries are laid out, if not as Outbox does it.
    pub fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_deref()
    }

    /// The name of an item of the table of entries, or of its primary key, if that can be read.
    pub(super) fn name(&self, item: &Item) -> Option<EntryName> {
        self.mapping().map_or_else(|| EntryName::of(item), |mapping| mapping.name(item))
    }

    /// The primary key of the entry with this name.
    pub(super) fn primary_key(&self, name: &EntryName) -> Item {
        self.mapping().map_or_else(|| name.primary_key(), |mapping| mapping.primary_key(name))
    }

    /// The table of entries.
    pub fn entries(&self) -> &str {
        &self.entries
    }

    /// The table of heads.
    pub fn heads(&self) -> &str {
        &self.heads
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.entries, self.heads)
    }
}

/// What the tables are made with.
#[derive(Clone)]
pub struct InitOptions {
    producer: String,
    retention: Duration,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl InitOptions {
    /// Tables for the events of `producer`: the CloudEvents `source`, a URI reference as `/carts`.
    pub fn new(producer: impl Into<String>) -> Self {
        Self {
            producer: producer.into(),
            retention: DEFAULT_RETENTION,
            clock: Arc::new(System),
            entropy: Arc::new(System),
        }
    }

    /// How long after its commit an entry expires; a day at least. Far longer than any outage one plans for: what has
    /// expired before it was published is lost.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Takes the store's id from `entropy`, and the time of waiting from `clock`, rather than from the machine.
    pub fn injected(mut self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        self.clock = clock;
        self.entropy = entropy;
        self
    }
}

/// Whose tables these are: the item `store` of the table of heads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The version of the layout.
    pub layout: u32,
    /// Given when the tables were made; a copy has the same.
    pub store_id: String,
    /// The CloudEvents `source` of the events.
    pub producer: String,
    /// Rises when history went backwards.
    pub incarnation: u32,
    /// The largest event that the registered routes take, in bytes.
    pub max_event_bytes: u64,
    /// How long after its commit an entry expires.
    pub retention: Duration,
}

/// Makes the tables, and gives them their identity; does nothing where all is there. Entries get a stream of new images,
/// and expire by the attribute `expires_at`.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the producer is no URI reference, the retention is shorter than a day, or the tables belong to
/// another producer; [`ErrorKind::Incompatible`] if a table of that name has another key, stream or attribute of expiry;
/// otherwise as DynamoDB says.
pub async fn init(client: &Client, tables: &Tables, options: &InitOptions) -> Result<Identity, StoreError> {
    check_uri_reference("producer", &options.producer)
        .map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))?;
    if options.retention < Duration::from_hours(24) {
        let message = "retention is shorter than a day: events would expire while a relay is down for a night";
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    let calls = Calls::new(client, options.clock.clone(), options.entropy.clone(), PATIENCE);
    for (name, shape) in shapes(tables) {
        Table { calls: &calls, name }.make(&shape).await?;
    }
    check_mapped(&calls, tables).await?;
    let identity = give_identity(&calls, tables, options).await?;
    if identity.producer != options.producer {
        let message = format!(
            "the tables {tables:?} hold the events of producer `{}`, not of `{}`: use that name, or other tables",
            identity.producer, options.producer
        );
        return Err(StoreError::new(ErrorKind::Invalid, message));
    }
    Ok(identity)
}

/// Makes sure that the tables are there, and as this version needs them: keys, the stream and its view, the attribute of
/// expiry. Writes nothing.
///
/// # Errors
/// [`ErrorKind::Incompatible`] with the remedy; otherwise as DynamoDB says.
pub async fn check(client: &Client, tables: &Tables) -> Result<Identity, StoreError> {
    let calls = Calls::new(client, Arc::new(System), Arc::new(System), CHECKING);
    for (name, shape) in shapes(tables) {
        Table { calls: &calls, name }.check(&shape).await?;
    }
    check_mapped(&calls, tables).await?;
    identity(&calls, tables).await
}

/// Makes sure that a table that others lay out is as the mapping says.
pub(super) async fn check_mapped(calls: &Calls, tables: &Tables) -> Result<(), StoreError> {
    let Some(mapping) = tables.mapping() else { return Ok(()) };
    mapping.check()?;
    Table { calls, name: &tables.entries }.check_mapped(mapping).await
}

/// The tables that are Outbox's own.
fn shapes(tables: &Tables) -> Vec<(&str, Shape)> {
    let entries = Shape {
        partition: "key",
        sort: Some(("sequence", table::NUMBER)),
        stream: Some(StreamViewType::NewImage),
        expiry: Some("expires_at"),
    };
    let heads = Shape { partition: "id", sort: None, stream: None, expiry: None };
    let entries = tables.mapping.is_none().then_some((&*tables.entries, entries));
    entries.into_iter().chain([(&*tables.heads, heads)]).collect()
}

/// The table of a bookkeeping.
pub(super) async fn make_bookkeeping(calls: &Calls, name: &str) -> Result<(), StoreError> {
    Table { calls, name }.make(&BOOKS).await
}

/// The table of inboxes.
pub(super) async fn make_inboxes(calls: &Calls, name: &str) -> Result<(), StoreError> {
    Table { calls, name }.make(&INBOXES).await
}

const INBOXES: Shape =
    Shape { partition: "id", sort: Some(("part", table::TEXT)), stream: None, expiry: Some("expires_at") };

const BOOKS: Shape = Shape { partition: "kind", sort: Some(("name", table::TEXT)), stream: None, expiry: None };

async fn give_identity(calls: &Calls, tables: &Tables, options: &InitOptions) -> Result<Identity, StoreError> {
    let put = item::item([
        ("id", text(STORE)),
        ("layout", number(LAYOUT)),
        ("store_id", text(CommitId(options.entropy.sixteen()).to_string())),
        ("producer", text(&options.producer)),
        ("incarnation", number(1)),
        ("max_event_bytes", number(DEFAULT_MAX_EVENT_BYTES)),
        ("retention_seconds", number(options.retention.as_secs())),
    ]);
    let attempt = || {
        let put = calls.client().put_item().table_name(&*tables.heads).set_item(Some(put.clone()));
        put.condition_expression("attribute_not_exists(#id)").set_expression_attribute_names(Some(names(["id"]))).send()
    };
    match calls.call(attempt).await {
        Ok(_) => {}
        // Somebody gave it before, or the answer to our own was lost.
        Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => {}
        Err(failure) => return Err(failure.store_error("giving the tables their identity")),
    }
    identity(calls, tables).await
}

/// Reads the identity.
///
/// # Errors
/// [`ErrorKind::Incompatible`] if there is none, or of another layout.
pub(super) async fn identity(calls: &Calls, tables: &Tables) -> Result<Identity, StoreError> {
    const READING: &str = "reading whose tables these are";
    let found = calls.get(&tables.heads, store_key()).await.map_err(attempted(READING))?;
    identity_in(found.as_ref(), tables)
}

/// The identity in the item `store`, as it was found.
///
/// # Errors
/// As [`identity`].
pub(super) fn identity_in(found: Option<&Item>, tables: &Tables) -> Result<Identity, StoreError> {
    let Some(found) = found else {
        let message = format!("the tables {tables:?} have no identity: run `outbox init`");
        return Err(StoreError::new(ErrorKind::Incompatible, message));
    };
    read_identity(found).map_err(|what| {
        let message = format!("{what} of the item `{STORE}` in table `{}` {}", tables.heads, remedy(what));
        StoreError::new(ErrorKind::Incompatible, message)
    })
}

pub(super) fn store_key() -> Item {
    item::item([("id", text(STORE))])
}

fn remedy(what: &str) -> String {
    if what == "layout" {
        format!("is not {LAYOUT}: use the version of Outbox that made the tables, or a newer one")
    } else {
        "cannot be read: restore it from a backup".to_owned()
    }
}

/// The identity in the item, or which attribute is wrong.
pub(super) fn read_identity(found: &Item) -> Result<Identity, &'static str> {
    let layout = number_of(found, "layout").filter(|layout| *layout == LAYOUT).ok_or("layout")?;
    Ok(Identity {
        layout,
        store_id: text_of(found, "store_id").ok_or("store_id")?.to_owned(),
        producer: text_of(found, "producer").ok_or("producer")?.to_owned(),
        incarnation: number_of(found, "incarnation").filter(|number| *number > 0).ok_or("incarnation")?,
        max_event_bytes: number_of(found, "max_event_bytes").ok_or("max_event_bytes")?,
        retention: number_of(found, "retention_seconds").map(Duration::from_secs).ok_or("retention_seconds")?,
    })
}
