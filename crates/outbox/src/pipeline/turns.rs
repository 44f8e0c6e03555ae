//! Taking entries in their turn, where a source was only ever seen to keep the order of a key: what comes again is done
//! with, what comes too early waits until what it misses has come or was fetched.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Disorder, Effect, FetchId,
    machine::Pipeline,
    marks::{Entry, Mark, Marks, Turn},
};
use crate::{
    clock::Moment,
    entry::{Content, Record},
    event::Key,
    place::Place,
};

/// How the order of a source is watched that does not promise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Recent keys whose mark is remembered; at least 1. What comes late, early or again can be told only of these.
    pub keys: usize,
    /// How long an entry that others of its key follow is asked for before the key goes on without it. It is missing
    /// from the table as well then, so something is wrong: [`Effect::Gap`].
    pub patience: Duration,
}

impl Default for Observed {
    /// 10,000 keys, 60 seconds.
    fn default() -> Self {
        Self { keys: 10_000, patience: Duration::from_secs(60) }
    }
}

/// Whose turn it is.
pub(super) struct Turns {
    pub(super) patience: Duration,
    marks: Marks,
    /// Keys of which something is missing. Their marks are here, so that none is forgotten meanwhile.
    pub(super) waiting: BTreeMap<Key, Wait>,
    /// Those that can be asked for, the one furthest back first.
    pub(super) to_ask: BTreeMap<u64, Key>,
    /// Those that are asked for again at a time.
    timers: BTreeMap<(Moment, u64), Key>,
    pub(super) fetches: BTreeMap<FetchId, (Key, Vec<u64>)>,
    pub(super) next_fetch: u64,
}

/// A key of which something is missing.
pub(super) struct Wait {
    /// The slot that showed it first: its number in the queue.
    ticket: u64,
    pub(super) mark: Mark,
    /// What came since, by place: slots, each with its predecessor's place. The first one misses something.
    held: BTreeMap<(Place, u64), Place>,
    pub(super) ask: Ask,
    /// Vain attempts in a row.
    pub(super) failures: u32,
    /// Since when it is known that an entry is not in the table.
    pub(super) absent: Option<Moment>,
}

pub(super) enum Ask {
    Queued,
    Asked(FetchId),
    At(Moment),
}

impl Turns {
    pub(super) fn new(observed: Observed) -> Self {
        Self {
            patience: observed.patience,
            marks: Marks::new(observed.keys),
            waiting: BTreeMap::new(),
            to_ask: BTreeMap::new(),
            timers: BTreeMap::new(),
            fetches: BTreeMap::new(),
            next_fetch: 0,
        }
    }

    /// When something is to be asked for again.
    pub(super) fn due(&self) -> Option<Moment> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// A row came that has no place that could be read. It goes its way; a fetch may find it again.
    fn note_unplaced(&mut self, record: &Record) {
        let Content::Undecodable(row) = &record.content else { return };
        let Some(key) = &row.key else { return };
        let mark = match self.waiting.get_mut(key) {
            Some(wait) => Some(&mut wait.mark),
            None => self.marks.get_mut(key),
        };
        if let Some(mark) = mark {
            mark.note_unread(&row.id);
        }
    }

    pub(super) fn fire_timers(&mut self, now: Moment) {
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, ticket), key) = first.remove_entry();
            if let Some(wait) = self.waiting.get_mut(&key) {
                wait.ask = Ask::Queued;
                self.to_ask.insert(ticket, key);
            }
        }
    }

    /// Something is missing still: the key is asked for as `wait` says.
    pub(super) fn wait(&mut self, key: Key, wait: Wait) {
        match wait.ask {
            Ask::Queued => drop(self.to_ask.insert(wait.ticket, key.clone())),
            Ask::At(due) => drop(self.timers.insert((due, wait.ticket), key.clone())),
            Ask::Asked(_) => {}
        }
        self.waiting.insert(key, wait);
    }

    /// Takes a waiting key out.
    fn resume(&mut self, key: &Key) -> Option<Wait> {
        let wait = self.waiting.remove(key)?;
        match wait.ask {
            Ask::Queued => drop(self.to_ask.remove(&wait.ticket)),
            Ask::At(due) => drop(self.timers.remove(&(due, wait.ticket))),
            Ask::Asked(_) => {}
        }
        Some(wait)
    }

    /// The key that waits for `fetch`, and what was asked for. An answer that nobody waits for any more is ignored.
    pub(super) fn answered(&mut self, fetch: FetchId) -> Option<(Key, Wait, Vec<u64>)> {
        let (key, sequences) = self.fetches.remove(&fetch)?;
        let waits = self.waiting.get(&key).is_some_and(|wait| matches!(wait.ask, Ask::Asked(of) if of == fetch));
        let wait = if waits { self.resume(&key) } else { None };
        Some((key, wait?, sequences))
    }
}

