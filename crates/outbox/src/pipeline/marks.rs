//! What is known of the order of recent keys, where a source was only ever seen to keep it.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{entry::Record, event::Key, place::Place};

/// So many numbers of a key may lie between two entries of it for those between to be waited for. A source that was seen to keep
/// the order lets fewer pass by; more is a number that somebody made up, and a key of which billions are waited for stands for
/// ever.
pub const FARTHEST: u64 = 1 << 16;

/// So many rows of a key that could not be read are remembered.
const UNREAD: usize = 16;

/// Where an entry stands within its key: the places of its first event and of the entry before, both without an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: Place,
    pub(super) after: Place,
}

impl Entry {
    /// The entry that a record holds, and its key; none if it has no key or no place.
    pub(super) fn of(record: &Record) -> Option<(&Key, Self)> {
        let first = record.events().first()?;
        let placing = first.placing()?;
        let whole = |place: Place| Place { index: 0, ..place };
        Some((first.key()?, Self { at: whole(placing.place), after: whole(placing.after) }))
    }
}

/// What a key's mark says of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It follows what was taken last.
    Next,
    /// It was taken before.
    Duplicate,
    /// It stands before all that was seen of its key: nobody knows whether it was taken.
    Inversion,
    /// Entries with these sequences come before it.
    Missing(RangeInclusive<u64>),
    /// It is so far beyond what was taken last that nothing between is waited for.
    Leap,
}

/// What was seen of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// All from here to `last` was taken.
    base: Place,
    /// What was taken last.
    last: Place,
    /// Rows of the key behind `last` that could not be read, and went their way.
    unread: Vec<Arc<str>>,
}

impl Mark {
    /// The mark of a key of which `entry` is the first that was seen.
    pub(super) fn first(entry: Entry) -> Self {
        Self { base: entry.at, last: entry.at, unread: Vec::new() }
    }

    pub(super) fn judge(&self, entry: Entry) -> Turn {
        let Entry { at, after } = entry;
        if at < self.base {
            return Turn::Inversion;
        }
        if at <= self.last {
            return Turn::Duplicate;
        }
        // Sequences go on where the incarnation rises, so what lies between is counted the same. If nothing does, the
        // mark stands on a history that is none any more.
        let before = if at.incarnation == self.last.incarnation {
            at.sequence - 1
        } else if after <= self.last {
            return Turn::Next;
        } else {
            after.sequence
        };
        match before.saturating_sub(self.last.sequence) {
            0 => Turn::Next,
            1..=FARTHEST => Turn::Missing(self.last.sequence + 1..=before),
            _ => Turn::Leap,
        }
    }

    /// The entry was taken. A new incarnation is judged by itself: the numbers of the one before may mean others.
    pub(super) fn take(&mut self, entry: Entry) {
        if entry.at.incarnation > self.last.incarnation {
            self.base = entry.at;
        }
        self.last = entry.at;
        self.unread.clear();
    }

    /// The entry was taken, and nothing is known of those between. If they come after all, they are published.
    pub(super) fn leap(&mut self, entry: Entry) {
        self.take(entry);
        self.base = entry.at;
    }

    /// Goes on behind an entry that was found and cannot be read.
    pub(super) fn pass(&mut self, sequence: u64) {
        self.last.sequence = sequence;
    }

    /// Goes on without an entry that was not found. If it comes after all, it is published.
    pub(super) fn skip(&mut self, sequence: u64) {
        self.last.sequence = sequence;
        self.base = Place { sequence: sequence + 1, ..self.last };
        self.unread.clear();
    }

    /// What was taken last.
    pub(super) fn last(&self) -> Place {
        self.last
    }

    /// A row of the key came that could not be read: it has a place, and nobody knows which.
    pub(super) fn note_unread(&mut self, row: &Arc<str>) {
        if self.unread.len() == UNREAD {
            self.unread.remove(0);
        }
        self.unread.push(row.clone());
    }

    pub(super) fn is_noted(&self, row: &Arc<str>) -> bool {
        self.unread.contains(row)
    }
}

/// The marks of recent keys. The key that was seen least recently is forgotten first.
pub(super) struct Marks {
    limit: usize,
    of: FxHashMap<Key, (u64, Mark)>,
    /// The keys, by when they were seen.
    seen: BTreeMap<u64, Key>,
    next: u64,
}

