//! The stream of a real table, read as an event source mapping does.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use aws_sdk_dynamodbstreams::{
    Client,
    types::{AttributeValue, Record, ShardIteratorType},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{clients, server};

/// Between two looks at a stream that has nothing new.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct TableStream {
    client: Client,
    arn: String,
    /// Iterators of the shards that are not at their end.
    iterators: VecDeque<String>,
}

impl TableStream {
    /// The stream of the entries, from its beginning. No shard of an emulator splits, nor one of AWS within minutes.
    pub(super) async fn of(prefix: &str) -> Self {
        let table = format!("{prefix}-entries");
        let described = server::client().await.describe_table().table_name(table).send().await.unwrap();
        let arn = described.table.unwrap().latest_stream_arn.unwrap();
        let client = clients::streams().await;
        let stream = client.describe_stream().stream_arn(&arn).send().await.unwrap().stream_description.unwrap();
        let mut iterators = VecDeque::new();
        for shard in stream.shards.unwrap() {
            let from = client.get_shard_iterator().stream_arn(&arn).shard_id(shard.shard_id.unwrap());
            let from = from.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
            iterators.extend(from.shard_iterator);
        }
        Self { client, arn, iterators }
    }

    /// Reads behind what is `waiting`, unless that fills a batch, until something is.
    pub(super) async fn wait_for_records(&mut self, waiting: &mut Vec<Value>, batch: usize) {
        while waiting.len() < batch {
            let iterator = self.iterators.pop_front().expect("the shards of this stream stay open");
            let page = self.client.get_records().shard_iterator(iterator).send().await.unwrap();
            self.iterators.extend(page.next_shard_iterator);
            let records = page.records.unwrap_or_default();
            let came = !records.is_empty();
            waiting.extend(records.iter().map(|record| self.as_handed_in(record)));
            if !came && !waiting.is_empty() {
                return;
            }
            if !came {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// A record as a function is handed it.
    fn as_handed_in(&self, record: &Record) -> Value {
        let data = record.dynamodb.as_ref().unwrap();
        let image = |item: Option<&HashMap<String, AttributeValue>>| {
            item.map(|item| Value::Object(item.iter().map(|(name, value)| (name.clone(), plain(value))).collect()))
        };
        json!({
            "eventID": record.event_id, "eventName": record.event_name.as_ref().unwrap().as_str(), "eventVersion": "1.1",
            "eventSource": "aws:dynamodb", "awsRegion": "eu-west-1", "eventSourceARN": self.arn,
            "dynamodb": {
                "ApproximateCreationDateTime": data.approximate_creation_date_time.unwrap().secs(),
                "Keys": image(data.keys.as_ref()), "NewImage": image(data.new_image.as_ref()),
                "SequenceNumber": data.sequence_number, "SizeBytes": data.size_bytes, "StreamViewType": "NEW_IMAGE",
            },
        })
    }
}

/// A value as the service writes it into JSON.
fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
        AttributeValue::Bool(yes) => json!({ "BOOL": yes }),
        AttributeValue::L(values) => json!({ "L": values.iter().map(plain).collect::<Vec<_>>() }),
        AttributeValue::M(map) => {
            let map: Map<String, Value> = map.iter().map(|(name, value)| (name.clone(), plain(value))).collect();
            json!({ "M": map })
        }
        other => panic!("no entry has such a value: {other:?}"),
    }
}
