//! Writing: what every writer promises, whatever the store.
//!
//! A writer puts entries into the caller's own transaction, so it is not one trait: each store's transaction has its
//! own type. What they share is here: what is asked for, what is given back, and what can go wrong.

use jiff::Timestamp;

use crate::{
    entry::CommitId,
    event::{AttributeError, AttributeValue, Key, NewEvent},
    place::Place,
};

/// The most events that one entry may hold.
pub const MAX_ENTRY_EVENTS: usize = 1_000;
/// The most payload bytes that one entry may hold: 8 MiB.
pub const MAX_ENTRY_BYTES: usize = 8 << 20;

/// Which version of a key the caller has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whichever is current.
    #[default]
    Any,
    /// The key's latest sequence was this when the caller read it; 0 if it had none. A write from another version is a
    /// [`WriteError::Conflict`].
    Sequence(u64),
}

/// What a write did, once its transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The key; `None` for an event without one.
    pub key: Option<Key>,
    /// The entry's commit id: what settles a lost commit answer.
    pub commit: CommitId,
    /// The place of the entry's first event; `None` without a key.
    pub first: Option<Place>,
    /// How many events the entry holds.
    pub count: u32,
}

/// What became of a commit whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The entry is there: it committed.
    Committed,
    /// It is not, and cannot come any more.
    NotCommitted,
    /// The entry with its number has been purged since: it cannot be told. Or it is not there, and nothing can keep a request
    /// that may still be on its way from taking effect.
    Unknown,
}

/// Why nothing was written. The caller's transaction is as it was before the call, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Another writer took the version that the caller had read: read the aggregate again, decide again.
    #[error("`{key}` is at sequence {actual}, not {expected}: read it again and decide again")]
    Conflict {
        /// The key.
        key: Key,
        /// What the caller expected.
        expected: u64,
        /// What is current.
        actual: u64,
    },
    /// An event is larger than a registered route's sink takes.
    #[error(
        "event {index} has {bytes} bytes (its payload, and three times its attributes), more than the {limit} that the routes of this store take: make it smaller, or put the payload elsewhere and write a reference"
    )]
    TooLarge {
        /// Which event of the call, from 0.
        index: usize,
        /// Its bytes, as [`counted_bytes`] counts them.
        bytes: usize,
        /// The limit.
        limit: u64,
    },
    /// More events or bytes than one entry takes.
    #[error(
        "one commit of `{key}` has {events} events and {bytes} bytes; an entry takes 1,000 events and 8 MiB: write several entries"
    )]
    EntryTooLarge {
        /// The key.
        key: String,
        /// Its events.
        events: usize,
        /// Their payload bytes.
        bytes: usize,
    },
    /// An attribute that is not allowed.
    #[error("event {index}: {error}")]
    Attribute {
        /// Which event of the call, from 0.
        index: usize,
        /// What is wrong.
        #[source]
        error: AttributeError,
    },
    /// The tables are missing or of another version.
    #[error("{0}")]
    Incompatible(String),
    /// Deadlock, serialization failure, or a lock held for too long: roll back and run the whole transaction again.
    #[error("{message}: roll back and run the whole transaction again")]
    RetryTransaction {
        /// What the store said.
        message: String,
    },
    /// Anything else that the store said: roll back.
    #[error("the entry could not be written: {message}")]
    Store {
        /// What the store said.
        message: String,
        /// The driver's error.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The events of one call that become one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryPlan {
    /// The key; `None` for a single event without one.
    pub key: Option<Key>,
    /// The events, in the caller's order, each with its number in the call.
    pub events: Vec<(usize, NewEvent)>,
}

/// Sorts the events of one call into entries: one for each key, keys in sorted order so that writers never wait for
/// each other in a circle, then one for each event without a key, in the caller's order.
///
/// # Errors
/// [`WriteError::EntryTooLarge`] if a key has more than [`MAX_ENTRY_EVENTS`] or [`MAX_ENTRY_BYTES`].
pub fn plan(events: impl IntoIterator<Item = NewEvent>) -> Result<Vec<EntryPlan>, WriteError> {
    let mut keyed = std::collections::BTreeMap::<Key, Vec<(usize, NewEvent)>>::new();
    let mut keyless = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        match event.key.clone() {
            Some(key) => keyed.entry(key).or_default().push((index, event)),
            None => keyless.push(EntryPlan { key: None, events: vec![(index, event)] }),
        }
    }
    let mut plans: Vec<_> = keyed.into_iter().map(|(key, events)| EntryPlan { key: Some(key), events }).collect();
    plans.extend(keyless);
    for plan in &plans {
        let bytes = plan.events.iter().map(|(_, event)| event.data.as_ref().map_or(0, bytes::Bytes::len)).sum();
        if plan.events.len() > MAX_ENTRY_EVENTS || bytes > MAX_ENTRY_BYTES {
            let key = plan.key.as_ref().map_or_else(|| "(no key)".to_owned(), Key::to_string);
            return Err(WriteError::EntryTooLarge { key, events: plan.events.len(), bytes });
        }
    }
    Ok(plans)
}

/// What a writer counts of an event against the limit of the registered routes: its payload, and three times its
/// attributes as JSON, for so much an encoding may make of them (a subject, a time, a schema and extensions; the others
/// are short). A limit of [`SinkLimits::max_counted_bytes`](crate::SinkLimits::max_counted_bytes) lets through only what
/// fits the sink.
pub fn counted_bytes(event: &NewEvent) -> usize {
    let text = |text: &str| text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count() + 2;
    let core = [
        event.subject().map(|subject| "subject".len() + text(subject)),
        event.time().map(|time| "time".len() + text(&time.to_string())),
        event.schema().map(|schema| "dataschema".len() + text(schema)),
    ];
    let extensions = event.extensions().map(|(name, value)| {
        let value = match value {
            AttributeValue::Text(value) => text(value),
            AttributeValue::Boolean(_) | AttributeValue::Integer(_) => value.text().len(),
        };
        name.len() + value
    });
    // With quotation marks, a colon, and a comma or a bracket each; the other bracket once.
    let (count, bytes) = core.into_iter().flatten().chain(extensions).fold((0, 0), |(n, sum), one| (n + 1, sum + one));
    let attributes = if count == 0 { 0 } else { bytes + 4 * count + 1 };
    event.data().map_or(0, bytes::Bytes::len) + 3 * attributes
}

/// The id of an event without a key to which its writer gave none: a UUID version 7 (RFC 9562) of the time it is
/// written.
pub fn time_ordered_id(now: Timestamp, entropy: &dyn crate::clock::Entropy) -> String {
    let mut random = [0; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: Option<&str>) -> NewEvent {
        let builder = NewEvent::builder("t").json(&1);
        key.map_or(builder.clone(), |key| builder.key(key)).build().unwrap()
    }

    #[test]
    fn events_of_a_key_share_an_entry_and_keys_are_sorted() {
        let plans = plan([event(Some("b")), event(None), event(Some("a")), event(Some("b"))]).unwrap();
        let shape: Vec<_> = plans
            .iter()
            .map(|plan| {
                (plan.key.as_ref().map(Key::as_str), plan.events.iter().map(|(index, _)| *index).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(shape, [(Some("a"), vec![2]), (Some("b"), vec![0, 3]), (None, vec![1])]);
    }

    #[test]
    fn more_events_than_an_entry_takes_are_refused() {
        let error = plan((0..=MAX_ENTRY_EVENTS).map(|_| event(Some("k")))).unwrap_err();
        assert!(matches!(error, WriteError::EntryTooLarge { events: 1001, .. }), "{error}");
    }
}
