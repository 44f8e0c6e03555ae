//! The shards of a stream: what each holds, and what becomes of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use super::{StreamSettings, invalid, position::InShard};
use crate::{
    entry::{CommitId, Record},
    error::StoreError,
    memory::store::{Data, Stored},
    source::{Partition, PartitionId},
};

mod reading;

/// A record of a shard.
struct Item {
    sequence: u64,
    row: u64,
    record: Arc<Record>,
}

impl Item {
    fn recorded(&self) -> i64 {
        self.record.recorded.as_millisecond()
    }
}

/// What is forgotten of a shard, by its latest.
#[derive(Clone, Copy)]
struct Forgotten {
    sequence: u64,
    row: u64,
    recorded: i64,
}

impl Forgotten {
    const NOTHING: Self = Self { sequence: 0, row: 0, recorded: i64::MIN };

    fn and(self, other: Self) -> Self {
        Self {
            sequence: self.sequence.max(other.sequence),
            row: self.row.max(other.row),
            recorded: self.recorded.max(other.recorded),
        }
    }
}

/// A shard, or what is known of one that is gone.
pub(super) struct Shard {
    number: u64,
    parents: Vec<u64>,
    /// The hashes of the keys that it takes, both ends included.
    ranges: Vec<(u64, u64)>,
    opened: i64,
    /// The time, and the latest record of the stream, when it was closed.
    closed: Option<(i64, u64)>,
    gone: bool,
    items: VecDeque<Item>,
    forgotten: Forgotten,
}

impl Shard {
    pub(super) fn id(&self) -> PartitionId {
        id_of(self.number)
    }

    fn takes(&self, hash: u64) -> bool {
        self.closed.is_none() && self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&hash))
    }
}

fn id_of(number: u64) -> PartitionId {
    PartitionId::new(format!("shard-{number:06}"))
}

/// All of them, and what they were made of.
pub(super) struct Shards {
    all: BTreeMap<u64, Shard>,
    settings: StreamSettings,
    sequence: u64,
    recoveries: u64,
    /// The commit of each row that came to the stream.
    seen: BTreeMap<u64, CommitId>,
    /// Rows up to this one are older than the stream, or in it.
    row: u64,
    restores: u64,
    /// Commits that were taken back when the store was put back to an older copy.
    lost: BTreeSet<CommitId>,
}

impl Shards {
    pub(super) fn new(data: &Data, settings: &StreamSettings, wall: Timestamp) -> Self {
        let count = u64::from(settings.shards.max(1));
        let width = u64::MAX / count;
        let before = data.entries.values().map(|entry| entry.record.recorded.as_millisecond()).max();
        let forgotten =
            before.map_or(Forgotten::NOTHING, |recorded| Forgotten { sequence: 0, row: data.last_row, recorded });
        let shard = |number: u64| Shard {
            number,
            parents: Vec::new(),
            ranges: vec![(
                (number - 1) * width + u64::from(number > 1),
                if number == count { u64::MAX } else { number * width },
            )],
            opened: wall.as_millisecond(),
            closed: None,
            gone: false,
            items: VecDeque::new(),
            forgotten,
        };
        Self {
            all: (1..=count).map(|number| (number, shard(number))).collect(),
            settings: *settings,
            sequence: 0,
            recoveries: 0,
            seen: BTreeMap::new(),
            row: data.last_row,
            restores: data.restores,
            lost: BTreeSet::new(),
        }
    }

    /// Takes in what was committed since.
    pub(super) fn catch_up(&mut self, data: &Data) {
        if data.restores != self.restores {
            self.go_back(data);
        }
        let mut new = BTreeMap::<u64, Vec<(u64, &Stored)>>::new();
        for (row, entry) in data.entries.range(self.row + 1..) {
            let name = entry.key.as_ref().map_or_else(|| format!("row/{row}"), |key| key.as_str().to_owned());
            new.entry(self.taker(&name)).or_default().push((*row, entry));
            self.seen.insert(*row, entry.record.commit);
        }
        self.row = self.row.max(data.last_row);
        let same_key = |one: &(u64, &Stored), other: &(u64, &Stored)| one.1.key.is_some() && one.1.key == other.1.key;
        for (number, records) in new {
            for (row, entry) in self.settings.habits.arrange(records, |(row, _)| *row, same_key) {
                self.append(number, row, entry);
            }
        }
    }

    fn append(&mut self, number: u64, row: u64, entry: &Stored) {
        self.sequence += 1;
        let Some(shard) = self.all.get_mut(&number) else { return };
        let record = &entry.record;
        let cursor = InShard {
            shard: number,
            sequence: self.sequence,
            past_empty: false,
            recorded: record.recorded.as_millisecond(),
            skip: None,
            row: record.position.as_str().to_owned(),
        };
        let record = Arc::new(Record { position: cursor.position(), ..(**record).clone() });
        shard.items.push_back(Item { sequence: self.sequence, row, record });
    }

