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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{CommitId, Content},
        testing_event,
    };

    const LIMIT: Limit = Limit { events: 100, bytes: 100_000 };

    fn record(count: u64) -> Arc<Record> {
        let events = (1..=count).map(|number| testing_event("order.placed", Some("a"), number));
        let (position, content) = (Position::new("1"), Content::Events(events.collect()));
        Arc::new(Record { position, commit: CommitId([7; 16]), recorded: jiff::Timestamp::UNIX_EPOCH, content })
    }

    fn window() -> Window {
        Window::new(LIMIT, Position::new("0"))
    }

    /// What is left of the limit beside these records.
    fn beside(records: &[&Arc<Record>]) -> Limit {
        let (events, bytes) =
            records.iter().fold((0, 0), |(events, bytes), record| (events + record.len(), bytes + record.weight()));
        Limit { events: LIMIT.events - events, bytes: LIMIT.bytes - bytes }
    }

    #[test]
    fn nothing_more_is_read_once_either_bound_is_reached() {
        let one = record(1);
        for limit in [Limit { events: 1, ..LIMIT }, Limit { bytes: one.weight(), ..LIMIT }] {
            let mut window = Window::new(limit, Position::new("0"));
            window.push(one.clone());
            assert_eq!(window.credit(), Limit { events: 0, bytes: 0 });
        }
    }

    #[test]
    fn what_is_done_counts_against_the_limit_until_its_checkpoint_is_stored() {
        let (mut window, records) = (window(), [record(1), record(3)]);
        for record in &records {
            window.push(record.clone());
        }
        window.done(0);
        (0..3).for_each(|_| window.done(1));
        assert_eq!((window.uncovered(), window.is_settled()), (4, true));
        assert_eq!(window.credit(), beside(&[&records[0], &records[1]]));
        assert!(window.begin_checkpoint().is_some() && window.is_storing());
        assert_eq!(window.credit(), beside(&[&records[0], &records[1]]));
        window.checkpoint_stored();
        assert_eq!((window.credit(), window.uncovered(), window.is_storing()), (LIMIT, 0, false));
        assert!(window.begin_checkpoint().is_none());
    }

    #[test]
    fn a_checkpoint_that_failed_is_covered_by_the_next_one_with_what_was_done_since() {
        for later in [0, 3] {
            let mut window = window();
            window.push(record(2));
            (0..2).for_each(|_| window.done(0));
            window.begin_checkpoint();
            if later > 0 {
                window.push(record(later));
                (0..later).for_each(|_| window.done(1));
            }
            window.checkpoint_failed();
            assert!(!window.is_storing());
            assert_eq!(window.uncovered() as u64, 2 + later);
            assert!(window.begin_checkpoint().is_some());
            window.checkpoint_stored();
            assert_eq!((window.credit(), window.uncovered()), (LIMIT, 0));
        }
    }

    #[test]
    fn what_a_slot_carries_counts_until_all_of_it_is_done_and_holds_the_slot_open() {
        let (mut window, own, carried) = (window(), record(1), [record(2), record(1)]);
        let slot = window.push(own.clone());
        assert!(!window.is_carrying() && !window.carries(slot));
        assert_eq!([window.carry(slot, carried[0].clone()), window.carry(slot, carried[1].clone())], [1, 2]);
        assert!(window.is_carrying() && window.carries(slot) && !window.carries(slot + 1));
        let is_found =
            |window: &Window, number, record| window.record_of(slot, number).is_some_and(|of| Arc::ptr_eq(of, record));
        assert!(is_found(&window, 0, &own) && is_found(&window, 1, &carried[0]) && is_found(&window, 2, &carried[1]));
        window.done_of(slot, 0);
        window.done_of(slot, 1);
        window.done_of(slot, 1);
        assert_eq!(window.credit(), beside(&[&own, &carried[0], &carried[1]]));
        assert!(is_found(&window, 2, &carried[1]) && !window.is_settled());
        window.done_of(slot, 2);
        assert_eq!((window.credit(), window.is_carrying(), window.is_settled()), (beside(&[&own]), false, true));
    }

    #[test]
    fn a_slot_that_is_done_already_takes_nothing_from_the_others() {
        let mut window = window();
        for _ in 0..4 {
            window.push(record(1));
        }
        (0..3).for_each(|_| window.done(1));
        assert!(window.first_blocking().is_none(), "three of four are open");
        window.done(2);
        assert_eq!(window.first_blocking().map(|(slot, _)| slot), Some(0));
    }
}
