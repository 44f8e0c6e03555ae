//! A batch as the event source mapping of a table's stream hands it in, and the answer to it.
//!
//! Rule: "Using AWS Lambda with Amazon DynamoDB" and "Configuring partial batch response" of Lambda's developer guide. The
//! event does not say of which shard a batch is.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use jiff::Timestamp;
use outbox::{CommitId, Content, Key, Position, Record, Undecodable};
use outbox_aws::dynamodb::{Change, EntryReader};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What is handed to the function is no batch of a stream.
#[derive(Debug, thiserror::Error)]
#[error(
    "what was handed in is no batch of a DynamoDB stream ({}): let the event source mapping of the table's stream invoke this function, and nothing else",
    told(.0)
)]
pub struct NotABatch(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
}

/// One record of the batch.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Its sequence number, by which an answer names it; none if it cannot be read.
    pub number: Option<String>,
    /// The entry that it holds; none if it holds none, as where an item expired.
    pub entry: Option<Arc<Record>>,
    /// About when it was created, in seconds since 1970.
    pub created: Option<i64>,
}

/// A batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Its records, in the order of their shard.
    pub records: Vec<Handed>,
}

impl Batch {
    /// Reads a batch, record by record: one that cannot be read becomes an undecodable entry, with its key where that can be
    /// read, and the others are as if it were not there.
    ///
    /// # Errors
    /// [`NotABatch`] if it is no list of records.
    pub fn read(payload: &str, reader: &EntryReader) -> Result<Self, NotABatch> {
        let envelope: Envelope<'_> = serde_json::from_str(payload)?;
        let records = envelope.records.iter().enumerate().map(|(index, raw)| Handed::read(index, raw.get(), reader));
        Ok(Self { records: records.collect() })
    }

    /// The answer where the first `done` records are done.
    pub fn answer(&self, done: usize) -> Answer {
        let Some(failed) = self.records.get(done) else { return Answer::default() };
        // Without a number only the whole batch can be asked for again.
        let item_identifier = failed.number.clone().unwrap_or_default();
        Answer { batch_item_failures: vec![Failure { item_identifier }] }
    }
}

impl Handed {
    fn read(index: usize, raw: &str, reader: &EntryReader) -> Self {
        match Change::from_json(raw) {
            Ok(change) => {
                let place = format!("s{}/{}", change.sequence_number, change.created.unwrap_or(0));
                let entry = reader.change(&change, &place).map(Arc::new);
                Self { number: Some(change.sequence_number), entry, created: change.created }
            }
            Err(error) => {
                let found = Glimpse::of(raw);
                let record = found.undecodable(index, raw, &error);
                Self { number: found.number, entry: Some(Arc::new(record)), created: None }
            }
        }
    }
}

/// What can be read of a record that cannot be read.
#[derive(Default)]
struct Glimpse {
    number: Option<String>,
    key: Option<String>,
    sequence: Option<String>,
}

impl Glimpse {
    fn of(raw: &str) -> Self {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(raw) else { return Self::default() };
        let text = |pointer: &str| value.pointer(pointer).and_then(|text| text.as_str()).map(str::to_owned);
        Self {
            number: text("/dynamodb/SequenceNumber"),
            key: text("/dynamodb/Keys/key/S"),
            sequence: text("/dynamodb/Keys/sequence/N"),
        }
    }