impl Marks {
    /// Marks of `limit` keys at most, and of one at least.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), of: FxHashMap::default(), seen: BTreeMap::new(), next: 0 }
    }

    /// Takes a key's mark out.
    pub(super) fn take(&mut self, key: &Key) -> Option<Mark> {
        let (seen, mark) = self.of.remove(key)?;
        self.seen.remove(&seen);
        Some(mark)
    }

    /// Puts a key's mark in, as the one that was seen most recently.
    pub(super) fn put(&mut self, key: Key, mark: Mark) {
        self.take(&key);
        if self.of.len() == self.limit
            && let Some((_, oldest)) = self.seen.pop_first()
        {
            self.of.remove(&oldest);
        }
        self.next += 1;
        self.seen.insert(self.next, key.clone());
        self.of.insert(key, (self.next, mark));
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Mark> {
        self.of.get_mut(key).map(|(_, mark)| mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(incarnation: u32, sequence: u64, after: (u32, u64)) -> Entry {
        Entry { at: Place::new(incarnation, sequence, 0), after: Place::new(after.0, after.1, 0) }
    }

    /// A mark that took `from` to `to` of the first incarnation.
    fn mark(from: u64, to: u64) -> Mark {
        let mut mark = Mark::first(entry(1, from, (1, from - 1)));
        (from + 1..=to).for_each(|sequence| mark.take(entry(1, sequence, (1, sequence - 1))));
        mark
    }

    #[test]
    fn an_entry_is_judged_by_what_was_taken_of_its_key() {
        let mark = mark(5, 7);
        assert_eq!(mark.judge(entry(1, 8, (1, 7))), Turn::Next);
        assert_eq!(mark.judge(entry(1, 7, (1, 6))), Turn::Duplicate);
        assert_eq!(mark.judge(entry(1, 5, (1, 4))), Turn::Duplicate);
        assert_eq!(mark.judge(entry(1, 4, (1, 3))), Turn::Inversion);
        assert_eq!(mark.judge(entry(1, 11, (1, 10))), Turn::Missing(8..=10));
    }

    #[test]
    fn an_entry_far_beyond_the_mark_is_a_leap_and_what_lies_between_is_published_if_it_comes() {
        let mut mark = mark(5, 7);
        let far = 7 + FARTHEST + 1;
        assert_eq!(mark.judge(entry(1, far, (1, far - 1))), Turn::Missing(8..=far - 1));
        assert_eq!(mark.judge(entry(2, far, (2, far - 1))), Turn::Missing(8..=far - 1));
        assert_eq!(mark.judge(entry(1, far + 1, (1, far))), Turn::Leap);
        assert_eq!(mark.judge(entry(2, far + 1, (2, far))), Turn::Leap);
        mark.leap(entry(1, far + 1, (1, far)));
        assert_eq!(mark.judge(entry(1, 8, (1, 7))), Turn::Inversion);
        assert_eq!(mark.judge(entry(1, far + 1, (1, far))), Turn::Duplicate);
        assert_eq!(mark.judge(entry(1, far + 2, (1, far + 1))), Turn::Next);
    }

    #[test]
    fn a_higher_incarnation_goes_on_where_its_predecessor_is_the_mark_or_before_it() {
        let mark = mark(5, 7);
        assert_eq!(mark.judge(entry(2, 8, (1, 7))), Turn::Next);
        assert_eq!(mark.judge(entry(2, 7, (1, 6))), Turn::Next, "the history went back behind the mark");
        assert_eq!(mark.judge(entry(2, 9, (2, 8))), Turn::Missing(8..=8));
        assert_eq!(mark.judge(entry(2, 7, (2, 6))), Turn::Next, "the mark stands on a lost history");
    }

    #[test]
    fn within_an_incarnation_an_entry_is_judged_by_its_number_alone() {
        let mut mark = mark(4, 4);
        mark.take(entry(2, 5, (1, 4)));
        assert_eq!(mark.judge(entry(2, 9, (1, 8))), Turn::Missing(6..=8));
    }

    #[test]
    fn nothing_of_a_higher_incarnation_is_a_duplicate_of_what_was_taken_before_it() {
        let mut mark = mark(5, 10);
        mark.take(entry(2, 10, (2, 9)));
        assert_eq!(mark.judge(entry(2, 9, (2, 8))), Turn::Inversion);
        assert_eq!(mark.judge(entry(2, 10, (2, 9))), Turn::Duplicate);
    }

    #[test]
    fn what_was_skipped_is_no_duplicate_when_it_comes_after_all() {
        let mut mark = mark(5, 7);
        mark.skip(8);
        assert_eq!(mark.judge(entry(1, 9, (1, 8))), Turn::Next);
        mark.take(entry(1, 9, (1, 8)));
        assert_eq!(mark.judge(entry(1, 8, (1, 7))), Turn::Inversion);
        assert_eq!(mark.judge(entry(1, 9, (1, 8))), Turn::Duplicate);
    }

    #[test]
    fn the_key_seen_least_recently_is_forgotten_first() {
        let key = |name: &str| Key::new(name).unwrap();
        let mut marks = Marks::new(2);
        marks.put(key("a"), mark(1, 1));
        marks.put(key("b"), mark(1, 1));
        marks.put(key("a"), mark(1, 2));
        marks.put(key("c"), mark(1, 1));
        assert!(marks.get_mut(&key("b")).is_none());
        assert_eq!(marks.take(&key("a")), Some(mark(1, 2)));
        assert!(marks.get_mut(&key("c")).is_some());
    }
}
