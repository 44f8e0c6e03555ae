//! A table's stream as a mapping hands it in: shards of records, in the documented layout.

use std::collections::BTreeMap;

use outbox::{Clock as _, System};
use serde_json::{Value, json};

/// Writes entries into shards.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) shards: Vec<Vec<Value>>,
    /// The latest sequence of each key, and how many events its entry had.
    heads: BTreeMap<String, (u64, u32)>,
    records: u64,
}

impl Stream {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: vec![Vec::new(); shards], ..Self::default() }
    }

    fn number(&mut self) -> String {
        self.records += 1;
        format!("{:030}", 100_000_000_000_u64 + self.records * 7)
    }

    /// The shard of a key: always the same.
    fn shard(&self, key: &str) -> usize {
        key.bytes().map(usize::from).sum::<usize>() % self.shards.len()
    }

    fn put(&mut self, key: &str, kind: &str, image: Option<Value>, sequence: u64) -> String {
        let number = self.number();
        let mut data = json!({
            "ApproximateCreationDateTime": System.wall().as_second(),
            "Keys": { "key": { "S": key }, "sequence": { "N": sequence.to_string() } },
            "SequenceNumber": number, "SizeBytes": 300, "StreamViewType": "NEW_IMAGE",
        });
        if let Some(image) = image {
            data["NewImage"] = image;
        }
        let record = json!({
            "eventID": format!("{:032x}", self.records), "eventName": kind, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1", "dynamodb": data,
            "eventSourceARN": "arn:aws:dynamodb:eu-west-1:123456789012:table/carts-entries/stream/2026-11-21T00:00:00.000",
        });
        let shard = self.shard(key);
        self.shards[shard].push(record);
        number
    }

    /// An entry of `count` events is committed. Gives its record's number.
    pub(crate) fn commit(&mut self, key: &str, count: u32) -> String {
        let (last, events) = self.heads.get(key).copied().unwrap_or_default();
        let (sequence, after) =
            (last + 1, if last == 0 { "0.0.0".to_owned() } else { format!("1.{last}.{}", events - 1) });
        self.heads.insert(key.to_owned(), (sequence, count));
        let events: Vec<_> = (0..count).map(|_| event(key)).collect();
        let image = json!({
            "key": { "S": key }, "sequence": { "N": sequence.to_string() }, "incarnation": { "N": "1" },
            "after": { "S": after }, "count": { "N": count.to_string() },
            "commit_id": { "B": "BwcHBwcHBwcHBwcHBwcHBw==" },
            "recorded_at": { "N": System.wall().as_millisecond().to_string() },
            "expires_at": { "N": (System.wall().as_second() + 2_592_000).to_string() },
            "events": { "L": events },
        });
        self.put(key, "INSERT", Some(image), sequence)
    }

    /// The latest entry of a key has an attribute that a record cannot have.
    pub(crate) fn spoil_last(&mut self, key: &str) {
        let shard = self.shard(key);
        self.shards[shard].last_mut().unwrap()["dynamodb"]["NewImage"]["count"] = json!({ "N": 1 });
    }

    /// All of it was created so many seconds earlier.
    pub(crate) fn age(&mut self, seconds: i64) {
        for record in self.shards.iter_mut().flatten() {
            let created = &mut record["dynamodb"]["ApproximateCreationDateTime"];
            *created = json!(created.as_i64().unwrap() - seconds);
        }
    }

    /// An entry of a key expired long after it was published.
    pub(crate) fn expire(&mut self, key: &str) {
        self.put(key, "REMOVE", None, 1);
    }

    /// Ids of all events of every key, in their order.
    pub(crate) fn ids(&self) -> BTreeMap<String, Vec<String>> {
        let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in self.shards.iter().flatten().filter(|record| record["eventName"] == "INSERT") {
            let data = &record["dynamodb"];
            let key = data["Keys"]["key"]["S"].as_str().unwrap();
            let sequence = data["Keys"]["sequence"]["N"].as_str().unwrap();
            let count = data["NewImage"]["events"]["L"].as_array().unwrap().len();
            let of = (0..count).map(|index| format!("{key}@1.{sequence}.{index}"));
            ids.entry(key.to_owned()).or_default().extend(of);
        }
        ids
    }
}

fn event(key: &str) -> Value {
    json!({ "M": { "type": { "S": "cart.changed" }, "data": { "S": format!("{{\"cart\":\"{key}\"}}") } } })
}
