//! Kept events: an index of those that were kept together, and their contents in chunks.
//!
//! The contents of a [`Keep`](outbox::bookkeeping::Keep) are JSON, one after the other, cut into chunks: so neither an event
//! that is larger than an item nor more events than a transaction has actions are in the way. The index says where each
//! event is in them; of thousands of events there are several indexes, each with chunks of its own. Up to a few megabytes all
//! of it is one transaction; a larger batch's chunks are written before, *staged*: nothing leads to them until the transaction
//! that writes the indexes.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::TransactWriteItem;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use outbox::{
    ErrorKind, Event, Key, PartitionId, Position, StoreError, Undecodable,
    bookkeeping::{Kept, KeptContent, KeptId, Lease},
    cloudevents::{Envelope, json},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    books::{Books, Updated, damaged},
    rows::{Change, If, Row, padded},
};
use crate::dynamodb::item::{Item, bytes, bytes_of, item, number, number_of, text, text_of};

/// Of contents in one item. An item takes 400 KB, names and the rest included.
const CHUNK: usize = 380_000;
/// Of contents and indexes in one transaction, which takes 4 MB, the rest included.
const AT_ONCE: usize = 3_000_000;
/// Of events in one index, each of which takes up to 80 bytes of an item.
const INDEXED: usize = 4_000;

/// Nobody is at it for longer to stage a batch.
const STAGING: Duration = Duration::from_mins(10);
const SWEEPING: &str = "sweeping contents of events that were not kept";

/// A kept event's content as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) event_id: String,
    pub(super) partition: String,
    pub(super) position: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undecodable: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl Stored {
    pub(super) fn new(content: &KeptContent, partition: &str, position: &str) -> Result<Self, StoreError> {
        let text = |key: &Key| key.as_str().to_owned();
        let place = (content.id().to_owned(), partition.to_owned(), position.to_owned());
        let (event_id, partition, position) = place;
        Ok(match content {
            KeptContent::Event(event) => {
                let encoded =
                    String::from_utf8(json::encode(event, Envelope::default())).map_err(|error| error.to_string());
                let encoded = encoded.and_then(|json| RawValue::from_string(json).map_err(|error| error.to_string()));
                let event_json = encoded.map_err(|error| {
                    StoreError::new(ErrorKind::Invalid, format!("keeping an event: it has no JSON: {error}"))
                })?;
                let (key, event) = (event.key().map(text), Some(event_json));
                Self { event_id, partition, position, key, event, undecodable: None, raw: None }
            }
            KeptContent::Undecodable(row) => {
                let (key, raw) = (row.key.as_ref().map(text), Some(STANDARD.encode(&row.raw)));
                Self { event_id, partition, position, key, event: None, undecodable: Some(row.reason.clone()), raw }
            }
        })
    }

    /// The content again; what is wrong, if it cannot be read.
    fn content(&self) -> Result<KeptContent, String> {
        if let Some(event) = &self.event {
            let event: Event = json::decode(event.get().as_bytes()).map_err(|error| error.to_string())?;
            return Ok(KeptContent::Event(event));
        }
        let (Some(reason), Some(raw)) = (&self.undecodable, &self.raw) else { return Err("it is empty".to_owned()) };
        let raw = STANDARD.decode(raw).map_err(|error| error.to_string())?;
        let key = self.key.as_ref().map(Key::new).transpose().map_err(|error| error.to_string())?;
        let (id, reason) = (self.event_id.as_str().into(), reason.clone());
        Ok(KeptContent::Undecodable(Undecodable { id, key, reason, raw: raw.into() }))
    }
}

/// Where a kept event is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry(
    /// Its number.
    pub(super) u64,
    /// Its identity.
    pub(super) String,
    /// Where its content begins.
    usize,
    /// How long it is.
    usize,
);

/// Events that were kept together: a row of kind `kept/` and the lane, named by the last one's number.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) row: Row,
    /// What its chunks are named by.
    batch: u64,
    chunks: usize,
    pub(super) entries: Vec<Entry>,
}

