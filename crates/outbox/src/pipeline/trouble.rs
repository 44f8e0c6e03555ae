//! Setting lanes aside: what cannot be delivered now is stored, and so is what waits behind it.

use std::time::Duration;

use super::{
    Effect, FrontDraft, WriteId,
    health::Gate,
    lanes::{Item, LaneId, Owner, State},
    machine::{Pipeline, Write},
};
use crate::{
    backoff,
    bookkeeping::{KeptContent, Lane},
    clock::Moment,
    entry::{Content, Position},
    route::AfterDeadLetter,
};

/// How long others may be kept waiting by a key that holds more than its share.
const STARVED_AFTER: Duration = Duration::from_millis(500);

/// How long hot keys have kept others waiting. Time without that counts back: a key that lets a few others through
/// every now and then starves them all the same.
#[derive(Default)]
pub(super) struct Starvation {
    lasted: Duration,
    seen: Option<(Moment, bool)>,
}

impl Starvation {
    fn observe(&mut self, now: Moment, starving: bool) {
        if let Some((last, was_starving)) = self.seen.replace((now, starving)) {
            let passed = now.since(last);
            self.lasted = if was_starving { self.lasted + passed } else { self.lasted.saturating_sub(passed) };
        }
    }

    fn is_too_long(&self) -> bool {
        self.lasted >= STARVED_AFTER
    }

    /// When it will have lasted too long, if nothing changes.
    pub(super) fn due(&self) -> Option<Moment> {
        self.seen.filter(|&(_, starving)| starving).map(|(at, _)| at + STARVED_AFTER.saturating_sub(self.lasted))
    }
}

impl Pipeline {
    /// The lane's first event is given up on.
    pub(super) fn condemn(&mut self, now: Moment, id: LaneId, reason: &str) {
        let front = self.front_draft(now, id, None, reason);
        match self.settings.retry.after_dead_letter {
            AfterDeadLetter::Park => self.leave(id, front),
            AfterDeadLetter::Continue => self.detach(id, front),
        }
    }

    /// The lane's first event never goes out.
    pub(super) fn condemn_doomed(&mut self, id: LaneId) {
        let Some(item) = self.lanes.get(id).queue.front() else { return };
        let reason = match self.window.record_of(item.slot, item.carried).map(|record| &record.content) {
            Some(Content::Undecodable(row)) => row.reason.clone(),
            _ => format!(
                "the event has {} bytes, more than the {} that the sink takes",
                item.size, self.settings.sink.max_event_bytes
            ),
        };
        let front = FrontDraft { retry_in: None, attempts: 0, failed_for: Duration::ZERO, reason };
        match self.settings.retry.after_dead_letter {
            AfterDeadLetter::Park => self.leave(id, front),
            AfterDeadLetter::Continue => self.detach(id, front),
        }
    }

    /// The lane's first event has failed too often for quick retries: the keeper goes on with it.
    pub(super) fn set_aside_for_retry(&mut self, now: Moment, id: LaneId, reason: &str) {
        let failures = self.lanes.get(id).queue.front().and_then(|item| item.failures.as_ref()).map_or(1, |f| f.all);
        let delay = backoff::delay(&self.settings.retry, failures, &mut self.rng);
        let front = self.front_draft(now, id, Some(delay), reason);
        self.leave(id, front);
    }

    /// With a full window and calls to spare for a while, a key that holds more than its share keeps the others
    /// waiting: it moves to the keeper. A key that is alone in the window keeps nobody waiting.
    pub(super) fn set_hot_lanes_aside(&mut self, now: Moment) {
        let starving = self.hot_lanes_fill_the_window(now);
        self.starvation.observe(now, starving);
        if !starving || !self.starvation.is_too_long() {
            return;
        }
        for id in std::mem::take(&mut self.hot) {
            if !self.holds_too_much(id) {
                continue;
            }
            let lane = self.lanes.get(id);
            let is_free = lane.owner == Owner::Pipeline && matches!(lane.state, State::Ready | State::Waiting(_));
            // Its sink may have asked for that long.
            let waits = if let State::Waiting(due) = lane.state { due.since(now) } else { Duration::ZERO };
            if !is_free {
                self.hot.insert(id);
            } else if self.is_alone(id) {
                self.hot.insert(id);
                self.starvation = Starvation::default();
            } else {
                let mut front = self.front_draft(now, id, Some(waits), "");
                "more events of this key wait than its share of the window".clone_into(&mut front.reason);
                self.leave(id, front);
            }
        }
    }

    /// With a window full of what is done behind one lane that waits for its next attempt, every other key would wait
    /// with it: it moves to the keeper, which waits no longer and no shorter.
    pub(super) fn set_blocking_lane_aside(&mut self, now: Moment) {
        if self.has_room() || self.health.gate(now) != Gate::Open {
            return;
        }
        let Some((slot, record)) = self.window.first_blocking() else { return };
        let lane = match &record.content {
            Content::Undecodable(row) => Lane::of_undecodable(row),
            Content::Events(events) => match events.iter().find(|event| (self.settings.takes)(record, event)) {
                Some(event) => Lane::of(event),
                None => return,
            },
        };
        let Some(id) = self.lanes.find(&lane) else { return };
        let lane = self.lanes.get(id);
        let is_first = lane.queue.front().is_some_and(|item| item.slot == slot);
        if let (true, Owner::Pipeline, State::Waiting(due)) = (is_first, &lane.owner, &lane.state) {
            let reason = "its next attempt comes later than the window can wait";
            let front = self.front_draft(now, id, Some(due.since(now)), reason);
            self.leave(id, front);
        }
    }