    /// The store was put back to an older copy: what is not in it never was.
    fn go_back(&mut self, data: &Data) {
        self.restores = data.restores;
        let stays = |row: &u64, commit: &CommitId| data.entries.get(row).is_some_and(|e| e.record.commit == *commit);
        self.row = self.seen.iter().rfind(|(row, commit)| stays(row, commit)).map_or(0, |(row, _)| *row);
        let last = self.row;
        self.lost.extend(self.seen.iter().filter(|(row, _)| **row > last).map(|(_, commit)| *commit));
        self.seen.retain(|row, _| *row <= last);
        for shard in self.all.values_mut() {
            shard.items.retain(|item| item.row <= last);
        }
    }

    /// The open shard that takes this key: the open ones' ranges cover every hash.
    fn taker(&self, key: &str) -> u64 {
        let hash = hash(key);
        self.open().find(|shard| shard.takes(hash)).map_or(0, |shard| shard.number)
    }

    /// Its name.
    pub(super) fn shard_of(&self, key: &str) -> PartitionId {
        id_of(self.taker(key))
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Shard> {
        self.all.values().filter(|shard| shard.closed.is_none())
    }

    pub(super) fn latest(&self) -> u64 {
        self.sequence
    }

    pub(super) fn next_recovery(&mut self) -> u64 {
        self.recoveries += 1;
        self.recoveries
    }

    pub(super) fn listed(&self) -> Vec<Partition> {
        let listed = self.all.values().filter(|shard| !shard.gone);
        let parents = |shard: &Shard| shard.parents.iter().map(|parent| id_of(*parent)).collect();
        listed.map(|shard| Partition { id: shard.id(), parents: parents(shard) }).collect()
    }

    pub(super) fn split(&mut self, shard: &PartitionId, wall: Timestamp) -> Result<[PartitionId; 2], StoreError> {
        let number = self.open_number(shard)?;
        let ranges = self.all[&number].ranges.clone();
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        for (low, high) in ranges {
            let middle = low + (high - low) / 2;
            lower.push((low, middle));
            if middle < high {
                upper.push((middle + 1, high));
            }
        }
        self.close(number, wall);
        Ok([self.add(vec![number], lower, wall), self.add(vec![number], upper, wall)])
    }

    pub(super) fn merge(
        &mut self,
        one: &PartitionId,
        other: &PartitionId,
        wall: Timestamp,
    ) -> Result<PartitionId, StoreError> {
        let (one, other) = (self.open_number(one)?, self.open_number(other)?);
        if one == other {
            return Err(invalid(format!("`{}` cannot be merged with itself: name two shards", id_of(one))));
        }
        let ranges = [one, other].iter().flat_map(|number| self.all[number].ranges.clone()).collect();
        self.close(one, wall);
        self.close(other, wall);
        Ok(self.add(vec![one, other], ranges, wall))
    }

    pub(super) fn roll(&mut self, shard: &PartitionId, wall: Timestamp) -> Result<PartitionId, StoreError> {
        let number = self.open_number(shard)?;
        let ranges = self.all[&number].ranges.clone();
        self.close(number, wall);
        Ok(self.add(vec![number], ranges, wall))
    }

    fn open_number(&self, id: &PartitionId) -> Result<u64, StoreError> {
        let open = self.open().find(|shard| shard.id() == *id).map(|shard| shard.number);
        open.ok_or_else(|| invalid(format!("`{id}` is not an open shard: `open_shards` names those")))
    }

    fn close(&mut self, number: u64, wall: Timestamp) {
        let latest = self.sequence;
        if let Some(shard) = self.all.get_mut(&number) {
            shard.closed = Some((wall.as_millisecond(), latest));
        }
    }

    fn add(&mut self, parents: Vec<u64>, ranges: Vec<(u64, u64)>, wall: Timestamp) -> PartitionId {
        let number = self.all.keys().next_back().map_or(1, |last| last + 1);
        let shard = Shard {
            number,
            parents,
            ranges,
            opened: wall.as_millisecond(),
            closed: None,
            gone: false,
            items: VecDeque::new(),
            forgotten: Forgotten::NOTHING,
        };
        let id = shard.id();
        self.all.insert(number, shard);
        id
    }

    /// Forgets from the front of each shard what `is_old` by its time and number, and closed shards that are empty then
    /// and were closed as long ago.
    pub(super) fn trim(&mut self, is_old: impl Fn(i64, u64) -> bool) -> u64 {
        let mut count = 0;
        for shard in self.all.values_mut() {
            while let Some(item) = shard.items.front().filter(|item| is_old(item.recorded(), item.sequence)) {
                let (sequence, row, recorded) = (item.sequence, item.row, item.recorded());
                shard.forgotten = shard.forgotten.and(Forgotten { sequence, row, recorded });
                shard.items.pop_front();
                count += 1;
            }
            let is_closed = shard.closed.is_some_and(|(time, latest)| is_old(time, latest));
            shard.gone |= is_closed && shard.items.is_empty();
        }
        count
    }
}

/// Spreads keys over the shards: FNV-1a, and a last mixing, for its high bits hardly differ between short keys.
fn hash(key: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let hash = key.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53) ^ (hash >> 29)
}
