//! A service that commits events, and the memory of what it committed: the witness against which everything is held.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use outbox::{NewEvent, Place};
use outbox_sql::sqlite;
use rusqlite::Connection;

use super::rig::Rig;

/// Keys among which events flow.
const KEYS: usize = 8;

/// What an event carries: its id, as JSON.
pub(super) fn payload(id: &str) -> Vec<u8> {
    format!("\"{id}\"").into_bytes()
}

/// What was committed, and what was not.
#[derive(Debug)]
pub(super) struct Ledger {
    connection: Connection,
    rng: Rng,
    number: u64,
    /// Ids in the order of their commits, by key; each event without a key by itself.
    committed: BTreeMap<String, Vec<String>>,
    /// Where each of them stands within its key, if it has one.
    places: BTreeMap<String, Place>,
    count: usize,
    rolled_back: BTreeSet<String>,
    discarded: BTreeSet<String>,
}

impl Ledger {
    /// Of a service that writes to the database of `rig`.
    pub(super) fn new(rig: &Rig, seed: u64) -> Self {
        Self {
            connection: rig.database(),
            rng: Rng::with_seed(seed),
            number: 0,
            committed: BTreeMap::new(),
            places: BTreeMap::new(),
            count: 0,
            rolled_back: BTreeSet::new(),
            discarded: BTreeSet::new(),
        }
    }

    /// The service opens its database anew: another file is in its place.
    pub(super) fn reopen(&mut self, rig: &Rig) {
        self.connection = rig.database();
    }

    /// How many events are committed.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// What was committed, by key; each event without a key by itself.
    pub(super) fn committed(&self) -> &BTreeMap<String, Vec<String>> {
        &self.committed
    }

    /// The places of those with a key, by id, as the writer was told them.
    pub(super) fn places(&self) -> &BTreeMap<String, Place> {
        &self.places
    }

    /// Ids of events that never came to be.
    pub(super) fn rolled_back(&self) -> &BTreeSet<String> {
        &self.rolled_back
    }

    /// Ids of events in whose place a marker goes out.
    pub(super) fn discarded(&self) -> &BTreeSet<String> {
        &self.discarded
    }

    /// Notes that an operator has discarded it.
    pub(super) fn discard(&mut self, id: String) {
        self.discarded.insert(id);
    }

    /// Commits `count` events of `key` in one entry, and gives their ids.
    pub(super) fn commit(&mut self, key: Option<&str>, count: usize) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|_| self.next_id()).collect();
        self.write(&ids.iter().map(|id| (key.map(str::to_owned), id.clone())).collect::<Vec<_>>(), true);
        ids
    }

    /// One transaction of a service at work: of one key or two, of one event or several, or rolled back.
    pub(super) fn flow(&mut self) {
        let mut events = Vec::new();
        let keys = if self.rng.u8(..5) == 0 { 2 } else { 1 };
        for _ in 0..keys {
            let key = (self.rng.u8(..8) > 0).then(|| format!("key/{}", self.rng.usize(..KEYS)));
            let count = if key.is_some() && self.rng.u8(..4) == 0 { 3 } else { 1 };
            events.extend((0..count).map(|_| (key.clone(), self.next_id())));
        }
        let commits = self.rng.u8(..7) > 0;
        self.write(&events, commits);
    }

    fn next_id(&mut self) -> String {
        self.number += 1;
        format!("event-{}", self.number)
    }

    fn write(&mut self, events: &[(Option<String>, String)], commits: bool) {
        let transaction = self.connection.transaction().unwrap();
        let new = events.iter().map(|(key, id)| {
            let builder = NewEvent::builder("order.placed").id(id).json(id);
            let builder = if let Some(key) = key { builder.key(key) } else { builder };
            builder.build().unwrap()
        });
        let receipts = sqlite::write(&transaction, new.collect::<Vec<_>>()).unwrap();
        if !commits {
            transaction.rollback().unwrap();
            self.rolled_back.extend(events.iter().map(|(_, id)| id.clone()));
            return;
        }
        transaction.commit().unwrap();
        self.count += events.len();
        for receipt in receipts {
            let Some((key, first)) = receipt.key.zip(receipt.first) else { continue };
            let of_key = events.iter().filter(|(of, _)| of.as_deref() == Some(key.as_str()));
            for ((_, id), index) in of_key.zip(first.index..) {
                self.places.insert(id.clone(), Place { index, ..first });
            }
        }
        for (key, id) in events {
            let lane = key.clone().unwrap_or_else(|| format!("without a key: {id}"));
            self.committed.entry(lane).or_default().push(id.clone());
        }
    }
}
