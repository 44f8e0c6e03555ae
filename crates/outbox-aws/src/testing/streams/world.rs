//! What there is: the tables, the streams that the one of entries has had, and what is scripted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use outbox::Clock;
use serde_json::{Value, json};

use super::shard::{Record, Shard, Stream, hash};

/// The numbers of records have 21 digits at least.
const FIRST_NUMBER: u128 = 100_000_000_000_000_000_000;

/// What a server does that nobody would wish for, or no emulator does; nothing unless told.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The most records of a page.
    pub page: usize,
    /// The most shards of a listing's page.
    pub shards: usize,
    /// The most items of a scan's page.
    pub items: usize,
    /// So many empty pages come behind each iterator that is made anew.
    pub empty_pages: u32,
    /// Each page with records comes twice.
    pub doubled_pages: bool,
    /// It knows iterators at a time.
    pub knows_times: bool,
    /// Each answer takes so long.
    pub delay: Duration,
}

impl Default for Habits {
    /// Pages as large as the service's; none is empty or doubled.
    fn default() -> Self {
        Self {
            page: 1000,
            shards: 100,
            items: 1000,
            empty_pages: 0,
            doubled_pages: false,
            knows_times: true,
            delay: Duration::ZERO,
        }
    }
}

/// An item's place in the table: key, number.
pub(super) type Primary = (String, i64);

pub(super) struct World {
    pub(super) prefix: String,
    clock: Arc<dyn Clock>,
    /// When the table was made.
    pub(super) made: i64,
    pub(super) entries: BTreeMap<Primary, Value>,
    pub(super) heads: BTreeMap<String, Value>,
    /// The one that the table has now is the last.
    pub(super) streams: Vec<Stream>,
    number: u128,
    shards: u32,
    pub(super) given: u64,
    /// Iterators up to this one have expired.
    pub(super) expired: u64,
    pub(super) habits: Habits,
    failing: VecDeque<(String, String)>,
    pub(super) calls: Vec<(String, Value)>,
    /// Requests for records that are being answered, and the most at a time.
    pub(super) reading: (usize, usize),
    pub(super) said: Option<(i64, u64, i64)>,
}

impl World {
    pub(super) fn new(prefix: &str, clock: Arc<dyn Clock>) -> Self {
        let store = json!({
            "id": { "S": "store" }, "layout": { "N": "1" }, "store_id": { "S": "00112233445566778899aabbccddeeff" },
            "producer": { "S": "/carts" }, "incarnation": { "N": "1" }, "max_event_bytes": { "N": "409600" },
            "retention_seconds": { "N": "2592000" },
        });
        let mut world = Self {
            prefix: prefix.to_owned(),
            made: clock.wall().as_second(),
            clock,
            entries: BTreeMap::new(),
            heads: BTreeMap::from([("store".to_owned(), store)]),
            streams: Vec::new(),
            number: FIRST_NUMBER,
            shards: 0,
            given: 0,
            expired: 0,
            habits: Habits::default(),
            failing: VecDeque::new(),
            calls: Vec::new(),
            reading: (0, 0),
            said: None,
        };
        world.enable();
        world
    }

