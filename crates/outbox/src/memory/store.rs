//! A business store in memory: its data, its copies, and its handles.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{MemoryTransaction, lock};
use crate::{
    clock::{Clock, Entropy},
    entry::{CommitId, Content, Events, Position, Record, Undecodable},
    error::{ErrorKind, StoreError},
    event::{AttributeError, Event, Identity, Key, NewEvent, check_uri_reference, shown},
    place::{Place, Placing},
    route::RouteName,
    store::{Claim, Registration},
    writer::{Receipt, Settled, WriteError},
};

/// The only partition of a [`MemoryStore`].
pub const PARTITION: &str = "entries";

/// A business store in memory, with its writer, source and retention.
///
/// A clone is the same handle; [`reopen`](Self::reopen) gives the handle that another process would have. What one
/// handle claims decides what that handle may read.
#[derive(Clone)]
pub struct MemoryStore {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: Arc<Handle>,
}

/// What all handles see.
pub(super) struct Shared {
    pub(super) data: Mutex<Data>,
    /// Counts commits, for those who wait for one.
    pub(super) commits: AtomicU64,
    /// Told of each.
    pub(super) committed: Notify,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Shared {
    /// Wakes those who wait, in the order in which they came.
    pub(super) fn note_commit(&self) {
        self.commits.fetch_add(1, Ordering::AcqRel);
        self.committed.notify_waiters();
    }
}

/// What one handle remembers.
#[derive(Default)]
pub(super) struct Handle {
    pub(super) claim: Mutex<Option<Claim>>,
    /// The commits that [`Source::changed`](crate::Source::changed) has reported.
    pub(super) seen: Mutex<u64>,
}

/// A copy of a store's data, as a backup.
#[derive(Clone)]
pub struct Snapshot(Data);

#[derive(Clone)]
pub(super) struct Data {
    pub(super) id: String,
    pub(super) producer: Arc<str>,
    pub(super) incarnation: u32,
    pub(super) claim: Option<Claim>,
    /// The latest row's number; never goes back but by a restore.
    pub(super) last_row: u64,
    pub(super) entries: BTreeMap<u64, Stored>,
    /// The place of each key's latest event. Never purged.
    pub(super) heads: BTreeMap<Key, Place>,
    pub(super) routes: BTreeMap<RouteName, Registration>,
    /// Rises with each restore, so that a transaction begun before it cannot commit.
    pub(super) restores: u64,
}

/// An entry, with what it was made of, so that it can be moved to another incarnation.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) record: Arc<Record>,
    pub(super) key: Option<Key>,
    pub(super) written: Option<Arc<Written>>,
}

/// What one entry is made of.
pub(super) struct Written {
    pub(super) events: Vec<NewEvent>,
    /// The id of each event that has no key and was given none.
    pub(super) fallback_ids: Vec<String>,
    /// The place of the first event; `None` without a key.
    pub(super) first: Option<Place>,
    /// The place of the event before the first.
    pub(super) after: Place,
}

impl MemoryStore {
    /// An empty store whose events have the CloudEvents `source` `producer`.
    ///
    /// # Errors
    /// [`AttributeError`] if `producer` is not a URI reference.
    pub fn new(producer: &str, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, AttributeError> {
        check_uri_reference("source", producer)?;
        let data = Data {
            id: uuid::Builder::from_random_bytes(entropy.sixteen()).into_uuid().to_string(),
            producer: producer.into(),
            incarnation: 1,
            claim: None,
            last_row: 0,
            entries: BTreeMap::new(),
            heads: BTreeMap::new(),
            routes: BTreeMap::new(),
            restores: 0,
        };
        let shared =
            Shared { data: Mutex::new(data), commits: AtomicU64::new(0), committed: Notify::new(), clock, entropy };
        Ok(Self { shared: Arc::new(shared), handle: Arc::default() })
    }

    /// The same store as another process would open it.
    pub fn reopen(&self) -> Self {
        Self { shared: self.shared.clone(), handle: Arc::default() }
    }

    /// Begins a transaction. Dropped without [`commit`](MemoryTransaction::commit), it leaves nothing.
    pub fn transaction(&self) -> MemoryTransaction {
        MemoryTransaction::begin(self.shared.clone())
    }

    /// Writes `events` in a transaction of their own.
    ///
    /// # Errors
    /// [`WriteError`] as [`MemoryTransaction::write`] and [`MemoryTransaction::commit`] give it.
    pub fn write(&self, events: impl IntoIterator<Item = NewEvent>) -> Result<Vec<Receipt>, WriteError> {
        let mut transaction = self.transaction();
        let receipts = transaction.write(events)?;
        transaction.commit()?;
        Ok(receipts)
    }

    /// Adds a row that cannot be read as an entry, as a foreign writer might.
    pub fn write_undecodable(&self, key: Option<Key>, reason: &str, raw: impl Into<Bytes>) {
        let commit = CommitId(self.shared.entropy.sixteen());
        let recorded = self.shared.clock.wall();
        let mut data = lock(&self.shared.data);
        let id = format!("row/{}", data.last_row + 1).into();
        let row = Undecodable { id, key: key.clone(), reason: reason.to_owned(), raw: raw.into() };
        data.append(commit, recorded, Content::Undecodable(row), key, None);
        drop(data);
        self.shared.note_commit();
    }

    /// The key's latest sequence: what a caller expects who reads now. 0 if it has none.
    pub fn sequence(&self, key: &Key) -> u64 {
        lock(&self.shared.data).heads.get(key).map_or(0, |place| place.sequence)
    }

    /// How many entries are retained.
    pub fn len(&self) -> usize {
        lock(&self.shared.data).entries.len()
    }

    /// Whether no entry is retained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What became of a write whose commit was not answered.
    pub fn settle(&self, receipt: &Receipt) -> Settled {
        let data = lock(&self.shared.data);
        if data.entries.values().any(|entry| entry.record.commit == receipt.commit) {
            return Settled::Committed;
        }
        let (Some(key), Some(first)) = (&receipt.key, receipt.first) else {
            let purged = data.last_row > data.entries.len() as u64;
            return if purged { Settled::Unknown } else { Settled::NotCommitted };
        };
        let same_number = |entry: &Stored| {
            let place = entry.record.events().first().and_then(Event::placing).map(|placing| placing.place);
            entry.key.as_ref() == Some(key) && place.is_some_and(|place| place.sequence == first.sequence)
        };
        let taken = data.heads.get(key).is_some_and(|head| head.sequence >= first.sequence);
        if taken && !data.entries.values().any(same_number) { Settled::Unknown } else { Settled::NotCommitted }
    }

    /// A copy of everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(lock(&self.shared.data).clone())
    }