/// The kind of the rows of a lane's kept events.
pub(super) fn kind(lane: &str) -> String {
    format!("kept/{lane}")
}

fn chunk_row(batch: u64, chunk: usize) -> Row {
    Row::new(format!("content/{}", padded(batch)), format!("{chunk:06}"))
}

impl Index {
    pub(super) fn read(found: &Item) -> Result<Self, StoreError> {
        let (kind, name) = (text_of(found, "kind").unwrap_or_default(), text_of(found, "name").unwrap_or_default());
        let wrong = |what| damaged(kind, name, what);
        let entries = text_of(found, "events").and_then(|json| serde_json::from_str(json).ok());
        Ok(Self {
            row: Row::new(kind, name),
            batch: number_of(found, "batch").ok_or_else(|| wrong("batch"))?,
            chunks: number_of(found, "chunks").ok_or_else(|| wrong("chunks"))?,
            entries: entries.ok_or_else(|| wrong("events"))?,
        })
    }

    /// All of its rows.
    pub(super) fn rows(&self) -> Vec<Row> {
        let chunks = (0..self.chunks).map(|chunk| chunk_row(self.batch, chunk));
        chunks.chain([self.row.clone()]).collect()
    }
}

/// Events about to be kept together.
pub(super) struct Batch {
    parts: Vec<Part>,
}

/// Those of them that have an index together.
struct Part {
    index: Index,
    /// The index's entries, as they are stored.
    entries: String,
    contents: Vec<u8>,
}

impl Batch {
    /// Of `events`, identity and content, for `lane`, with numbers from `first` on.
    pub(super) fn new(lane: &str, first: u64, events: &[(String, Stored)]) -> Result<Self, StoreError> {
        let parts = events.chunks(INDEXED).zip((first..).step_by(INDEXED));
        let parts = parts.map(|(events, first)| Part::new(lane, first, events));
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// Whether it is too large for one transaction.
    fn is_staged(&self) -> bool {
        self.parts.iter().map(|part| part.entries.len() + part.contents.len()).sum::<usize>() > AT_ONCE
    }
}

impl Part {
    fn new(lane: &str, first: u64, events: &[(String, Stored)]) -> Result<Self, StoreError> {
        let invalid =
            |error: serde_json::Error| StoreError::new(ErrorKind::Invalid, format!("keeping an event: {error}"));
        let (mut entries, mut contents) = (Vec::with_capacity(events.len()), Vec::new());
        for (number, (identity, stored)) in (first..).zip(events) {
            let start = contents.len();
            serde_json::to_writer(&mut contents, stored).map_err(invalid)?;
            entries.push(Entry(number, identity.clone(), start, contents.len() - start));
        }
        let last = entries.last().map_or(first, |entry| entry.0);
        let (json, chunks) = (serde_json::to_string(&entries).map_err(invalid)?, contents.len().div_ceil(CHUNK));
        let index = Index { row: Row::new(kind(lane), padded(last)), batch: first, chunks, entries };
        Ok(Self { index, entries: json, contents })
    }

    /// The row that is there while its contents are staged.
    fn mark(&self) -> Row {
        Row::new("staged", padded(self.index.batch))
    }

