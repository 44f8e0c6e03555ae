//! What becomes of the events of a call.

use std::{collections::VecDeque, time::Duration};

use super::{Effect, lanes::Phase, machine::Keeper};
use crate::{
    backoff,
    bookkeeping::{Kept, KeptContent, Lane},
    clock::Moment,
    pipeline::{CallId, FrontDraft},
    route::AfterDeadLetter,
    sink::{Fault, Outcome},
};

impl Keeper {
    pub(super) fn answered(&mut self, now: Moment, call: CallId, outcomes: &[Outcome], effects: &mut Vec<Effect>) {
        let Some((lane, events, kept)) = self.take_call(call) else { return };
        if outcomes.len() != events {
            let reason = format!("the sink gave {} outcomes for {events} events", outcomes.len());
            self.unknown_failure(now, &lane, kept, None, &reason, effects);
            return;
        }
        let accepted = outcomes.iter().take_while(|outcome| **outcome == Outcome::Accepted).count();
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Accepted | Outcome::Refused { .. })) {
            self.health.alive();
        }
        if accepted > 0 {
            self.health.accepted(now);
            self.front_is_new(now, &lane);
        }
        match outcomes.get(accepted) {
            None => {
                let front = Self::fresh_front();
                self.settle(&lane, kept, accepted, front, effects);
            }
            Some(Outcome::Throttled { after }) => {
                let delay = backoff::delay(&self.settings.retry, 1, &mut self.rng).max(after.unwrap_or_default());
                let front = FrontDraft { retry_in: Some(delay), ..Self::fresh_front() };
                self.settle_or_wait(now, &lane, kept, accepted, front, effects);
            }
            Some(Outcome::Refused { permanent, reason }) => {
                let done = accepted;
                self.refused(now, &lane, kept, done, *permanent, reason, effects);
            }
            Some(Outcome::Failed { reason }) if accepted == 0 => {
                self.unknown_failure(now, &lane, kept, None, reason, effects);
            }
            Some(Outcome::Failed { .. }) => {
                let retry_in = Some(backoff::delay(&self.settings.retry, 1, &mut self.rng));
                let front = FrontDraft { retry_in, ..Self::fresh_front() };
                self.settle(&lane, kept, accepted, front, effects);
            }
            // The first that is not accepted is not `Accepted`.
            Some(Outcome::Accepted) => {}
        }
    }

    fn take_call(&mut self, call: CallId) -> Option<(Lane, usize, VecDeque<Kept>)> {
        let call = self.calls.remove(&call)?;
        let entry = self.lanes.get_mut(&call.lane)?;
        match std::mem::replace(&mut entry.phase, Phase::Ready) {
            Phase::InCall(kept) => Some((call.lane, call.events, kept)),
            other => {
                entry.phase = other;
                None
            }
        }
    }

    /// The front is done with: what stands there now has not been tried.
    pub(super) fn front_is_new(&mut self, now: Moment, lane: &Lane) {
        if let Some(entry) = self.lanes.get_mut(lane) {
            entry.counted = 0;
            entry.failures = 0;
            entry.failed_first = now;
            entry.failed_last = now;
        }
    }

    /// Without anything to remove there is nothing worth a write: the front waits in memory.
    fn settle_or_wait(
        &mut self,
        now: Moment,
        lane: &Lane,
        kept: VecDeque<Kept>,
        done: usize,
        front: FrontDraft,
        effects: &mut Vec<Effect>,
    ) {
        if done > 0 {
            self.settle(lane, kept, done, front, effects);
        } else {
            self.wait(lane, now + front.retry_in.unwrap_or_default());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a refusal consists of; a struct of them would be used once")]
    fn refused(
        &mut self,
        now: Moment,
        lane: &Lane,
        kept: VecDeque<Kept>,
        done: usize,
        permanent: bool,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = self.lanes.get_mut(lane) else { return };
        entry.failed(now);
        entry.counted += 1;
        let spent = entry.counted >= self.settings.retry.attempts && entry.discard.is_none();
        let dead = permanent || spent;
        let front = self.front_after_failure(now, lane, dead, reason);
        self.set_back(lane, kept, done, front, effects);
    }

    pub(super) fn call_failed(
        &mut self,
        now: Moment,
        call: CallId,
        fault: Fault,
        retry_after: Option<Duration>,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let Some((lane, events, mut kept)) = self.take_call(call) else { return };
        let retry = self.settings.retry;
        match fault {
            Fault::Sink => {
                self.health.back_off(now, reason, retry_after, &retry, &mut self.rng);
                self.wait(&lane, now);
            }
            Fault::Throttle => {
                self.health.throttle(now, reason, retry_after, &retry, &mut self.rng);
                self.wait(&lane, now);
            }
            Fault::Event if events > 1 => {
                // The next call takes half as many, down to the culprit alone.
                self.health.alive();
                kept.truncate(events.div_ceil(2));
                self.go_on_with(&lane, kept);
            }
            Fault::Event => {
                self.health.alive();
                self.refused(now, &lane, kept, 0, true, reason, effects);
            }
            Fault::Unknown if events > 1 => {
                self.health.unknown_failure(now, reason, retry_after, &retry, &mut self.rng);
                kept.truncate(events.div_ceil(2));
                self.go_on_with(&lane, kept);
            }
            Fault::Unknown => self.unknown_failure(now, &lane, kept, retry_after, reason, effects),
        }
    }

    /// A failure that names nobody counts only if others were accepted since the one before, and makes a dead letter
    /// only after a long time.
    fn unknown_failure(
        &mut self,
        now: Moment,
        lane: &Lane,
        kept: VecDeque<Kept>,
        retry_after: Option<Duration>,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let retry = self.settings.retry;
        self.health.unknown_failure(now, reason, retry_after, &retry, &mut self.rng);
        let Some(entry) = self.lanes.get_mut(lane) else { return };
        // A marker is tried until it is accepted or refused by name.
        let counts = entry.discard.is_none() && self.health.accepted_since(entry.failed_last);
        entry.failed(now);
        if !counts {
            let delay = backoff::delay(&retry, entry.failures, &mut self.rng);
            self.wait(lane, now + delay);
            return;
        }
        entry.counted += 1;
        let dead = entry.counted >= retry.attempts && now.since(entry.failed_first) >= retry.doubt;
        let front = self.front_after_failure(now, lane, dead, reason);
        self.set_back(lane, kept, 0, front, effects);
    }

    fn front_after_failure(&mut self, now: Moment, lane: &Lane, dead: bool, reason: &str) -> FrontDraft {
        let (attempts, failures, first) =
            self.lanes.get(lane).map_or((0, 1, now), |entry| (entry.counted, entry.failures, entry.failed_first));
        let retry_in = (!dead).then(|| backoff::delay(&self.settings.retry, failures, &mut self.rng));
        FrontDraft { retry_in, attempts, failed_for: now.since(first), reason: reason.to_owned() }
    }

    /// The lane's front can never go out.
    pub(super) fn condemn(&mut self, lane: &Lane, kept: VecDeque<Kept>, effects: &mut Vec<Effect>) {
        let Some(front) = kept.front() else { return };
        let reason = doom_reason(front, self.settings.sink.max_event_bytes);
        let attempts = self.lanes.get(lane).map_or(0, |entry| entry.counted);
        let front = FrontDraft { retry_in: None, attempts, failed_for: Duration::ZERO, reason };
        self.set_back(lane, kept, 0, front, effects);
    }

    /// Notes a failed front. Under `continue` a dead one gets a lane of its own first, so that its key goes on.
    pub(super) fn set_back(
        &mut self,
        lane: &Lane,
        kept: VecDeque<Kept>,
        done: usize,
        front: FrontDraft,
        effects: &mut Vec<Effect>,
    ) {
        let dead = front.retry_in.is_none();
        if self.lanes.get(lane).is_some_and(|entry| entry.discard.is_some()) {
            self.marker_failed(lane, kept, &front, effects);
            return;
        }
        let goes_on = self.settings.retry.after_dead_letter == AfterDeadLetter::Continue;
        let (Lane::Key(_), true, true, Some(dead)) = (lane, dead, goes_on, kept.get(done)) else {
            self.settle(lane, kept, done, front, effects);
            return;
        };
        if done > 0 {
            // What was accepted is removed first.
            let refused = Some((dead.id, front));
            self.front_is_new(self.now, lane);
            self.settle(lane, kept, done, Self::fresh_front(), effects);
            if let Some(entry) = self.lanes.get_mut(lane) {
                entry.refused = refused;
            }
            return;
        }
        let apart = (Lane::Event(dead.content.id().into()), front);
        self.front_is_new(self.now, lane);
        self.write_settlement(lane, kept, 1, Some(apart), Self::fresh_front(), effects);
    }

    /// The marker of a discarded event was not accepted. The store still says that it is discarded, and must go on
    /// saying so: nothing is written, and the marker is tried again. Where it is not wanted at all, the event goes
    /// without one.
    fn marker_failed(&mut self, lane: &Lane, kept: VecDeque<Kept>, front: &FrontDraft, effects: &mut Vec<Effect>) {
        if let Some(delay) = front.retry_in {
            self.wait(lane, self.now + delay);
        } else {
            // Not why: what a target says of an event may be its payload.
            tracing::warn!(?lane, "the marker of a discarded event is refused: it goes without");
            self.front_is_new(self.now, lane);
            self.settle(lane, kept, 1, Self::fresh_front(), effects);
        }
    }
}

/// An undecodable row or an event that is too large never goes out.
fn doom_reason(kept: &Kept, limit: usize) -> String {
    match &kept.content {
        KeptContent::Undecodable(row) => row.reason.clone(),
        KeptContent::Event(_) => format!("the event is larger than the {limit} bytes that the sink takes"),
    }
}
