//! Reads the table by id, one snapshot a page: enough to see what a writer wrote, and no source for a relay, which would
//! lose what commits late.

use std::{cmp::Ordering, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use outbox::{
    AttributeValue, CommitId, Event, Key, KeyOrder, NewEvent, Partition, PartitionId, Place, Placing, Position, Record,
    Source, StoreError,
    event::Identity,
    source::{Backlog, Limit, Page},
    store::Registration,
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use tokio_postgres::{Client, Row, types::Type};

pub(crate) struct Reader(pub(crate) Client);

const ROWS: &str = "SELECT id, key, incarnation, sequence, count, after, commit_id::text, \
    (extract(epoch FROM recorded_at) * 1000000)::bigint, type, event_id, content_type, data, data_bytes, attributes, more \
    FROM outbox.entries WHERE id > $1 ORDER BY id LIMIT 1000";

#[async_trait]
impl Source for Reader {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        id(left).cmp(&id(right))
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new("entries"), parents: Vec::new() }])
    }

    async fn start(&self, _: &PartitionId, _: &Registration) -> Result<Position, StoreError> {
        Ok(Position::new("0"))
    }

    async fn read(&self, _: &PartitionId, after: &Position, _: Limit) -> Result<Page, StoreError> {
        let rows = self.0.query_typed(ROWS, &[(&id(after), Type::INT8)]).await.unwrap();
        let records: Vec<_> = rows.iter().map(|row| Arc::new(record(row))).collect();
        let next = records.last().map_or_else(|| after.clone(), |record| record.position.clone());
        Ok(Page { more: !records.is_empty(), records, next, end: false })
    }

    async fn changed(&self) {}

    async fn backlog(&self, _: &PartitionId, _: &Position) -> Result<Backlog, StoreError> {
        Ok(Backlog { entries: 0, exact: false, oldest: None })
    }
}

fn id(position: &Position) -> i64 {
    position.as_str().parse().unwrap()
}

fn record(row: &Row) -> Record {
    let key: Option<String> = row.get(1);
    let commit = commit(&row.get::<_, String>(6));
    let recorded = jiff::Timestamp::from_microsecond(row.get(7)).unwrap();
    let data: Option<Vec<u8>> = row.get::<_, Option<String>>(11).map(String::into_bytes).or_else(|| row.get(12));
    let attributes: Option<String> = row.get(13);
    let attributes = attributes.map_or_else(Map::new, |json| serde_json::from_str(&json).unwrap());
    let first = Written { kind: row.get(8), id: row.get(9), content_type: row.get(10), data, attributes };
    let more: Option<String> = row.get(14);
    let further: Vec<Further<'_>> = more.as_deref().map_or_else(Vec::new, |json| serde_json::from_str(json).unwrap());
    let written: Vec<_> = std::iter::once(first).chain(further.into_iter().map(Further::written)).collect();
    assert_eq!(written.len(), usize::try_from(row.get::<_, i32>(4)).unwrap(), "`count` counts the events");
    let placed = key.as_ref().map(|_| {
        let (incarnation, sequence): (i32, i64) = (row.get(2), row.get(3));
        let after: Place = row.get::<_, String>(5).parse().unwrap();
        (Place::new(incarnation.unsigned_abs(), sequence.unsigned_abs(), 0), after)
    });
    let count = u32::try_from(written.len()).unwrap();
    let events = written.into_iter().zip(0..).map(|(written, index)| {
        let placing = placed.map(|(first, after)| {
            let place = |index| Place { index, ..first };
            Placing { place: place(index), count, after: index.checked_sub(1).map_or(after, place) }
        });
        let identity =
            Identity { source: &"/orders".into(), placing, recorded: Some(recorded), fallback_id: &commit.to_string() };
        Event::from_new(written.build(key.as_deref()), identity).unwrap()
    });
    let content = outbox::Content::Events(events.collect());
    Record { position: Position::new(row.get::<_, i64>(0).to_string()), commit, recorded, content }
}

fn commit(uuid: &str) -> CommitId {
    CommitId(u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap().to_be_bytes())
}

struct Written {
    kind: String,
    id: Option<String>,
    content_type: Option<String>,
    data: Option<Vec<u8>>,
    attributes: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Further<'a> {
    r#type: String,
    id: Option<String>,
    content_type: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    #[serde(default)]
    attributes: Map<String, Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Further<'_> {
    fn written(self) -> Written {
        let json = self.data.map(|json| json.get().as_bytes().to_vec());
        let bytes = self.data_base64.map(|text| STANDARD.decode(text).unwrap());
        Written {
            kind: self.r#type,
            id: self.id,
            content_type: self.content_type,
            data: json.or(bytes),
            attributes: self.attributes,
        }
    }
}

impl Written {
    fn build(self, key: Option<&str>) -> NewEvent {
        let mut builder = NewEvent::builder(self.kind);
        if let Some(key) = key {
            builder = builder.key(key);
        }
        if let Some(id) = self.id {
            builder = builder.id(id);
        }
        for (name, value) in self.attributes {
            builder = match (name.as_str(), value) {
                ("subject", Value::String(text)) => builder.subject(text),
                ("dataschema", Value::String(text)) => builder.schema(text),
                ("time", Value::String(text)) => builder.time(text.parse().unwrap()),
                (_, value) => builder.extension(name.clone(), attribute(value)),
            };
        }
        let new = builder.build().unwrap();
        new.with_payload(self.content_type.map(Into::into), self.data.map(Into::into)).unwrap()
    }
}

fn attribute(value: Value) -> AttributeValue {
    match value {
        Value::Bool(value) => value.into(),
        Value::String(text) => text.into(),
        other => i32::try_from(other.as_i64().unwrap()).unwrap().into(),
    }
}

/// What a key's entries say, in the order of their ids.
pub(crate) async fn events_of(client: &Client, key: &str) -> Vec<Event> {
    let rows =
        client.query_typed(&ROWS.replace("WHERE id > $1", "WHERE key = $1"), &[(&key, Type::TEXT)]).await.unwrap();
    let key = Key::new(key).unwrap();
    rows.iter()
        .flat_map(|row| record(row).events().to_vec())
        .inspect(|event| assert_eq!(event.key(), Some(&key)))
        .collect()
}
