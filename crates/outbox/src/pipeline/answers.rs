//! What becomes of the events of a call: the heart of "whose fault is it?".

use std::time::Duration;

use super::{
    CallId,
    lanes::{Failures, Item, LaneId, State},
    machine::{Group, Pipeline},
};
use crate::{
    backoff,
    clock::Moment,
    sink::{Fault, Outcome},
};

/// What the first event of a lane that was not accepted means for its lane.
enum Verdict<'a> {
    Throttled(Option<Duration>),
    Refused { permanent: bool, reason: &'a str },
    Failed { reason: &'a str },
}

impl Pipeline {
    pub(super) fn answered(&mut self, now: Moment, call: CallId, outcomes: &[Outcome]) {
        let Some(items) = self.calls.remove(&call) else { return };
        if outcomes.len() != items.len() {
            // Outcomes that can't be told apart acknowledge nothing.
            let reason = format!("the sink gave {} outcomes for {} events", outcomes.len(), items.len());
            self.unknown_failure(now, items, None, &reason);
            return;
        }
        if let Some(Outcome::Failed { reason }) = outcomes.first()
            && outcomes.iter().all(|outcome| matches!(outcome, Outcome::Failed { .. }))
        {
            // Nothing was taken beside them: the sink as a whole may be out of order.
            self.unknown_failure(now, items, None, reason);
            return;
        }
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Accepted | Outcome::Refused { .. })) {
            self.alive(now);
        }
        if outcomes.contains(&Outcome::Accepted) {
            self.health.accepted(now);
        }
        let mut answered = items.into_iter().zip(outcomes).peekable();
        while let Some((lane, _)) = answered.peek().map(|((lane, item), _)| (*lane, item)) {
            let mut back = Vec::new();
            let mut verdict = None;
            while let Some(((_, item), outcome)) = answered.next_if(|((id, _), _)| *id == lane) {
                match outcome {
                    Outcome::Accepted => self.done(lane, &item),
                    Outcome::Throttled { after } => {
                        verdict.get_or_insert(Verdict::Throttled(*after));
                        back.push(item);
                    }
                    Outcome::Refused { permanent, reason } => {
                        verdict.get_or_insert(Verdict::Refused { permanent: *permanent, reason });
                        back.push(item);
                    }
                    Outcome::Failed { reason } => {
                        verdict.get_or_insert(Verdict::Failed { reason });
                        back.push(item);
                    }
                }
            }
            self.lanes.put_back(lane, back);
            self.judge(now, lane, verdict.as_ref());
        }
    }

    /// The sink is there. If it was not before, events that failed without being named need not wait any longer, unless
    /// the sink asked for that: they hold back the checkpoint.
    fn alive(&mut self, now: Moment) {
        if !self.health.alive() {
            return;
        }
        for group in &mut self.groups {
            group.due = group.due.min(now);
        }
        let unnamed = |failures: &Failures| failures.counted == 0;
        for (due, id) in std::mem::take(&mut self.timers) {
            let lane = self.lanes.get(id);
            let front = lane.queue.front().and_then(|item| item.failures.as_deref());
            let is_asked = lane.asked.is_some_and(|until| now < until);
            if lane.state == State::Waiting(due) && front.is_some_and(unnamed) && !is_asked {
                self.settle_lane(id);
            } else {
                self.timers.insert((due, id));
            }
        }
    }

    fn judge(&mut self, now: Moment, lane: LaneId, verdict: Option<&Verdict<'_>>) {
        match verdict {
            None => {
                self.lanes.get_mut(lane).call_limit = usize::MAX;
                self.settle_lane(lane);
            }
            Some(Verdict::Throttled(after)) => {
                let delay = backoff::delay(&self.settings.retry, 1, &mut self.rng);
                self.lanes.get_mut(lane).asked = after.map(|after| now + after);
                self.let_wait(lane, now + after.unwrap_or(delay).max(delay));
            }
            Some(Verdict::Refused { permanent, reason }) => self.blame(now, lane, *permanent, reason),
            Some(Verdict::Failed { reason }) => self.suspect(now, lane, reason),
        }
    }

    /// The first event of the lane was refused by name: the attempt counts.
    fn blame(&mut self, now: Moment, lane: LaneId, permanent: bool, reason: &str) {
        let retry = self.settings.retry;
        let Some(failures) = self.note_failure(now, lane, true) else { return };
        if permanent || failures.counted >= retry.attempts {
            self.condemn(now, lane, reason);
        } else if failures.counted >= retry.quick_attempts {
            self.set_aside_for_retry(now, lane, reason);
        } else {
            let delay = backoff::delay(&retry, failures.all, &mut self.rng);
            self.let_wait(lane, now + delay);
        }
    }

    /// Notes a failure of the lane's first event.
    fn note_failure(&mut self, now: Moment, lane: LaneId, counts: bool) -> Option<Failures> {
        let item = self.lanes.get_mut(lane).queue.front_mut()?;
        let fresh = || Box::new(Failures { counted: 0, all: 0, first: now, last: now });
        let failures = item.failures.get_or_insert_with(fresh);
        failures.all += 1;
        failures.counted += u32::from(counts);
        failures.last = now;
        Some((**failures).clone())
    }

    pub(super) fn call_failed(
        &mut self,
        now: Moment,
        call: CallId,
        fault: Fault,
        retry_after: Option<Duration>,
        reason: &str,
    ) {
        let Some(items) = self.calls.remove(&call) else { return };
        match fault {
            Fault::Sink => {
                self.health.back_off(now, reason, retry_after, &self.settings.retry, &mut self.rng);
                self.give_back(items);
            }
            Fault::Throttle => {
                self.health.throttle(now, reason, retry_after, &self.settings.retry, &mut self.rng);
                self.give_back(items);
            }
            Fault::Event => {
                self.alive(now);
                self.split(now, items, reason);
            }
            Fault::Unknown => self.unknown_failure(now, items, retry_after, reason),
        }
    }

    /// Returns the events of a call to their lanes, as if it had not been made.
    fn give_back(&mut self, items: Vec<(LaneId, Item)>) {
        for (lane, items) in by_lane(items) {
            self.lanes.put_back(lane, items);
            self.settle_lane(lane);
        }
    }

    /// A call was rejected for one of its events: halves it until the culprit stands alone.
    fn split(&mut self, now: Moment, mut items: Vec<(LaneId, Item)>, reason: &str) {
        if items.len() > 1 {
            self.halve(now, items);
        } else if let Some((lane, item)) = items.pop() {
            self.lanes.put_back(lane, vec![item]);
            self.blame(now, lane, true, reason);
        }
    }

    /// Makes two groups of a call's events. Those of one lane stay together; of a call with one lane, the second half
    /// goes back to the lane, which the first half holds.
    fn halve(&mut self, due: Moment, items: Vec<(LaneId, Item)>) {
        let mut lanes = by_lane(items);
        if let [(lane, items)] = lanes.as_mut_slice() {
            let later = items.split_off(items.len().div_ceil(2));
            self.lanes.get_mut(*lane).call_limit = items.len();
            self.lanes.put_back(*lane, later);
            let items = std::mem::take(items).into_iter().map(|item| (*lane, item)).collect();
            self.groups.push_back(Group { due, items });
            return;
        }
        let second = lanes.split_off(lanes.len().div_ceil(2));
        for half in [lanes, second] {
            let items = half.into_iter().flat_map(|(lane, items)| items.into_iter().map(move |item| (lane, item)));
            self.groups.push_back(Group { due, items: items.collect() });
        }
    }

    /// Nobody said whose fault it was. One failure among successes is an event's; several in a row, or one with nothing
    /// to compare it with, look like the sink's: then the route backs off and finds out with events of other keys.
    fn unknown_failure(
        &mut self,
        now: Moment,
        mut items: Vec<(LaneId, Item)>,
        retry_after: Option<Duration>,
        reason: &str,
    ) {
        self.health.unknown_failure(now, reason, retry_after, &self.settings.retry, &mut self.rng);
        if items.len() > 1 {
            let delay = backoff::delay(&self.settings.retry, 1, &mut self.rng);
            self.halve(now + delay, items);
            return;
        }
        let Some((lane, item)) = items.pop() else { return };
        self.lanes.put_back(lane, vec![item]);
        self.suspect(now, lane, reason);
    }

    /// The first event of the lane failed, and nobody said that it is to blame.
    fn suspect(&mut self, now: Moment, lane: LaneId, reason: &str) {
        // It counts only if others were accepted since it failed before: else the sink may have been down all the time.
        let before =
            self.lanes.get(lane).queue.front().and_then(|item| item.failures.as_ref()).map(|failures| failures.last);
        let counts = before.is_some_and(|before| self.health.accepted_since(before));
        let Some(failures) = self.note_failure(now, lane, counts) else { return };
        if failures.counted >= self.settings.retry.quick_attempts {
            self.set_aside_for_retry(now, lane, reason);
        } else {
            let delay = backoff::delay(&self.settings.retry, failures.all, &mut self.rng);
            self.let_wait(lane, now + delay);
        }
    }
}

/// The events of a call by lane, in the call's order. A lane's events stand side by side in a call.
fn by_lane(items: Vec<(LaneId, Item)>) -> Vec<(LaneId, Vec<Item>)> {
    let mut lanes: Vec<(LaneId, Vec<Item>)> = Vec::new();
    for (lane, item) in items {
        match lanes.last_mut() {
            Some((last, items)) if *last == lane => items.push(item),
            _ => lanes.push((lane, vec![item])),
        }
    }
    lanes
}
