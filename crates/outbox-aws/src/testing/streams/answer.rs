//! The calls about the stream.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    Refusal,
    iterator::Iterator,
    shard::{Record, Shard, Stream},
    world::World,
};

impl World {
    /// The body of the answer to a call.
    pub(super) fn answer(&mut self, operation: &str, asked: &Value) -> Result<String, Refusal> {
        self.calls.push((operation.to_owned(), asked.clone()));
        if let Some(code) = self.failure(operation) {
            return Err(Refusal::new(&code, "as scripted"));
        }
        let answer = match operation {
            "GetRecords" => return self.records(asked),
            "DescribeStream" => self.describe_stream(asked),
            "GetShardIterator" => self.shard_iterator(asked),
            "DescribeTable" => self.describe_table(asked),
            "GetItem" => self.item(asked),
            "Scan" => self.scan(asked),
            other => Err(Refusal::new("UnknownOperationException", format!("{other} is not played"))),
        };
        answer.map(|answer| answer.to_string())
    }

    pub(super) fn arn(&self, label: &str) -> String {
        format!("arn:aws:dynamodb:eu-west-1:000000000000:table/{}-entries/stream/{label}", self.prefix)
    }

    fn stream_of(&mut self, asked: &Value) -> Result<&mut Stream, Refusal> {
        let arn = asked["StreamArn"].as_str().unwrap_or_default();
        let label = arn.rsplit('/').next().unwrap_or_default();
        let found = self.streams.iter_mut().find(|stream| stream.label == label);
        found.ok_or_else(|| Refusal::new("ResourceNotFoundException", "Requested resource not found: Stream"))
    }

    fn describe_stream(&mut self, asked: &Value) -> Result<Value, Refusal> {
        let (most, table) = (self.habits.shards, format!("{}-entries", self.prefix));
        let from = asked["ExclusiveStartShardId"].as_str();
        let stream = self.stream_of(asked)?;
        let mut listed: Vec<&mut Shard> = stream.shards.iter_mut().filter(|shard| !shard.is_gone).collect();
        listed.sort_by(|one, other| one.id.cmp(&other.id));
        let mut behind = listed.into_iter().filter(|shard| from.is_none_or(|from| shard.id.as_str() > from)).peekable();
        let (mut shards, mut last) = (Vec::new(), None);
        while let Some(shard) = behind.next_if(|_| shards.len() < most) {
            last = Some(shard.id.clone());
            match shard.hidden.checked_sub(1) {
                Some(left) => shard.hidden = left,
                None => shards.push(described(shard)),
            }
        }
        let is_last = behind.peek().is_none();
        let label = stream.label.clone();
        let mut description = json!({
            "StreamLabel": label, "StreamStatus": if stream.is_enabled { "ENABLED" } else { "DISABLED" },
            "StreamViewType": "NEW_IMAGE", "CreationRequestDateTime": stream.created, "TableName": table,
            "KeySchema": [
                { "AttributeName": "key", "KeyType": "HASH" }, { "AttributeName": "sequence", "KeyType": "RANGE" },
            ],
            "Shards": shards,
        });
        description["StreamArn"] = json!(self.arn(&label));
        if let Some(last) = last.filter(|_| !is_last) {
            description["LastEvaluatedShardId"] = json!(last);
        }
        Ok(json!({ "StreamDescription": description }))
    }

