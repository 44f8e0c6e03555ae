//! Entries of the table past all streams: single ones by their names, and all that lie behind one.

use std::collections::{HashMap, VecDeque};

use aws_sdk_dynamodb::types::KeysAndAttributes;
use jiff::Timestamp;
use outbox::{ErrorKind, StoreError};

use super::{Inner, routes::unbuilt};
use crate::dynamodb::{
    calls::{attempted, names},
    failure::Failure,
    item::{Item, bytes_of, number_of, text_of},
    mapping::Mapping,
    position::EntryName,
    schema::Tables,
};

/// So many items one call gives at most.
///
/// Rule: `BatchGetItem` of the API reference.
const AT_ONCE: usize = 100;

/// An entry as far as histories are compared by it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) commit: Option<[u8; 16]>,
    pub(super) recorded: Option<i64>,
}

impl Found {
    fn of(tables: &Tables, name: &EntryName, item: &Item) -> Self {
        if tables.mapping().is_some() {
            return Self { commit: Some(Mapping::commit(name).0), recorded: None };
        }
        let commit = bytes_of(item, "commit_id").and_then(|id| id.try_into().ok());
        Self { commit, recorded: number_of(item, "recorded_at") }
    }
}

/// Behind which entry of the table something lies.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    key: String,
    /// 0 for an event without a key, and for what is no entry.
    sequence: u64,
    /// When it was recorded, in milliseconds since 1970.
    recorded: i64,
}

impl Behind {
    pub(super) fn of(name: &EntryName, found: &Found) -> Self {
        // One that does not say when it was recorded is behind nothing: too much is better than too little.
        let sequence = name.sequence.parse().unwrap_or(0);
        Self { key: name.key.clone(), sequence, recorded: found.recorded.unwrap_or(i64::MIN) }
    }

    /// Whether this entry lies behind: of the same key by its number, of others by the time at which it was recorded.
    fn is_before(&self, item: &Item) -> bool {
        if text_of(item, "key") == Some(&self.key) && self.sequence > 0 {
            return number_of(item, "sequence").is_none_or(|sequence: u64| sequence > self.sequence);
        }
        let is_itself = text_of(item, "key") == Some(&self.key);
        !is_itself && number_of(item, "recorded_at").is_none_or(|recorded: i64| recorded > self.recorded)
    }
}

impl Inner {
    /// The entries with these names, those that are there.
    pub(super) async fn found(
        &self,
        wanted: &[EntryName],
        what: &'static str,
    ) -> Result<HashMap<(String, String), Found>, StoreError> {
        let mut found = HashMap::new();
        let mut unique: Vec<_> = wanted.iter().map(|name| (&name.key, &name.sequence)).collect();
        unique.sort_unstable();
        unique.dedup();
        for some in unique.chunks(AT_ONCE) {
            let keys = some.iter().map(|(key, sequence)| {
                let name = EntryName { key: (*key).clone(), sequence: (*sequence).clone(), expires: None };
                self.tables.primary_key(&name)
            });
            let mut left: Vec<Item> = keys.collect();
            let mut pauses = self.calls.pauses();
            while !left.is_empty() {
                let before = left.len();
                let (items, unread) = self.batch(left, what).await?;
                for item in &items {
                    if let Some(name) = self.tables.name(item) {
                        let one = Found::of(&self.tables, &name, item);
                        found.insert((name.key, name.sequence), one);
                    }
                }
                left = unread;
                // A throttled call gives a part of what was asked for, or nothing.
                if left.len() == before && !pauses.wait(&*self.calls.clock).await {
                    let message = format!("{what}: DynamoDB is throttled: give the table more capacity");
                    return Err(StoreError::new(ErrorKind::Unavailable, message));
                }
            }
        }
        Ok(found)
    }

    /// One call: items, and the keys of those that were not read.
    async fn batch(&self, keys: Vec<Item>, what: &'static str) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
        let table = self.tables.entries();
        let asked = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
        let asked = match self.tables.mapping() {
            // Its attributes may be called anything.
            Some(_) => asked,
            None => asked
                .projection_expression("#key, #sequence, #commit_id, #recorded_at")
                .set_expression_attribute_names(Some(names(["key", "sequence", "commit_id", "recorded_at"]))),
        };
        let asked = asked.build().map_err(|error| unbuilt(what, &error))?;
        let attempt = || self.calls.client().batch_get_item().request_items(table, asked.clone()).send();
        let output = self.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(what))?;
        let items = output.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default();
        let unread = output.unprocessed_keys.and_then(|mut tables| tables.remove(table));
        Ok((items, unread.map(|unread| unread.keys).unwrap_or_default()))
    }

    /// Every entry behind `behind`, or every one, key by key. Reads the whole table.
    pub(super) fn entries_behind<'a>(&'a self, behind: Option<&'a Behind>, what: &'static str) -> EntriesBehind<'a> {
        EntriesBehind { store: self, behind, what, read: VecDeque::new(), start: None, is_read: false }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Timestamp {
        self.calls.clock.wall()
    }
}

/// Entries behind one, read page by page.
pub(super) struct EntriesBehind<'a> {
    store: &'a Inner,
    behind: Option<&'a Behind>,
    what: &'static str,
    read: VecDeque<Item>,
    start: Option<Item>,
    is_read: bool,
}

impl EntriesBehind<'_> {
    /// Those of the next key that has some, in their order; none at the end.
    pub(super) async fn next_key(&mut self) -> Result<Vec<Item>, StoreError> {
        let mut of_key = Vec::<Item>::new();
        loop {
            while let Some(item) = self.read.pop_front() {
                // What has no places goes alone: nothing of it is compared, or moved.
                let is_mapped = self.store.tables.mapping().is_some();
                if of_key.first().is_some_and(|first| is_mapped || text_of(first, "key") != text_of(&item, "key")) {
                    self.read.push_front(item);
                    return Ok(of_key);
                }
                // Of a key, all behind the first one that lies behind do, whatever clocks said.
                if !of_key.is_empty() || self.behind.is_none_or(|behind| behind.is_before(&item)) {
                    of_key.push(item);
                }
            }
            if self.is_read {
                return Ok(of_key);
            }
            self.read_page().await?;
        }
    }

    async fn read_page(&mut self) -> Result<(), StoreError> {
        const READ: [&str; 5] = ["key", "sequence", "recorded_at", "incarnation", "after"];
        let attempt = || {
            let scan = self.store.calls.client().scan().table_name(self.store.tables.entries()).consistent_read(true);
            let scan = scan.projection_expression("#key, #sequence, #recorded_at, #incarnation, #after");
            scan.set_expression_attribute_names(Some(names(READ))).set_exclusive_start_key(self.start.clone()).send()
        };
        let page = self.store.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(self.what))?;
        self.read.extend(page.items.unwrap_or_default());
        self.start = page.last_evaluated_key;
        self.is_read = self.start.is_none();
        Ok(())
    }
}