    /// Puts a copy in the store's place, as a restored backup does: entries, heads, routes and claim go back, and row
    /// numbers are given again.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut data = lock(&self.shared.data);
        let restores = data.restores + 1;
        *data = Data { restores, ..snapshot.0.clone() };
        drop(data);
        self.shared.note_commit();
    }
}

impl Data {
    /// Adds a row behind all others.
    pub(super) fn append(
        &mut self,
        commit: CommitId,
        recorded: jiff::Timestamp,
        content: Content,
        key: Option<Key>,
        written: Option<Arc<Written>>,
    ) {
        self.last_row += 1;
        let position = Cursor { row: self.last_row, commit: Some(commit) }.position();
        let record = Arc::new(Record { position, commit, recorded, content });
        self.entries.insert(self.last_row, Stored { record, key, written });
    }

    /// The position of the latest row that is still there, or the beginning.
    pub(super) fn end(&self) -> Position {
        self.entries.values().next_back().map_or_else(Cursor::beginning, |entry| entry.record.position.clone())
    }

    /// Reads `position`, and refuses one that this history does not have. The row at a position outlives every purge
    /// as long as a route stands there, so its absence proves another history.
    pub(super) fn cursor(&self, position: &Position) -> Result<Cursor, StoreError> {
        let cursor = Cursor::parse(position).ok_or_else(|| {
            StoreError::new(
                ErrorKind::Invalid,
                format!("`{}` is not a position of this store", shown(position.as_str())),
            )
        })?;
        let found = self.entries.get(&cursor.row).map(|entry| entry.record.commit);
        if cursor.row > 0 && (found.is_none() || found != cursor.commit) {
            return Err(StoreError::new(
                ErrorKind::HistoryChanged,
                format!("the store has no entry at {position}: it went back to an older copy; run `outbox adopt`"),
            ));
        }
        Ok(cursor)
    }
}

impl Written {
    /// The events as they are published.
    pub(super) fn events(&self, producer: &Arc<str>, recorded: jiff::Timestamp) -> Result<Events, WriteError> {
        let count = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let made = self.events.iter().zip(&self.fallback_ids).zip(0_u32..).map(|((new, fallback_id), index)| {
            let placing = self.first.map(|first| Placing {
                place: Place { index, ..first },
                count,
                after: if index == 0 { self.after } else { Place { index: index - 1, ..first } },
            });
            let identity = Identity { source: producer, placing, recorded: Some(recorded), fallback_id };
            Event::from_new(new.clone(), identity)
                .map_err(|error| WriteError::Attribute { index: index as usize, error })
        });
        made.collect()
    }

    /// The place of the last event.
    pub(super) fn last(&self) -> Option<Place> {
        let index = u32::try_from(self.events.len()).unwrap_or(u32::MAX).saturating_sub(1);
        self.first.map(|first| Place { index, ..first })
    }
}

/// A row and whose commit it was, so that a position of another history with the same numbers is seen to be foreign.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    pub(super) row: u64,
    pub(super) commit: Option<CommitId>,
}

impl Cursor {
    /// Before the first row.
    pub(super) fn beginning() -> Position {
        Self { row: 0, commit: None }.position()
    }

    /// As text: `42:` and the commit in hexadecimal, or `0`.
    fn position(self) -> Position {
        Position::new(self.commit.map_or_else(|| self.row.to_string(), |commit| format!("{}:{commit}", self.row)))
    }

    /// That of a witness, which may have been read from a stream of this store: its positions begin with ours.
    pub(super) fn of_witness(position: &Position) -> Option<Self> {
        let ours = position.as_str().split_once('@').map(|(ours, _)| Position::new(ours));
        Self::parse(ours.as_ref().unwrap_or(position))
    }

    /// Reads back what [`position`](Self::position) wrote.
    pub(super) fn parse(position: &Position) -> Option<Self> {
        let Some((row, commit)) = position.as_str().split_once(':') else {
            return (position.as_str() == "0").then_some(Self { row: 0, commit: None });
        };
        if commit.len() != 32 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let commit = CommitId(u128::from_str_radix(commit, 16).ok()?.to_be_bytes());
        Some(Self { row: row.parse().ok()?, commit: Some(commit) })
    }
}
