//! The window: records in arrival order, and how far their contiguous done prefix reaches.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    entry::{Position, Record},
    source::Limit,
    store::Witness,
};

/// A record in the window.
struct Slot {
    record: Arc<Record>,
    /// Its bytes.
    weight: usize,
    /// Events of it that are not done yet.
    open: u32,
}

/// What a slot carries besides its own record: predecessors of it that were fetched.
#[derive(Default)]
struct Carried {
    records: Vec<Arc<Record>>,
    /// Events of them that are not done yet.
    open: usize,
    events: usize,
    bytes: usize,
}

/// The done prefix that no stored checkpoint covers.
struct Done {
    last: Arc<Record>,
    events: usize,
    bytes: usize,
}

/// What a checkpoint says.
pub(super) struct Progress {
    pub(super) position: Position,
    pub(super) witness: Option<Witness>,
}

/// Records read and not yet behind a stored checkpoint.
pub(super) struct Window {
    slots: VecDeque<Slot>,
    /// What slots carry, by their numbers. Counts against the limit until all that a slot carries is done.
    carried: BTreeMap<u64, Carried>,
    /// The number of the first slot.
    first: u64,
    limit: Limit,
    /// All that counts against the limit: open slots, done ones, and those in a checkpoint under way.
    held: Limit,
    /// Events that are not done.
    open: usize,
    /// Done and not yet in a checkpoint.
    done: Option<Done>,
    /// Whether a checkpoint is under way.
    is_storing: bool,
    /// What it covers; that at the end of a partition may cover nothing.
    storing: Option<Done>,
    /// Where an empty window stands.
    end: Position,
}

impl Window {
    pub(super) fn new(limit: Limit, start: Position) -> Self {
        Self {
            slots: VecDeque::new(),
            carried: BTreeMap::new(),
            first: 0,
            limit,
            held: Limit { events: 0, bytes: 0 },
            open: 0,
            done: None,
            is_storing: false,
            storing: None,
            end: start,
        }
    }

    /// What can still be read; nothing if either bound is reached.
    pub(super) fn credit(&self) -> Limit {
        let events = self.limit.events.saturating_sub(self.held.events);
        let bytes = self.limit.bytes.saturating_sub(self.held.bytes);
        if events == 0 || bytes == 0 { Limit { events: 0, bytes: 0 } } else { Limit { events, bytes } }
    }

    /// Takes a record in and gives its slot's number.
    pub(super) fn push(&mut self, record: Arc<Record>) -> u64 {
        let open = u32::try_from(record.len()).unwrap_or(u32::MAX);
        let weight = record.weight();
        self.held.events += record.len();
        self.open += record.len();
        self.held.bytes += weight;
        self.slots.push_back(Slot { record, weight, open });
        self.first + self.slots.len() as u64 - 1
    }

    /// The source read on to `next`, behind the last record.
    pub(super) fn read_to(&mut self, next: Position) {
        self.end = next;
    }

    pub(super) fn record(&self, slot: u64) -> Option<&Arc<Record>> {
        let index = usize::try_from(slot.checked_sub(self.first)?).ok()?;
        self.slots.get(index).map(|slot| &slot.record)
    }