    pub(super) fn entry(&self, key: &str, sequence: u64) -> Value {
        let now = self.clock.wall();
        let after = if sequence <= 1 { "0.0.0".to_owned() } else { format!("1.{}.0", sequence - 1) };
        let id = format!("{:032x}", (u128::from(hash(key)) << 64) | u128::from(sequence));
        let commit: Vec<u8> = (0..16).filter_map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).ok()).collect();
        json!({
            "key": { "S": key }, "sequence": { "N": sequence.to_string() }, "incarnation": { "N": "1" },
            "after": { "S": after }, "count": { "N": "1" }, "commit_id": { "B": base64(&commit) },
            "recorded_at": { "N": now.as_millisecond().to_string() },
            "expires_at": { "N": (now.as_second() + 2_592_000).to_string() },
            "events": { "L": [{ "M": { "type": { "S": "cart.changed" }, "data": { "S": "{}" } } }] },
        })
    }

    /// Puts an item into the table; tells whether it was there.
    pub(super) fn store(&mut self, item: &Value) -> bool {
        self.entries.insert(primary(item), item.clone()).is_some()
    }

    pub(super) fn record_insert(&mut self, item: &Value) {
        self.add("INSERT", item, true);
    }

    pub(super) fn expire(&mut self, key: &str, sequence: u64) {
        let gone = primary(&json!({ "key": { "S": key }, "sequence": { "N": sequence.to_string() } }));
        if let Some(item) = self.entries.remove(&gone) {
            self.add("REMOVE", &item, false);
        }
    }

    /// Adds a record to the shard of its key; none while the stream is off.
    pub(super) fn add(&mut self, kind: &str, item: &Value, with_image: bool) {
        let (created, number) = (self.clock.wall().as_second(), self.number + 7);
        let (key, _) = primary(item);
        let Some(stream) = self.streams.last_mut().filter(|stream| stream.is_enabled) else { return };
        let Some(shard) = stream.shards.iter_mut().find(|shard| shard.takes(hash(&key))) else { return };
        self.number = number;
        let mut data = json!({
            "ApproximateCreationDateTime": created, "Keys": { "key": item["key"], "sequence": item["sequence"] },
            "SequenceNumber": number.to_string(), "SizeBytes": item.to_string().len(), "StreamViewType": "NEW_IMAGE",
        });
        if with_image {
            data["NewImage"] = item.clone();
        }
        let mut record = json!({
            "eventID": format!("{number:x}"), "eventName": kind, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1", "dynamodb": data,
        });
        if kind == "REMOVE" {
            // Only what the service removes by itself says whose doing it was.
            record["userIdentity"] = json!({ "Type": "Service", "PrincipalId": "dynamodb.amazonaws.com" });
        }
        shard.push(number, record);
    }

    fn stream(&mut self) -> &mut Stream {
        let last = self.streams.len() - 1;
        &mut self.streams[last]
    }

    fn shard(&mut self, id: &str) -> &mut Shard {
        let found = self.streams.iter_mut().flat_map(|stream| &mut stream.shards).find(|shard| shard.id == id);
        match found {
            Some(shard) => shard,
            None => panic!("there is no shard `{id}`"),
        }
    }

    pub(super) fn open_shards(&self) -> Vec<String> {
        let open = self.streams.iter().flat_map(|stream| &stream.shards).filter(|shard| shard.is_open);
        open.map(|shard| shard.id.clone()).collect()
    }

    pub(super) fn shard_of(&self, key: &str) -> String {
        let mut shards = self.streams.iter().flat_map(|stream| &stream.shards);
        shards.find(|shard| shard.takes(hash(key))).map_or_else(String::new, |shard| shard.id.clone())
    }

    /// Closes an open shard; gives the keys that it took.
    fn close(&mut self, id: &str) -> (u64, u64) {
        let shard = self.shard(id);
        assert!(shard.is_open, "`{id}` is closed already");
        shard.is_open = false;
        shard.range
    }

    pub(super) fn split(&mut self, id: &str) -> [String; 2] {
        let (low, high) = self.close(id);
        let middle = low + (high - low) / 2;
        [(low, middle), (middle + 1, high)].map(|range| self.open(Some(id), range))
    }

    pub(super) fn roll(&mut self, id: &str) -> String {
        let range = self.close(id);
        self.open(Some(id), range)
    }

    /// The child takes what its parent does not any more.
    pub(super) fn announce(&mut self, id: &str) -> String {
        let range = self.shard(id).range;
        self.open(Some(id), range)
    }

    fn open(&mut self, parent: Option<&str>, range: (u64, u64)) -> String {
        self.shards += 1;
        // Later shards need not come later in a listing.
        let id = format!("shardId-{:020}-{:08x}", 9_000_000_000_u64 - u64::from(self.shards), self.shards);
        let shard = Shard::new(id.clone(), parent.map(str::to_owned), range, self.number);
        self.stream().shards.push(shard);
        id
    }

    pub(super) fn trim(&mut self, id: &str, records: usize) {
        let shard = self.shard(id);
        for Record { number, .. } in shard.records.drain(..records.min(shard.records.len())) {
            shard.before = number;
        }
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.shard(id).is_gone = true;
    }

    pub(super) fn hide(&mut self, id: &str, times: u32) {
        self.shard(id).hidden = times;
    }

    pub(super) fn disable(&mut self) {
        let stream = self.stream();
        stream.is_enabled = false;
        stream.shards.iter_mut().for_each(|shard| shard.is_open = false);
    }

    pub(super) fn enable(&mut self) -> String {
        let now = self.clock.wall();
        let time = now.strftime("%Y-%m-%dT%H:%M:%S");
        let label = format!("{time}.{:03}", self.streams.len());
        let created = now.as_second();
        self.streams.push(Stream { label: label.clone(), created, is_enabled: true, shards: Vec::new() });
        self.open(None, (0, u64::MAX));
        label
    }

    pub(super) fn expire_iterators(&mut self) {
        self.expired = self.given;
    }

    pub(super) fn fail(&mut self, operation: &str, code: &str, times: usize) {
        self.failing.extend((0..times).map(|_| (operation.to_owned(), code.to_owned())));
    }

    /// The code with which this call is to fail.
    pub(super) fn failure(&mut self, operation: &str) -> Option<String> {
        let at = self.failing.iter().position(|(of, _)| of == operation)?;
        self.failing.remove(at).map(|(_, code)| code)
    }
}

/// An item's primary key.
pub(super) fn primary(item: &Value) -> Primary {
    let number = item["sequence"]["N"].as_str().and_then(|number| number.parse().ok());
    (item["key"]["S"].as_str().unwrap_or_default().to_owned(), number.unwrap_or(0))
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}
