//! Taking in what was read: into the window, and by lanes.

use std::sync::Arc;

use super::{
    Effect,
    lanes::{Item, State},
    machine::Pipeline,
};
use crate::{
    bookkeeping::Lane,
    entry::{Content, Position, Record},
};

impl Pipeline {
    pub(super) fn read(&mut self, records: Vec<Arc<Record>>, next: Position, end: bool, effects: &mut Vec<Effect>) {
        self.reading = false;
        self.ended |= end;
        for record in records {
            if self.turns.is_some() {
                self.take_in_turn(&record, effects);
            } else {
                let slot = self.window.push(record.clone());
                self.spread(slot, 0, &record, &record.position);
            }
        }
        self.window.read_to(next);
    }

    /// Puts the events of a record into their lanes: of the slot's own, or of the one that it carries with this number.
    pub(super) fn spread(&mut self, slot: u64, carried: u16, record: &Record, position: &Position) {
        match &record.content {
            Content::Undecodable(_) if !self.settings.keeps_undecodable => self.window.done_of(slot, carried),
            Content::Undecodable(row) => {
                let item = Item { slot, index: 0, carried, size: 0, doomed: true, failures: None };
                self.enqueue(Lane::of_undecodable(row), item, &row.id, position);
            }
            Content::Events(events) => {
                for (index, event) in (0..).zip(events.iter()) {
                    if !(self.settings.takes)(record, event) {
                        self.window.done_of(slot, carried);
                        continue;
                    }
                    let size = (self.settings.size)(event);
                    let doomed = size > self.settings.sink.max_event_bytes;
                    let item = Item { slot, index, carried, size, doomed, failures: None };
                    self.enqueue(Lane::of(event), item, &event.id, position);
                }
            }
        }
    }

    fn enqueue(&mut self, lane: Lane, item: Item, id: &Arc<str>, position: &Position) {
        if self.is_buried(id, position) {
            self.window.done_of(item.slot, item.carried);
            return;
        }
        let lane = self.apart(id).unwrap_or(lane);
        let id = self.lanes.enter(lane);
        self.lanes.push(id, item);
        if self.holds_too_much(id) {
            self.hot.insert(id);
        }
        if self.lanes.get(id).state == State::Idle {
            self.settle_lane(id);
        }
    }
}
