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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        quick_attempts: 3,
        attempts: 10,
        base_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(64),
        doubt: Duration::ZERO,
        after_dead_letter: crate::route::AfterDeadLetter::Park,
    };
    const ASKED: Duration = Duration::from_secs(100);
    const NANO: Duration = Duration::from_nanos(1);

    fn at(seconds: u64) -> Moment {
        Moment::from_zero(Duration::from_secs(seconds))
    }

    impl RouteHealth {
        fn down(&mut self, now: Moment, asked: Option<Duration>, rng: &mut Rng) {
            self.back_off(now, "down", asked, &POLICY, rng);
        }
    }

    #[test]
    fn the_gate_is_closed_until_its_time_and_then_one_call_finds_out() {
        let (mut health, mut rng) = (RouteHealth::default(), Rng::with_seed(1));
        assert_eq!((health.gate(at(0)), health.closed_until()), (Gate::Open, None));
        health.down(at(0), Some(ASKED), &mut rng);
        let until = at(0) + ASKED;
        assert_eq!(health.closed_until(), Some(until));
        assert_eq!([health.gate(until.before(NANO)), health.gate(until)], [Gate::Closed, Gate::Probe]);
        assert!(health.alive() && !health.alive());
        assert_eq!((health.gate(at(0)), health.closed_until()), (Gate::Open, None));
    }

    #[test]
    fn a_pause_closes_the_gate_until_its_time_whoever_is_alive() {
        let (mut health, mut rng) = (RouteHealth::default(), Rng::with_seed(1));
        health.throttle(at(0), "slowly", Some(ASKED), &POLICY, &mut rng);
        health.alive();
        let until = at(0) + ASKED;
        assert_eq!(health.closed_until(), Some(until));
        assert_eq!([health.gate(until.before(NANO)), health.gate(until)], [Gate::Closed, Gate::Open]);
    }

    #[test]
    fn a_backoff_grows_from_probe_to_probe_and_not_by_calls_from_before_it() {
        let (mut early, mut late) = (Duration::ZERO, Duration::ZERO);
        for seed in 0..50 {
            let (mut health, mut rng) = (RouteHealth::default(), Rng::with_seed(seed));
            health.down(at(0), None, &mut rng);
            let first = health.closed_until();
            (0..10).for_each(|_| health.down(at(0), None, &mut rng));
            assert_eq!(health.closed_until(), first, "they were under way when it began");
            early = early.max(first.unwrap().since(at(0)));
            for _ in 0..6 {
                let probed = health.closed_until().unwrap();
                health.down(probed, None, &mut rng);
                late = health.closed_until().unwrap().since(probed).max(late);
            }
        }
        assert!(early <= POLICY.base_delay && late > POLICY.base_delay * 32, "{early:?} {late:?}");
    }

    #[test]
    fn a_call_from_before_a_backoff_lengthens_it_if_the_sink_asked_for_that() {
        let (mut health, mut rng) = (RouteHealth::default(), Rng::with_seed(1));
        health.down(at(0), None, &mut rng);
        health.down(at(0), Some(ASKED), &mut rng);
        health.down(at(0), None, &mut rng);
        assert_eq!(health.closed_until(), Some(at(0) + ASKED));
    }

    #[test]
    fn others_were_accepted_since_only_if_that_was_later() {
        let mut health = RouteHealth::default();
        assert!(!health.accepted_since(at(0)));
        health.accepted(at(5));
        assert_eq!([at(4), at(5), at(6)].map(|moment| health.accepted_since(moment)), [true, false, false]);
    }

    #[test]
    fn one_failure_among_successes_is_not_the_sinks_but_two_in_a_row_are() {
        let (mut health, mut rng) = (RouteHealth::default(), Rng::with_seed(1));
        let mut fails = |health: &mut RouteHealth, asked| {
            health.unknown_failure(at(2), "500", asked, &POLICY, &mut rng);
            health.gate(at(2)) == Gate::Closed
        };
        health.accepted(at(1));
        for _ in 0..3 {
            assert!(!fails(&mut health, None));
            health.alive();
        }
        assert!(!fails(&mut health, None) && fails(&mut health, None));
        health.alive();
        assert!(fails(&mut health, Some(ASKED)), "it asked to be left alone");
        assert!(fails(&mut RouteHealth::default(), None), "nothing was ever accepted");
    }

    #[test]
    fn pauses_are_told_once_there_are_three_in_a_row_with_nothing_accepted_after_one() {
        let (mut health, mut rng) = (RouteHealth::default(), Rng::with_seed(1));
        let mut now = at(0);
        let mut pause = |health: &mut RouteHealth, now| health.throttle(now, "slowly", None, &POLICY, &mut rng);
        let told = |health: &mut RouteHealth| matches!(health.changed(), Some(Health::BackingOff { .. }));
        for _ in 0..4 {
            pause(&mut health, now);
            pause(&mut health, now);
            now = health.closed_until().unwrap();
            health.accepted(now);
            assert!(!told(&mut health), "each ended");
        }
        for number in 1..=3 {
            pause(&mut health, now);
            health.accepted(now);
            assert_eq!(told(&mut health), number == 3, "the answer to an older call ends none");
            now = health.closed_until().unwrap();
        }
    }
}