    fn chunks(&self) -> impl Iterator<Item = (Row, Item)> {
        let chunk = |(number, contents): (usize, &[u8])| {
            (chunk_row(self.index.batch, number), item([("contents", bytes(contents))]))
        };
        self.contents.chunks(CHUNK).enumerate().map(chunk)
    }
}

impl Books {
    /// The actions that keep `batch`. If it is too large for one transaction, its contents are written now, where nothing
    /// leads to them yet: whoever does not commit these actions [unstages](Self::unstage) it.
    pub(super) async fn keeps(&self, lease: &Lease, batch: &Batch) -> Result<Vec<TransactWriteItem>, StoreError> {
        let mut actions = Vec::new();
        for Part { index, entries, .. } in &batch.parts {
            let attributes =
                item([("batch", number(index.batch)), ("chunks", number(index.chunks)), ("events", text(entries))]);
            actions.push(self.actions().put(&index.row, attributes, If::Absent)?);
        }
        if !batch.is_staged() {
            for (row, contents) in batch.parts.iter().flat_map(Part::chunks) {
                actions.push(self.actions().put(&row, contents, If::Absent)?);
            }
            return Ok(actions);
        }
        for part in &batch.parts {
            if let Err(error) = self.stage(lease, part).await {
                self.unstage(batch).await;
                return Err(error);
            }
            // If a new owner is about to sweep it, it is not there to be kept.
            let staged = vec![("chunks", number(part.index.chunks)), ("epoch", number(lease.epoch))];
            actions.push(self.actions().delete(&part.mark(), If::Has(staged))?);
        }
        Ok(actions)
    }

    async fn stage(&self, lease: &Lease, part: &Part) -> Result<(), StoreError> {
        const STAGING: &str = "writing the contents of kept events";
        let set = vec![
            ("lease", text(&lease.name)),
            ("epoch", number(lease.epoch)),
            ("chunks", number(part.index.chunks)),
            ("staged", number(self.calls.clock.wall().as_second())),
        ];
        self.update(&part.mark(), Change { set, ..Change::default() }, If::Anything, STAGING).await?;
        for (row, contents) in part.chunks() {
            let set = contents.into_values().map(|value| ("contents", value)).collect();
            if let Updated::Refused =
                self.update(&row, Change { set, ..Change::default() }, If::Anything, STAGING).await?
            {
                return Err(Self::busy(STAGING));
            }
        }
        Ok(())
    }

    /// Deletes what was staged of a batch that was not kept, and cannot be any more from now on, though its transaction be on
    /// its way still. If that fails, its marks say so to a later try.
    pub(super) async fn unstage(&self, batch: &Batch) {
        for Part { index, .. } in batch.parts.iter().filter(|_| batch.is_staged()) {
            if let Err(error) = self.sweep_mark(index.batch, index.chunks).await {
                tracing::warn!(%error, "contents of events that were not kept are deleted later");
            }
        }
    }

    /// Sweeps what former owners of `lease` staged and never kept.
    pub(super) async fn sweep_staged(&self, lease: &Lease) -> Result<(), StoreError> {
        let is_former = |mark: &Item| number_of::<u64>(mark, "epoch").is_some_and(|epoch| epoch < lease.epoch);
        self.sweep_staged_by(|mark| text_of(mark, "lease") == Some(lease.name.as_str()) && is_former(mark)).await
    }

    /// Sweeps what was staged before `time` under the lease of this name, by owners that share it, and never kept.
    pub(super) async fn sweep_staged_before(&self, lease: &str, time: Timestamp) -> Result<(), StoreError> {
        self.sweep_staged_by(|mark| text_of(mark, "lease") == Some(lease) && is_before(mark, time)).await
    }

    /// Sweeps what nobody keeps any more, whoever staged it: what could not be deleted when it was not kept, or is old.
    pub(super) async fn sweep_abandoned(&self) -> Result<(), StoreError> {
        let old = self.calls.clock.wall().saturating_sub(STAGING).unwrap_or(Timestamp::MIN);
        self.sweep_staged_by(|mark| number_of::<u64>(mark, "epoch") == Some(0) || is_before(mark, old)).await
    }

    /// What cannot be deleted keeps none of the others.
    async fn sweep_staged_by(&self, is_left: impl Fn(&Item) -> bool) -> Result<(), StoreError> {
        let mut swept = Ok(());
        for mark in self.all("staged", "", SWEEPING).await? {
            let name = text_of(&mark, "name").and_then(|name| name.parse().ok());
            if let Some((batch, chunks)) = name.zip(number_of(&mark, "chunks")).filter(|_| is_left(&mark)) {
                swept = swept.and(self.sweep_mark(batch, chunks).await);
            }
        }
        swept
    }