    fn undecodable(&self, index: usize, raw: &str, error: &serde_json::Error) -> Record {
        // As the reader of entries names one: the same however it came.
        let id = match (&self.key, &self.sequence, &self.number) {
            (Some(key), Some(sequence), _) => format!("entry/{key}/{sequence}"),
            (_, _, Some(number)) => format!("record/{number}"),
            // Another one at the same place of another batch is not the same.
            _ => format!("record/?{index}/{:016x}", hash(raw)),
        };
        let has_order = self.sequence.as_deref().is_some_and(|sequence| sequence != "0");
        let key = self.key.as_ref().filter(|_| has_order).and_then(|key| Key::new(key).ok());
        let row = Undecodable {
            id: id.as_str().into(),
            key,
            reason: format!("the record cannot be read: {}", told(error)),
            raw: raw.as_bytes().to_vec().into(),
        };
        let place = self.number.as_ref().map_or_else(|| format!("#{index}"), Clone::clone);
        Record {
            position: Position::new(format!("{}@s{place}/0", id.replace('%', "%25").replace('@', "%40"))),
            commit: CommitId([0; 16]),
            recorded: Timestamp::UNIX_EPOCH,
            content: Content::Undecodable(row),
        }
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Where and how: the words of the error may quote what was written.
fn told(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    format!("{:?} error at line {line}, column {column}", error.classify())
}

/// The answer to a batch: the first record that is not done, from which on the service hands everything in again. None if
/// all of it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    batch_item_failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

impl Answer {
    /// Whether all of the batch is done.
    pub fn is_done(&self) -> bool {
        self.batch_item_failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> EntryReader {
        EntryReader::new("/carts")
    }

    fn read(records: &[&str]) -> Batch {
        Batch::read(&format!(r#"{{"Records": [{}]}}"#, records.join(",")), &reader()).unwrap()
    }

    const REMOVED: &str = r#"{"eventName": "REMOVE", "dynamodb": {"SequenceNumber": "7", "Keys": {"key": {"S": "a"}, "sequence": {"N": "1"}}}}"#;
    const BROKEN: &str = r#"{"eventName": "INSERT", "dynamodb": {"SequenceNumber": "8", "ApproximateCreationDateTime": "soon",
        "Keys": {"key": {"S": "cart/1"}, "sequence": {"N": "4"}}}}"#;

    #[test]
    fn a_record_that_cannot_be_read_does_not_fail_the_others() {
        let batch = read(&[REMOVED, BROKEN, "17"]);
        assert!(batch.records[0].entry.is_none());
        let Content::Undecodable(row) = &batch.records[1].entry.as_ref().unwrap().content else { panic!("{batch:?}") };
        assert_eq!((&*row.id, row.key.as_ref().unwrap().as_str()), ("entry/cart/1/4", "cart/1"));
        let Content::Undecodable(row) = &batch.records[2].entry.as_ref().unwrap().content else { panic!("{batch:?}") };
        assert!(row.key.is_none() && row.reason.contains("cannot be read"), "{row:?}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_quoted_and_is_not_another_one_at_its_place() {
        let row = |text: &str| match &read(&[text]).records[0].entry.as_ref().unwrap().content {
            Content::Undecodable(row) => row.clone(),
            Content::Events(events) => panic!("{events:?}"),
        };
        assert!(row(BROKEN).reason.contains("column"), "{}", row(BROKEN).reason);
        assert!(!row(BROKEN).reason.contains("soon") && !row("\"a secret\"").reason.contains("secret"));
        assert_eq!(row("17").id, row("17").id);
        assert_ne!(row("17").id, row("18").id);
        let refused = Batch::read(r#"{"Records": "a secret"}"#, &reader()).unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn the_answer_names_the_first_record_that_is_not_done_as_the_service_reads_it() {
        let batch = read(&[REMOVED, BROKEN, "17"]);
        let json = |done| serde_json::to_string(&batch.answer(done)).unwrap();
        assert_eq!(json(1), r#"{"batchItemFailures":[{"itemIdentifier":"8"}]}"#);
        assert_eq!(json(3), r#"{"batchItemFailures":[]}"#);
        assert_eq!(json(2), r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#, "then all of it comes again");
    }

    #[test]
    fn what_is_no_batch_is_refused_with_the_remedy() {
        for payload in ["", "{}", "[]", r#"{"Records": 1}"#] {
            let refused = Batch::read(payload, &reader()).unwrap_err().to_string();
            assert!(refused.contains("event source mapping"), "{refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_beside_a_record_leaves_it_as_it_is(beside in "\\PC*", text in "\\PC*") {
            let beside = serde_json::to_string(&beside).unwrap();
            for beside in [beside.clone(), format!(r#"{{"eventName": {beside}, "dynamodb": {{}}}}"#)] {
                let batch = read(&[&beside, REMOVED, &beside]);
                assert_eq!(batch.records.len(), 3);
                assert_eq!(batch.records[1].number.as_deref(), Some("7"));
                assert!(batch.records[0].entry.is_some() && batch.records[2].entry.is_some(), "{batch:?}");
            }
            // Text that is no JSON at all is no batch, and nothing worse.
            assert!(Batch::read(&text, &reader()).is_err());
        }
    }
}
