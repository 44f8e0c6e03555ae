//! A shard, and a stream of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde_json::Value;

/// What a page holds at most, as the service counts.
const PAGE_BYTES: usize = 1 << 20;
/// So many full pages are kept as text, so that whoever measures a reader does not measure this.
const READY_MADE: usize = 64;

/// One record, as `GetRecords` gives it.
pub(super) struct Record {
    pub(super) number: u128,
    pub(super) json: Value,
}

pub(super) struct Shard {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) is_open: bool,
    /// The hashes of the keys that it takes, both ends included.
    pub(super) range: (u64, u64),
    pub(super) records: VecDeque<Record>,
    /// The latest number that it has forgotten, or that was given before it was there.
    pub(super) before: u128,
    /// Its first and last number.
    pub(super) numbers: Option<(u128, u128)>,
    /// It is not listed any more.
    pub(super) is_gone: bool,
    /// It is left out of so many pages of a listing.
    pub(super) hidden: u32,
    /// Full pages, by the number before them and their length, each with the number of its last record.
    ready_made: HashMap<(u128, usize), (u128, Arc<str>)>,
}

impl Shard {
    pub(super) fn new(id: String, parent: Option<String>, range: (u64, u64), before: u128) -> Self {
        Self {
            id,
            parent,
            is_open: true,
            range,
            records: VecDeque::new(),
            before,
            numbers: None,
            is_gone: false,
            hidden: 0,
            ready_made: HashMap::new(),
        }
    }

    pub(super) fn takes(&self, hash: u64) -> bool {
        self.is_open && (self.range.0..=self.range.1).contains(&hash)
    }

    pub(super) fn push(&mut self, number: u128, json: Value) {
        let first = self.numbers.map_or(number, |(first, _)| first);
        self.numbers = Some((first, number));
        self.records.push_back(Record { number, json });
    }

    /// The records behind a number, as JSON, and the number of the last one.
    pub(super) fn page(&mut self, after: u128, limit: usize) -> (u128, Arc<str>) {
        if let Some(ready_made) = self.ready_made.get(&(after, limit)) {
            return ready_made.clone();
        }
        let from = self.records.partition_point(|record| record.number <= after);
        let mut bytes = 0;
        let mut is_within = |record: &&Record| {
            bytes +=
                record.json["dynamodb"]["SizeBytes"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
            bytes <= PAGE_BYTES
        };
        let page: Vec<&Record> = self.records.range(from..).take(limit).take_while(&mut is_within).collect();
        let last = page.last().map_or(after, |record| record.number);
        let texts: Vec<String> = page.iter().map(|record| record.json.to_string()).collect();
        let found = (last, Arc::from(format!("[{}]", texts.join(","))));
        if page.len() == limit && self.ready_made.len() < READY_MADE {
            self.ready_made.insert((after, limit), found.clone());
        }
        found
    }

    /// The latest number that was forgotten, if any was.
    pub(super) fn forgotten(&self) -> Option<u128> {
        self.numbers.map(|(first, _)| first).filter(|first| *first <= self.before).map(|_| self.before)
    }
}

/// A stream, enabled or not.
pub(super) struct Stream {
    pub(super) label: String,
    pub(super) created: i64,
    pub(super) is_enabled: bool,
    pub(super) shards: Vec<Shard>,
}

/// FNV-1a, mixed once more, for its high bits hardly differ between short keys.
pub(super) fn hash(key: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let hash = key.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53) ^ (hash >> 29)
}
