//! Entries that the stream left out between two of a batch. They are fetched, and in no record of it: until they are done, the
//! answer asks for the record before them again. A batch that began behind it would not show that anything is missing.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

use outbox::{Content, Key, Lane, Place, Position, Record, bookkeeping::KeptContent, pipeline::FARTHEST};

use super::invocation::Invocation;

/// What was fetched of each key, by sequence; none where an entry is nowhere.
pub(super) type Fetched = BTreeMap<Key, BTreeMap<u64, Option<Arc<Record>>>>;

/// What was left out between two entries of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    key: Key,
    /// The place of the entry before, without an index, and of its record in the batch.
    after: Place,
    before: usize,
    /// The place in the batch of the record behind.
    at: usize,
    missing: RangeInclusive<u64>,
}

/// What is missing before each of the entries in their turns, by the position behind it.
pub(super) fn gaps(turns: &[(usize, Arc<Record>)]) -> HashMap<Position, Gap> {
    let mut last: BTreeMap<&Key, (usize, Place)> = BTreeMap::new();
    let mut gaps = HashMap::new();
    for (at, record) in turns {
        let first = record.events().first();
        let Some((key, placing)) = first.and_then(|event| Some((event.key()?, event.placing()?))) else { continue };
        let (place, follows) = (whole(placing.place), whole(placing.after));
        let Some((before, after)) = last.insert(key, (*at, place)) else { continue };
        let missing = missing(after, place, follows);
        if !missing.is_empty() {
            let gap = Gap { key: key.clone(), after, before, at: *at, missing };
            gaps.insert(record.position.clone(), gap);
        }
    }
    gaps
}

fn whole(place: Place) -> Place {
    Place::new(place.incarnation, place.sequence, 0)
}

/// As the pipeline judges it, for which `after` is the key's mark.
fn missing(after: Place, place: Place, follows: Place) -> RangeInclusive<u64> {
    let end = if place.incarnation == after.incarnation {
        place.sequence.saturating_sub(1)
    } else if follows <= after {
        after.sequence
    } else {
        follows.sequence
    };
    let missing = after.sequence + 1..=end;
    // Nothing within a leap is waited for.
    if end.saturating_sub(after.sequence) > FARTHEST { RangeInclusive::new(1, 0) } else { missing }
}

impl Gap {
    /// Whether `record` is the missing entry with this sequence.
    fn is_of(&self, sequence: u64, record: &Record) -> bool {
        if !self.missing.contains(&sequence) {
            return false;
        }
        match &record.content {
            Content::Undecodable(_) => true,
            Content::Events(events) => events.first().is_some_and(|event| {
                let place = event.placing().map(|placing| whole(placing.place));
                event.key() == Some(&self.key)
                    && place.is_some_and(|place| place.sequence == sequence && place > self.after)
            }),
        }
    }
}

