//! Reading rows that are in the server's log alone.
//!
//! A table without a growing id cannot be polled, and one whose rows are deleted by the transaction that writes them has
//! nothing to be polled: what counts is that a row was inserted and its transaction committed, which the log tells. So there
//! is nothing that what the log does not give could be read from. Everything here follows from that:
//!
//! - A slot keeps the log from the place on that every route has stored: it is moved on behind the checkpoints, never ahead
//!   of them, and read by nobody. Whoever reads, reads by a copy of it, which is gone with its connection: routes that stand
//!   at different places have a copy each.
//! - A route that is paused, or whose sink is down, keeps the log. That is said, not ended: there is no cap.
//! - Whatever could leave something out stops the relay: a slot that was dropped, invalidated or moved on by others; a
//!   publication that was changed; a log that is not the one that was read before. `outbox adopt` goes on from what there is.
//! - The row that was read last is read again where a stream begins, and has to be there: an older copy of the database is
//!   noticed by that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use outbox::{ErrorKind, StoreError};
use tokio::sync::{Mutex, watch};

use super::{
    WalSettings, check_slot_name, look::Beside, publication, replication::Replication, rows::Layout, standby, unread,
};
use crate::postgres::{
    PostgresStore, StoreOptions,
    connection::{ConnectOptions, Connection, connect},
    mapping::Mapping,
};

mod anchor;
mod buffer;
mod place;
mod reading;
mod source;
mod store;
mod stream;

use stream::Stream;

/// The longest name of a slot: those of its copies have a process behind it.
const LONGEST_SLOT: usize = 52;

/// The service's database with a mapped table that is read in the server's log alone: a [`Source`](outbox::Source) of its
/// rows, and a [`BusinessStore`](outbox::BusinessStore). Cheap to clone.
///
/// Nothing is made before the first route is registered: then the slot is, and what commits from there on is read. Routes
/// begin there or now, no history is replayed, and the table's rows are their owner's.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Alone>,
}

struct Alone {
    /// Outbox's own tables in the same database.
    store: PostgresStore,
    connection: Connection,
    beside: Beside,
    options: ConnectOptions,
    slot: String,
    layout: Layout,
    /// The table's name in a statement.
    table: String,
    settings: WalSettings,
    streams: Mutex<Vec<Arc<Stream>>>,
    /// Rises when there is something new to be read.
    news: watch::Sender<u64>,
    /// Up to where somebody was told of it.
    told: AtomicU64,
    /// Whether it was said that much log is held.
    is_much: AtomicBool,
}

impl LogStore {
    /// Opens the database, and checks that the table of `mapping`, which names no id, can be read in the log. `options` must
    /// lead to the server itself, not to a pooler.
    ///
    /// # Errors
    /// As [`PostgresStore::open`] and [`WalSource::open`](super::WalSource::open).
    pub async fn open(options: ConnectOptions, mapping: Mapping, settings: WalSettings) -> Result<Self, StoreError> {
        let mapping = mapping.without_id();
        let store = PostgresStore::open(options.clone(), StoreOptions::default()).await?;
        let (layout, table, slot) = {
            let client = connect(&options).await?;
            let meta = crate::postgres::schema::check(&client).await?;
            let table = mapping.in_log(&client).await?;
            table.check_alone(&client).await?;
            let name = table.sql();
            let layout = Layout::Mapped(Arc::new(table));
            publication::check(&client, &settings.publication, &layout.target()).await?;
            let slot = settings.slot.clone().unwrap_or_else(|| unread::own_slot(&meta.store_id));
            (layout, name, slot)
        };
        check_slot_name(&slot)?;
        if slot.len() > LONGEST_SLOT {
            let message =
                format!("the replication slot's name `{slot}` is too long: use {LONGEST_SLOT} characters at most");
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        // Whether we may replicate is known only once we try to.
        drop(Replication::connect(&options).await?);
        let beside = Beside::new(Connection::new(options.clone()), settings.publication.clone());
        standby::refuse(&beside.look().await?.standbys, &options).await?;
        let inner = Alone {
            store,
            connection: Connection::new(options.clone()),
            beside,
            options,
            slot,
            layout,
            table,
            settings,
            streams: Mutex::default(),
            news: watch::Sender::new(0),
            told: AtomicU64::new(0),
            is_much: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}