impl Wait {
    /// The first record that came too early: its slot, and the entry that it holds.
    pub(super) fn first(&self) -> Option<(u64, Entry)> {
        self.held.first_key_value().map(|(&(at, slot), &after)| (slot, Entry { at, after }))
    }
}

impl Pipeline {
    /// Takes a record in, if its turn has come.
    pub(super) fn take_in_turn(&mut self, record: &Arc<Record>, effects: &mut Vec<Effect>) {
        let slot = self.window.push(record.clone());
        let Some(turns) = &mut self.turns else { return };
        let Some((key, entry)) = Entry::of(record) else {
            turns.note_unplaced(record);
            self.spread(slot, 0, record, &record.position);
            return;
        };
        if let Some(mut wait) = turns.resume(key) {
            wait.held.insert((entry.at, slot), entry.after);
            self.go_on(key, wait, effects);
            return;
        }
        let Some(mut mark) = turns.marks.take(key) else {
            turns.marks.put(key.clone(), Mark::first(entry));
            self.spread(slot, 0, record, &record.position);
            return;
        };
        let taken = self.take_turn(&mut mark, slot, record, effects);
        let Some(turns) = &mut self.turns else { return };
        if taken {
            turns.marks.put(key.clone(), mark);
        } else {
            let held = BTreeMap::from([((entry.at, slot), entry.after)]);
            turns.wait(key.clone(), Wait { ticket: slot, mark, held, ask: Ask::Queued, failures: 0, absent: None });
        }
    }

    /// Takes what a waiting key holds, as far as nothing is missing.
    pub(super) fn go_on(&mut self, key: &Key, mut wait: Wait, effects: &mut Vec<Effect>) {
        while let Some((slot, _)) = wait.first() {
            let Some(record) = self.window.record(slot).cloned() else { break };
            if !self.take_turn(&mut wait.mark, slot, &record, effects) {
                break;
            }
            wait.held.pop_first();
        }
        let Some(turns) = &mut self.turns else { return };
        if wait.held.is_empty() {
            turns.marks.put(key.clone(), wait.mark);
        } else {
            turns.wait(key.clone(), wait);
        }
    }

    /// Does with the record of a slot what its key's mark says; false if it misses a predecessor.
    fn take_turn(&mut self, mark: &mut Mark, slot: u64, record: &Record, effects: &mut Vec<Effect>) -> bool {
        let Some((key, entry)) = Entry::of(record) else { return true };
        let disorder = match mark.judge(entry) {
            Turn::Missing(_) => return false,
            Turn::Next => {
                mark.take(entry);
                None
            }
            Turn::Leap => {
                mark.leap(entry);
                Some(Disorder::Leap)
            }
            Turn::Duplicate => Some(Disorder::Duplicate),
            Turn::Inversion => Some(Disorder::Inversion),
        };
        match disorder {
            Some(Disorder::Duplicate) => (0..record.len()).for_each(|_| self.window.done(slot)),
            // It may never have gone out: late is better than never.
            Some(Disorder::Inversion | Disorder::Leap) | None => self.spread(slot, 0, record, &record.position),
        }
        if let Some(disorder) = disorder {
            effects.push(Effect::OutOfTurn { key: key.clone(), place: entry.at, disorder });
        }
        true
    }
}