    fn shard_iterator(&mut self, asked: &Value) -> Result<Value, Refusal> {
        let knows_times = self.habits.knows_times;
        let number = || asked["SequenceNumber"].as_str().and_then(|number| number.parse::<u128>().ok());
        let id = asked["ShardId"].as_str().unwrap_or_default();
        let stream = self.stream_of(asked)?;
        let label = stream.label.clone();
        let shard = find(stream, id)?;
        let malformed = || Refusal::new("ValidationException", "Invalid SequenceNumber");
        let forgotten = |number: u128| shard.forgotten().is_some_and(|forgotten| number <= forgotten);
        let after = match asked["ShardIteratorType"].as_str() {
            Some("TRIM_HORIZON") => shard.before,
            Some("LATEST") => shard.numbers.map_or(shard.before, |(_, last)| last),
            Some("AT_SEQUENCE_NUMBER") => {
                let number = number().ok_or_else(malformed)?;
                if forgotten(number) {
                    return Err(trimmed());
                }
                number - 1
            }
            Some("AFTER_SEQUENCE_NUMBER") => {
                let number = number().ok_or_else(malformed)?;
                if forgotten(number) {
                    return Err(trimmed());
                }
                number
            }
            Some("AT_TIMESTAMP") if knows_times => {
                before(&shard.records, asked["Timestamp"].as_f64().unwrap_or(0.0), shard.before)
            }
            _ => {
                return Err(Refusal::new(
                    "ValidationException",
                    "Value at 'shardIteratorType' failed to satisfy constraint",
                ));
            }
        };
        let (shard, empty) = (id.to_owned(), self.habits.empty_pages);
        Ok(json!({ "ShardIterator": self.give(Iterator { given: 0, label, shard, after, empty, again: false }) }))
    }

    fn give(&mut self, iterator: Iterator) -> String {
        self.given += 1;
        Iterator { given: self.given, ..iterator }.text()
    }

    fn records(&mut self, asked: &Value) -> Result<String, Refusal> {
        let iterator = Iterator::parse(asked["ShardIterator"].as_str().unwrap_or_default())?;
        if iterator.given <= self.expired {
            return Err(Refusal::new("ExpiredIteratorException", "The iterator has expired"));
        }
        let limit = asked["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1000);
        let (limit, doubled) = (limit.min(self.habits.page), self.habits.doubled_pages);
        let stream = self.streams.iter_mut().find(|stream| stream.label == iterator.label);
        let shard = find(stream.ok_or_else(trimmed)?, &iterator.shard)?;
        if iterator.after < shard.before {
            return Err(trimmed());
        }
        if let Some(empty) = iterator.empty.checked_sub(1) {
            let next = self.give(Iterator { empty, ..iterator });
            return Ok(page("[]", Some(&next)));
        }
        let (last, records) = shard.page(iterator.after, limit);
        let comes_again = doubled && last != iterator.after && !iterator.again;
        let is_done = !shard.is_open && shard.numbers.is_none_or(|(_, number)| number <= last) && !comes_again;
        let after = if comes_again { iterator.after } else { last };
        let next = (!is_done).then(|| self.give(Iterator { after, again: comes_again, ..iterator }));
        Ok(page(&records, next.as_deref()))
    }
}

fn page(records: &str, next: Option<&str>) -> String {
    match next {
        Some(next) => format!(r#"{{"Records":{records},"NextShardIterator":"{next}"}}"#),
        None => format!(r#"{{"Records":{records}}}"#),
    }
}

fn find<'a>(stream: &'a mut Stream, id: &str) -> Result<&'a mut Shard, Refusal> {
    let found = stream.shards.iter_mut().find(|shard| shard.id == id && !shard.is_gone);
    found.ok_or_else(|| Refusal::new("ResourceNotFoundException", "Requested resource not found: Shard does not exist"))
}

fn trimmed() -> Refusal {
    Refusal::new("TrimmedDataAccessException", "Attempted access beyond trim horizon")
}

fn described(shard: &Shard) -> Value {
    let mut range = json!({});
    if let Some((first, last)) = shard.numbers {
        range["StartingSequenceNumber"] = json!(first.to_string());
        if !shard.is_open {
            range["EndingSequenceNumber"] = json!(last.to_string());
        }
    }
    let mut described = json!({ "ShardId": shard.id, "SequenceNumberRange": range });
    if let Some(parent) = &shard.parent {
        described["ParentShardId"] = json!(parent);
    }
    described
}

/// The number before the first record that was created at `time` or later.
fn before(records: &VecDeque<Record>, time: f64, beginning: u128) -> u128 {
    let created = |record: &Record| record.json["dynamodb"]["ApproximateCreationDateTime"].as_f64().unwrap_or(0.0);
    let older = records.iter().take_while(|record| created(record) < time).last();
    older.map_or(beginning, |record| record.number)
}
