//! Fetching what is missing: the predecessors of an entry that came too early.

use std::sync::Arc;

use super::{
    Effect, FetchId,
    machine::Pipeline,
    marks::{Entry, Mark, Turn},
    turns::{Ask, Wait},
};
use crate::{
    backoff,
    clock::Moment,
    entry::{Content, Record},
    event::Key,
};

/// So many entries are fetched at a time,
const FETCH_ENTRIES: usize = 16;
/// by so many fetches under way.
const FETCHES: usize = 4;

impl Pipeline {
    /// Asks for what is missing: few entries at a time, and while the window is full for no more than one key.
    pub(super) fn ask_for_missing(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Some(turns) = &mut self.turns else { return };
        turns.fire_timers(now);
        let mut passed_over = 0;
        while turns.fetches.len() < FETCHES {
            let Some((&ticket, key)) = turns.to_ask.range(passed_over..).next() else { break };
            let idle = turns.fetches.is_empty() && !self.window.is_carrying();
            if self.window.credit().events == 0 && !idle {
                break;
            }
            passed_over = ticket + 1;
            let key = key.clone();
            let Some(wait) = turns.waiting.get_mut(&key) else { continue };
            let Some((slot, entry)) = wait.first() else { continue };
            let Turn::Missing(missing) = wait.mark.judge(entry) else { continue };
            if self.window.carries(slot) {
                continue;
            }
            turns.next_fetch += 1;
            let (fetch, sequences) = (FetchId(turns.next_fetch), missing.take(FETCH_ENTRIES).collect::<Vec<_>>());
            wait.ask = Ask::Asked(fetch);
            turns.to_ask.remove(&ticket);
            turns.fetches.insert(fetch, (key.clone(), sequences.clone()));
            effects.push(Effect::FetchMissing { fetch, key, sequences });
        }
    }

    pub(super) fn fetched(
        &mut self,
        now: Moment,
        fetch: FetchId,
        records: Vec<Option<Arc<Record>>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(turns) = &mut self.turns else { return };
        let patience = turns.patience;
        let Some((key, mut wait, sequences)) = turns.answered(fetch) else { return };
        let Some((slot, first)) = wait.first().filter(|_| records.len() == sequences.len()) else {
            // Entries that can't be told apart are none.
            self.ask_again(now, key, wait);
            return;
        };
        let given_up = wait.absent.is_some_and(|since| now >= since + patience);
        let found = sequences.into_iter().zip(records).filter(|(sequence, _)| *sequence < first.at.sequence);
        let (lost, absent) = self.take_found(&key, &mut wait, slot, given_up, found);
        if !lost.is_empty() {
            effects.push(Effect::Gap { key: key.clone(), sequences: lost });
        }
        if absent {
            wait.absent.get_or_insert(now);
            wait.ask = self.next_attempt(now, &mut wait);
        } else {
            wait.ask = Ask::Queued;
        }
        self.go_on(&key, wait, effects);
    }

    /// Takes what was found, up to what was not. What was looked for in vain for long enough is lost: it is left out.
    /// Gives what is lost, and whether something is missing still.
    fn take_found(
        &mut self,
        key: &Key,
        wait: &mut Wait,
        slot: u64,
        mut given_up: bool,
        found: impl Iterator<Item = (u64, Option<Arc<Record>>)>,
    ) -> (Vec<u64>, bool) {
        let mut lost = Vec::new();
        for (sequence, record) in found {
            // What came by itself meanwhile is missing no longer.
            if sequence <= wait.mark.last().sequence {
                continue;
            }
            match record.filter(|record| is_entry(record, key, sequence, &wait.mark)) {
                Some(record) => {
                    self.carry(&mut wait.mark, slot, sequence, &record);
                    (wait.failures, wait.absent, given_up) = (0, None, false);
                }
                None if given_up => {
                    wait.mark.skip(sequence);
                    lost.push(sequence);
                }
                None => return (lost, true),
            }
        }
        (lost, false)
    }

    pub(super) fn fetch_failed(&mut self, now: Moment, fetch: FetchId) {
        let Some((key, wait, _)) = self.turns.as_mut().and_then(|turns| turns.answered(fetch)) else { return };
        self.ask_again(now, key, wait);
    }

    fn ask_again(&mut self, now: Moment, key: Key, mut wait: Wait) {
        wait.ask = self.next_attempt(now, &mut wait);
        if let Some(turns) = &mut self.turns {
            turns.wait(key, wait);
        }
    }

    fn next_attempt(&mut self, now: Moment, wait: &mut Wait) -> Ask {
        wait.failures += 1;
        let due = now + backoff::delay(&self.settings.retry, wait.failures, &mut self.rng);
        let patience = self.turns.as_ref().map(|turns| turns.patience);
        // Patience that runs out meanwhile ends with a last look.
        let end = wait.absent.zip(patience).map(|(since, patience)| since + patience).filter(|&end| end > now);
        Ask::At(end.map_or(due, |end| due.min(end)))
    }

    /// Takes an entry in that was fetched: it goes out before the record of the slot, which carries it.
    fn carry(&mut self, mark: &mut Mark, slot: u64, sequence: u64, record: &Arc<Record>) {
        let entry = Entry::of(record).map(|(_, entry)| entry);
        let known = matches!(&record.content, Content::Undecodable(row) if mark.is_noted(&row.id));
        match entry {
            Some(entry) => mark.take(entry),
            None => mark.pass(sequence),
        }
        let position = self.window.record(slot).map(|carrier| carrier.position.clone());
        if let (false, Some(position)) = (known, position) {
            let number = self.window.carry(slot, record.clone());
            self.spread(slot, number, record, &position);
        }
    }
}

/// Whether `record` is what was asked for.
fn is_entry(record: &Record, key: &Key, sequence: u64, mark: &Mark) -> bool {
    match Entry::of(record) {
        Some((of, entry)) => of == key && entry.at.sequence == sequence && entry.at > mark.last(),
        None => matches!(record.content, Content::Undecodable(_)),
    }
}