    /// The mark becomes nobody's first, so that it cannot be kept any more, and goes last.
    async fn sweep_mark(&self, batch: u64, chunks: usize) -> Result<(), StoreError> {
        let row = Row::new("staged", padded(batch));
        let nobodys = Change { set: vec![("epoch", number(0))], ..Change::default() };
        let seen = If::Has(vec![("chunks", number(chunks))]);
        if let Updated::Done(_) = self.update(&row, nobodys, seen, SWEEPING).await? {
            for row in (0..chunks).map(|chunk| chunk_row(batch, chunk)).chain([row]) {
                self.delete(&row, If::Anything, SWEEPING).await?;
            }
        }
        Ok(())
    }

    /// The contents of events in `index`, those that `wanted` wants, in their order. `None` if some of it is gone: somebody
    /// settled it meanwhile.
    pub(super) async fn contents<'a>(
        &self,
        index: &'a Index,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Option<Vec<(&'a Entry, Stored)>>, StoreError> {
        const READING: &str = "reading kept events";
        let mut chunks = HashMap::<usize, Vec<u8>>::new();
        let mut contents = Vec::new();
        for entry in index.entries.iter().filter(|entry| wanted(entry)) {
            let Entry(_, _, start, len) = entry;
            let mut bytes = Vec::with_capacity(*len);
            for chunk in start / CHUNK..(start + len).div_ceil(CHUNK) {
                if !chunks.contains_key(&chunk) {
                    let Some(found) = self.get(&chunk_row(index.batch, chunk), READING).await? else { return Ok(None) };
                    let found =
                        bytes_of(&found, "contents").ok_or_else(|| damaged("content", &index.row.name, "contents"))?;
                    // Events come in the order of their contents: chunks before this one are done with.
                    chunks.retain(|done, _| done + 1 >= chunk);
                    chunks.insert(chunk, found.to_vec());
                }
                let from = start.saturating_sub(chunk * CHUNK);
                let to = (start + len - chunk * CHUNK).min(CHUNK);
                let part = chunks.get(&chunk).and_then(|chunk| chunk.get(from..to));
                bytes.extend_from_slice(part.ok_or_else(|| damaged("content", &index.row.name, "contents"))?);
            }
            let stored = serde_json::from_slice(&bytes).map_err(|_| damaged("content", &index.row.name, "contents"))?;
            contents.push((entry, stored));
        }
        Ok(Some(contents))
    }
}

/// Whether it was staged before `time`.
fn is_before(mark: &Item, time: Timestamp) -> bool {
    number_of::<i64>(mark, "staged").is_some_and(|staged| staged < time.as_second())
}

/// A kept event as a relay knows it.
pub(super) fn kept(entry: &Entry, stored: &Stored) -> Result<Kept, StoreError> {
    let content = stored.content().map_err(|error| {
        damaged("content", &entry.0.to_string(), "contents").context(&format!("kept event {}: {error}", entry.0))
    })?;
    Ok(Kept {
        id: KeptId(entry.0),
        content,
        partition: PartitionId::new(&stored.partition),
        position: Position::new(&stored.position),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_as_many_events_as_it_takes_fits_an_item() {
        let row = Undecodable { id: "e".into(), key: None, reason: "r".to_owned(), raw: vec![0; 2_500].into() };
        let stored = Stored::new(&KeptContent::Undecodable(row), "shard", "1").unwrap();
        let events = vec![("f".repeat(32), stored); INDEXED + 1];
        let batch = Batch::new(&"l".repeat(1_000), u64::MAX - 10_000, &events).unwrap();
        let sizes: Vec<_> = batch.parts.iter().map(|part| part.entries.len()).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size < CHUNK), "{sizes:?}");
        let numbers = batch.parts.iter().flat_map(|part| &part.index.entries).map(|entry| entry.0);
        assert!(numbers.eq((u64::MAX - 10_000..).take(INDEXED + 1)));
    }
}
