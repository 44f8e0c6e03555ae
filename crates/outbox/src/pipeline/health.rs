//! Whether the sink as a whole takes events, and until when it is left alone.

use std::time::Duration;

use fastrand::Rng;

use super::Health;
use crate::{backoff, clock::Moment, route::RetryPolicy};

/// So many pauses in a row are no passing throttle: somebody should know.
const LASTING: u32 = 3;

/// What may go out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Everything.
    Open,
    /// One small call, to find out whether the sink is back.
    Probe,
    /// Nothing.
    Closed,
}

/// How the sink as a whole fares. Shared by pipeline and keeper, each of which has its own.
#[derive(Default)]
pub(crate) struct RouteHealth {
    backoff: Option<Backoff>,
    throttled: Option<Moment>,
    /// Pauses in a row that the sink asked for.
    throttles: u32,
    /// What it said with the last of them.
    throttle_reason: String,
    /// Failures of unknown origin since the sink last showed that it is alive.
    unknown_streak: u32,
    last_accepted: Option<Moment>,
    pub(crate) overloaded: bool,
    reported: Option<Health>,
}

struct Backoff {
    until: Moment,
    failures: u32,
    reason: String,
}

impl RouteHealth {
    pub(crate) fn gate(&self, now: Moment) -> Gate {
        match &self.backoff {
            _ if self.throttled.is_some_and(|until| now < until) => Gate::Closed,
            Some(backoff) if now < backoff.until => Gate::Closed,
            Some(_) => Gate::Probe,
            None => Gate::Open,
        }
    }

    /// When the gate opens, if a time is set.
    pub(crate) fn closed_until(&self) -> Option<Moment> {
        self.throttled.max(self.backoff.as_ref().map(|backoff| backoff.until))
    }

    /// The sink answered for an event by name: it is there. Tells whether it was not before.
    pub(crate) fn alive(&mut self) -> bool {
        let back = self.backoff.take().is_some();
        self.unknown_streak = 0;
        back
    }

    /// The sink accepted something.
    pub(crate) fn accepted(&mut self, now: Moment) {
        self.last_accepted = Some(now);
        // The answer to an older call does not end a pause that was asked for since.
        if self.throttled.is_none_or(|until| now >= until) {
            self.throttles = 0;
        }
    }

    /// There is nothing left to publish, so nothing would ever tell that the sink is back.
    pub(crate) fn nothing_waits(&mut self) {
        self.backoff = None;
        self.throttles = 0;
    }

    pub(crate) fn accepted_since(&self, moment: Moment) -> bool {
        self.last_accepted.is_some_and(|last| last > moment)
    }

    /// The sink as a whole failed. A failure of a call from before the backoff began does not lengthen it.
    pub(crate) fn back_off(
        &mut self,
        now: Moment,
        reason: &str,
        retry_after: Option<Duration>,
        policy: &RetryPolicy,
        rng: &mut Rng,
    ) {
        let (failures, running) = match &self.backoff {
            Some(backoff) if now < backoff.until => (backoff.failures, Some(backoff.until)),
            Some(backoff) => (backoff.failures + 1, None),
            None => (1, None),
        };
        let until = running.unwrap_or_else(|| now + backoff::delay(policy, failures, rng));
        let asked = now + retry_after.unwrap_or_default();
        self.backoff = Some(Backoff { until: until.max(asked), failures, reason: reason.to_owned() });
    }

    /// The sink asked for a pause.
    pub(crate) fn throttle(
        &mut self,
        now: Moment,
        reason: &str,
        retry_after: Option<Duration>,
        policy: &RetryPolicy,
        rng: &mut Rng,
    ) {
        let paused = self.throttled.is_some_and(|until| now < until);
        let asked = now + retry_after.unwrap_or_default();
        // Several calls under way are told the same: the pause grows once.
        let until = if paused {
            asked
        } else {
            self.throttles += 1;
            asked.max(now + backoff::delay(policy, self.throttles, rng))
        };
        self.throttled = self.throttled.max(Some(until));
        reason.clone_into(&mut self.throttle_reason);
    }

    /// Something failed and nobody said whose fault it was. Several in a row, or one with nothing to compare it with,
    /// look like the sink's.
    pub(crate) fn unknown_failure(
        &mut self,
        now: Moment,
        reason: &str,
        retry_after: Option<Duration>,
        policy: &RetryPolicy,
        rng: &mut Rng,
    ) {
        self.unknown_streak += 1;
        if self.unknown_streak > 1 || self.last_accepted.is_none() || retry_after.is_some() {
            self.back_off(now, reason, retry_after, policy, rng);
        }
    }

    /// What to report, if it changed.
    pub(crate) fn changed(&mut self) -> Option<Health> {
        let health = match &self.backoff {
            Some(backoff) => Health::BackingOff { reason: backoff.reason.clone() },
            None if self.throttles >= LASTING => Health::BackingOff { reason: self.throttle_reason.clone() },
            None if self.overloaded => Health::Overloaded,
            None => Health::Flowing,
        };
        let same_kind = match (&self.reported, &health) {
            (Some(Health::BackingOff { .. }), Health::BackingOff { .. }) => true,
            (Some(reported), health) => reported == health,
            (None, health) => *health == Health::Flowing,
        };
        if same_kind {
            return None;
        }
        self.reported = Some(health.clone());
        Some(health)
    }
}