    /// Half of the window and less is free, which is more than what a read needs, for a window that is refilled again
    /// and again is full, too.
    fn hot_lanes_fill_the_window(&self, now: Moment) -> bool {
        let (credit, limit) = (self.window.credit(), &self.settings.window);
        let full = credit.events < limit.events / 2 || credit.bytes < limit.bytes / 2;
        let spare = self.calls.len() < self.settings.sink.max_calls && self.ready.len() < 2;
        let flowing = self.health.gate(now) == Gate::Open;
        full && spare && flowing && self.hot.iter().any(|&id| self.holds_too_much(id))
    }

    /// Whether the window has nothing of other lanes, done or not.
    fn is_alone(&self, id: LaneId) -> bool {
        let lane = &self.lanes.get(id).lane;
        self.window.records().all(|record| match &record.content {
            Content::Undecodable(row) => Lane::of_undecodable(row) == *lane,
            Content::Events(events) => {
                events.iter().all(|event| Lane::of(event) == *lane || !(self.settings.takes)(record, event))
            }
        })
    }

    pub(super) fn holds_too_much(&self, id: LaneId) -> bool {
        let (lane, limit) = (self.lanes.get(id), &self.settings.window);
        lane.held > limit.key_share || lane.held_bytes > limit.bytes / 4
    }

    fn front_draft(&self, now: Moment, id: LaneId, retry_in: Option<Duration>, reason: &str) -> FrontDraft {
        let failures = self.lanes.get(id).queue.front().and_then(|item| item.failures.as_ref());
        FrontDraft {
            retry_in,
            attempts: failures.map_or(0, |failures| failures.counted),
            failed_for: failures.map_or(Duration::ZERO, |failures| now.since(failures.first)),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn leave(&mut self, id: LaneId, front: FrontDraft) {
        let lane = self.lanes.get_mut(id);
        lane.owner = Owner::Leaving(front);
        lane.state = State::Idle;
        self.hot.remove(&id);
        self.to_keep.push_back(id);
    }

    pub(super) fn content(&self, item: &Item) -> Option<(KeptContent, Position)> {
        // What was fetched stands where the record stands that it was fetched for.
        let position = self.window.record(item.slot)?.position.clone();
        let content = match &self.window.record_of(item.slot, item.carried)?.content {
            Content::Events(events) => KeptContent::Event(events.get(item.index as usize)?.clone()),
            Content::Undecodable(row) => KeptContent::Undecodable(row.clone()),
        };
        Some((content, position))
    }

    pub(super) fn emit_keeps(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let closed = self.health.gate(now) == Gate::Closed;
        let mut later = Vec::new();
        while let Some(id) = self.to_keep.pop_front() {
            let lane = self.lanes.get(id);
            if lane.state != State::Idle || lane.queue.is_empty() || lane.owner == Owner::Pipeline {
                continue;
            }
            if closed && lane.owner == Owner::Keeper {
                // While the whole route backs off nothing is parked: it may take long, and the window bounds it.
                later.push(id);
                continue;
            }
            self.emit_keep(id, effects);
        }
        self.to_keep.extend(later);
    }

    fn emit_keep(&mut self, id: LaneId, effects: &mut Vec<Effect>) {
        let lane = self.lanes.get_mut(id);
        lane.state = State::Keeping;
        let items: Vec<Item> = lane.queue.drain(..).collect();
        let front = match &lane.owner {
            Owner::Leaving(front) => Some(front.clone()),
            Owner::Keeper | Owner::Pipeline => None,
        };
        let lane = lane.lane.clone();
        let events = items.iter().filter_map(|item| self.content(item)).collect();
        let write = self.new_write(Write::Keep { lane: id, items });
        effects.push(Effect::Keep { write, lane, front, events });
    }

    /// The lane's events are durable: the keeper owns it now.
    pub(super) fn kept(&mut self, id: LaneId, items: &[Item]) {
        for item in items {
            self.done(id, item);
        }
        let lane = self.lanes.get_mut(id);
        lane.owner = Owner::Keeper;
        lane.state = State::Idle;
        let name = lane.lane.clone();
        self.lanes.troubled.insert(name);
        self.settle_lane(id);
    }

    /// There was nothing to park behind: the lane is free, and its events go out.
    pub(super) fn key_free(&mut self, write: WriteId) {
        let Some(Write::Keep { lane: id, items }) = self.writes.remove(&write) else { return };
        self.lanes.put_back(id, items);
        let lane = self.lanes.get_mut(id);
        lane.owner = Owner::Pipeline;
        let name = lane.lane.clone();
        self.lanes.troubled.remove(&name);
        self.drop_discarded(id);
        self.rejoin(id);
        self.settle_lane(id);
    }

    pub(super) fn keep_failed(&mut self, now: Moment, id: LaneId, items: Vec<Item>) {
        self.lanes.put_back(id, items);
        let delay = backoff::delay(&self.settings.retry, 3, &mut self.rng);
        self.let_wait(id, now + delay);
    }
}