    /// Lets an open slot carry a record that was fetched, and gives its number there. The slot is open until that is
    /// done, too.
    pub(super) fn carry(&mut self, slot: u64, record: Arc<Record>) -> u16 {
        let (events, bytes) = (record.len(), record.weight());
        let index = slot.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) {
            slot.open = slot.open.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
        }
        self.open += events;
        self.held.events += events;
        self.held.bytes += bytes;
        let carried = self.carried.entry(slot).or_default();
        carried.records.push(record);
        carried.open += events;
        carried.events += events;
        carried.bytes += bytes;
        u16::try_from(carried.records.len()).unwrap_or(u16::MAX)
    }

    /// Whether `slot` carries anything.
    pub(super) fn carries(&self, slot: u64) -> bool {
        self.carried.contains_key(&slot)
    }

    /// Whether any slot does.
    pub(super) fn is_carrying(&self) -> bool {
        !self.carried.is_empty()
    }

    /// The record of an event: the slot's own, or the one that it carries with this number.
    pub(super) fn record_of(&self, slot: u64, carried: u16) -> Option<&Arc<Record>> {
        match usize::from(carried).checked_sub(1) {
            None => self.record(slot),
            Some(index) => self.carried.get(&slot)?.records.get(index),
        }
    }

    /// The first open record and its slot, if most of what the window holds is done and waits for it.
    pub(super) fn first_blocking(&self) -> Option<(u64, &Arc<Record>)> {
        let first = self.slots.front().filter(|_| self.open * 2 <= self.held.events)?;
        Some((self.first, &first.record))
    }

    /// The records from the first open one on.
    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.slots.iter().map(|slot| &slot.record)
    }

    /// One event is accepted, filtered out, or durably kept: of the slot's own, or of what it carries.
    pub(super) fn done_of(&mut self, slot: u64, carried: u16) {
        if carried > 0 {
            self.carried_done(slot);
        }
        self.done(slot);
    }

    fn carried_done(&mut self, slot: u64) {
        let Some(carried) = self.carried.get_mut(&slot) else { return };
        carried.open = carried.open.saturating_sub(1);
        if carried.open == 0 {
            self.held.events -= carried.events;
            self.held.bytes -= carried.bytes;
            self.carried.remove(&slot);
        }
    }

    /// One event of `slot` is accepted, filtered out, or durably kept.
    pub(super) fn done(&mut self, slot: u64) {
        let index = slot.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) {
            self.open -= usize::from(slot.open > 0);
            slot.open = slot.open.saturating_sub(1);
        }
        while self.slots.front().is_some_and(|slot| slot.open == 0) {
            self.advance();
        }
    }

    fn advance(&mut self) {
        let Some(slot) = self.slots.pop_front() else { return };
        self.first += 1;
        let (events, bytes) = self.done.as_ref().map_or((0, 0), |done| (done.events, done.bytes));
        self.done = Some(Done { events: events + slot.record.len(), bytes: bytes + slot.weight, last: slot.record });
    }

    /// Events done and not yet in a checkpoint.
    pub(super) fn uncovered(&self) -> usize {
        self.done.as_ref().map_or(0, |done| done.events)
    }

    /// Whether no record is open.
    pub(super) fn is_settled(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a checkpoint is under way.
    pub(super) fn is_storing(&self) -> bool {
        self.is_storing
    }

    /// Begins a checkpoint over what is done. An empty window may stand further than its last record.
    pub(super) fn begin_checkpoint(&mut self) -> Option<Progress> {
        let done = self.done.take()?;
        let witness = Some(Witness { position: done.last.position.clone(), commit: done.last.commit });
        let position = if self.slots.is_empty() { self.end.clone() } else { done.last.position.clone() };
        self.is_storing = true;
        self.storing = Some(done);
        Some(Progress { position, witness })
    }

    /// The checkpoint at the end of a partition, though nothing was done since the last one.
    pub(super) fn begin_final_checkpoint(&mut self) -> Progress {
        self.begin_checkpoint().unwrap_or_else(|| {
            self.is_storing = true;
            Progress { position: self.end.clone(), witness: None }
        })
    }

    /// The checkpoint under way is durable: its events no longer count.
    pub(super) fn checkpoint_stored(&mut self) {
        self.is_storing = false;
        if let Some(stored) = self.storing.take() {
            self.held.events -= stored.events;
            self.held.bytes -= stored.bytes;
        }
    }

    /// The checkpoint under way is not durable: what it covered has to be covered again.
    pub(super) fn checkpoint_failed(&mut self) {
        self.is_storing = false;
        let Some(failed) = self.storing.take() else { return };
        self.done = Some(match self.done.take() {
            Some(later) => Done { events: later.events + failed.events, bytes: later.bytes + failed.bytes, ..later },
            None => failed,
        });
    }
}
