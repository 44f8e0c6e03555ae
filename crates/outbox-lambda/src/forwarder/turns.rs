//! In which order the entries of a batch are published, and what of the batch is done when some of them are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use outbox::{Key, Position, Record};

use crate::batch::Batch;

/// Entries, each with its record's place in the batch.
type Entries = Vec<(usize, Arc<Record>)>;

/// Where an entry stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// So many records of the batch are before its own.
    pub(super) at: usize,
    /// So many of the first records are done where the done prefix of the entries in their turns ends behind it.
    pub(super) done: usize,
}

/// The entries of a batch; those of a key in their order, should the stream have them in another one: what comes first of a
/// key is taken for its beginning.
pub(super) fn in_turn(batch: &Batch) -> Entries {
    let handed = batch.records.iter().enumerate();
    let entries: Entries = handed.filter_map(|(at, handed)| Some((at, handed.entry.clone()?))).collect();
    let mut keys: BTreeMap<&Key, Vec<(outbox::Place, usize)>> = BTreeMap::new();
    for (slot, (_, record)) in entries.iter().enumerate() {
        let first = record.events().first();
        if let Some((key, placing)) = first.and_then(|event| Some((event.key()?, event.placing()?))) {
            keys.entry(key).or_default().push((placing.place, slot));
        }
    }
    let mut turns = entries.clone();
    for swapped in keys.values().filter(|placed| !placed.is_sorted()) {
        let mut sorted = swapped.clone();
        sorted.sort_unstable();
        for ((_, slot), (_, from)) in swapped.iter().zip(sorted) {
            turns[*slot].clone_from(&entries[from]);
        }
    }
    turns
}

/// Where each of the entries stands, in their turns, in a batch of so many records, by the position behind it.
pub(super) fn places(turns: &[(usize, Arc<Record>)], records: usize) -> HashMap<Position, Place> {
    let mut done = records;
    let places = turns.iter().rev().map(|(at, entry)| {
        let place = Place { at: *at, done };
        // What comes later in its turn is not done yet, wherever it stands in the batch.
        done = done.min(*at);
        (entry.position.clone(), place)
    });
    places.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use outbox_aws::dynamodb::EntryReader;
    use serde_json::json;

    use super::*;

    pub(in crate::forwarder) fn record(key: &str, sequence: u32) -> serde_json::Value {
        let after = format!("1.{}.0", sequence - 1);
        json!({ "eventName": "INSERT", "dynamodb": {
            "SequenceNumber": format!("{}{sequence}", key.len()), "ApproximateCreationDateTime": 1_795_000_000,
            "Keys": { "key": { "S": key }, "sequence": { "N": sequence.to_string() } },
            "NewImage": {
                "key": { "S": key }, "sequence": { "N": sequence.to_string() }, "incarnation": { "N": "1" },
                "after": { "S": after }, "count": { "N": "1" }, "commit_id": { "B": "BwcHBwcHBwcHBwcHBwcHBw==" },
                "recorded_at": { "N": "1795000000123" }, "expires_at": { "N": "1797592000" },
                "events": { "L": [{ "M": { "type": { "S": "cart.created" } } }] },
            },
        } })
    }

    #[test]
    fn entries_of_a_key_go_out_in_their_order_and_what_is_done_stays_in_the_batch_s() {
        let removed = json!({ "eventName": "REMOVE", "dynamodb": { "SequenceNumber": "9" } });
        let records = [record("a", 3), record("bb", 2), record("a", 2), removed.clone(), record("bb", 3), removed];
        let payload = json!({ "Records": records }).to_string();
        let batch = Batch::read(&payload, &EntryReader::new("/carts")).unwrap();
        let turns = in_turn(&batch);
        assert_eq!(turns.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 1, 0, 4]);
        let places = places(&turns, batch.records.len());
        let found = turns.iter().map(|(_, entry)| &places[&entry.position]).map(|place| (place.at, place.done));
        assert_eq!(found.collect::<Vec<_>>(), [(2, 0), (1, 0), (0, 4), (4, 6)], "the first one is done with the third");
    }
}