impl Invocation<'_> {
    /// Notes what was found of what was asked for.
    pub(super) fn found(&mut self, key: &Key, sequences: &[u64], records: &[Option<Arc<Record>>]) {
        for (sequence, record) in sequences.iter().zip(records) {
            let Some(record) = record else { continue };
            if self.gaps.values().any(|gap| gap.key == *key && gap.is_of(*sequence, record)) {
                self.fetched.entry(key.clone()).or_default().insert(*sequence, Some(record.clone()));
            }
        }
    }

    /// Notes what is nowhere, and not waited for any longer.
    pub(super) fn lost(&mut self, key: &Key, sequences: &[u64]) {
        let lost = sequences.iter().map(|sequence| (*sequence, None));
        self.fetched.entry(key.clone()).or_default().extend(lost);
    }

    /// All that was fetched.
    pub(super) fn all_fetched(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.fetched.values().flat_map(BTreeMap::values).flatten()
    }

    /// Entries that were fetched for this one, in their order, but for rows that the batch has as well.
    pub(super) fn fetched_before(&self, record: &Record) -> Vec<&Arc<Record>> {
        self.gaps.get(&record.position).map_or_else(Vec::new, |gap| self.fetched_in(gap))
    }

    fn fetched_in(&self, gap: &Gap) -> Vec<&Arc<Record>> {
        let Some(fetched) = self.fetched.get(&gap.key) else { return Vec::new() };
        let found = fetched.range(gap.missing.clone()).filter_map(|(_, found)| found.as_ref());
        found.filter(|found| !self.is_handed_in(found)).collect()
    }

    fn is_handed_in(&self, found: &Record) -> bool {
        let Content::Undecodable(row) = &found.content else { return false };
        self.entries.iter().any(|(_, record)| matches!(&record.content, Content::Undecodable(of) if of.id == row.id))
    }

    /// Whether something before this entry is missing still.
    pub(super) fn misses(&self, record: &Record) -> bool {
        self.gaps.get(&record.position).is_some_and(|gap| !self.is_bridged(gap))
    }

    fn is_bridged(&self, gap: &Gap) -> bool {
        let fetched = self.fetched.get(&gap.key);
        fetched.is_some_and(|fetched| gap.missing.clone().all(|sequence| fetched.contains_key(&sequence)))
    }

    /// Whether all that is missing in a lane was fetched, or is nowhere.
    pub(super) fn is_whole(&self, lane: &Lane) -> bool {
        let Lane::Key(key) = lane else { return true };
        self.gaps.values().filter(|gap| gap.key == *key && gap.at >= self.prefix).all(|gap| self.is_bridged(gap))
    }

    /// Of so many records that are done, those that may be answered for.
    pub(super) fn answerable(&self, done: usize) -> usize {
        let is_open = |gap: &&Gap| {
            !self.is_bridged(gap) || self.fetched_in(gap).into_iter().any(|found| !self.open_in(found).is_empty())
        };
        let cut = self.gaps.values().filter(|gap| gap.before < done && gap.at >= done).filter(is_open);
        cut.map(|gap| gap.before).min().unwrap_or(done)
    }

    /// What is durably kept is done. What was fetched is kept at the position of the record behind it.
    pub(super) fn finish_kept(&mut self, kept: &[(KeptContent, Position)]) {
        for (content, position) in kept {
            let position = if self.is_of_batch(content, position) {
                Some(position.clone())
            } else {
                self.all_fetched().find(|record| holds(record, content)).map(|record| record.position.clone())
            };
            if let Some(position) = position {
                self.finish(&position, content.index());
            }
        }
    }

    /// Whether a kept event is of the record at its position.
    fn is_of_batch(&self, content: &KeptContent, position: &Position) -> bool {
        let record = self.entries.iter().find(|(_, record)| record.position == *position);
        record.is_some_and(|(_, record)| holds(record, content))
    }
}

fn holds(record: &Record, content: &KeptContent) -> bool {
    match (&record.content, content) {
        (Content::Events(events), KeptContent::Event(event)) => events.contains(event),
        (Content::Undecodable(row), KeptContent::Undecodable(kept)) => row.id == kept.id,
        (Content::Events(_), KeptContent::Undecodable(_)) | (Content::Undecodable(_), KeptContent::Event(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use outbox_aws::dynamodb::EntryReader;
    use serde_json::json;

    use super::*;
    use crate::{
        batch::Batch,
        forwarder::turns::{in_turn, tests::record},
    };

    #[test]
    fn what_is_missing_between_two_entries_of_a_key_is_known_before_it_is_fetched() {
        let records = [record("a", 5), record("bb", 2), record("a", 8), record("bb", 3), record("a", 9)];
        let payload = json!({ "Records": records }).to_string();
        let batch = Batch::read(&payload, &EntryReader::new("/carts")).unwrap();
        let gaps = gaps(&in_turn(&batch));
        let found: Vec<_> = gaps.values().map(|gap| (gap.key.as_str(), gap.before, gap.at, &gap.missing)).collect();
        assert_eq!(found, [("a", 0, 2, &(6..=7))]);
    }

    #[test]
    fn nothing_is_missing_where_the_history_went_back() {
        let place = |incarnation, sequence| Place::new(incarnation, sequence, 0);
        assert_eq!(missing(place(1, 7), place(2, 9), place(2, 8)), 8..=8);
        assert!(missing(place(1, 7), place(2, 7), place(1, 6)).is_empty());
        assert!(missing(place(2, 5), place(3, 10), place(1, 9)).is_empty());
    }

    #[test]
    fn nothing_is_missing_within_a_leap() {
        let place = |sequence| Place::new(1, sequence, 0);
        assert_eq!(missing(place(7), place(8 + FARTHEST), place(7 + FARTHEST)), 8..=7 + FARTHEST);
        assert!(missing(place(7), place(9 + FARTHEST), place(8 + FARTHEST)).is_empty());
    }
}
