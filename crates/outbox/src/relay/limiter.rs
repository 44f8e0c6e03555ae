//! A route's rate limit.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::clock::{Clock, Moment};

/// What a timer is late by: who sleeps until its place has it made up, or the rate would never be reached.
const LATE: Duration = Duration::from_millis(2);

/// Hands out places in time, so that no second has more than the allowed events, but for one call's burst.
pub(super) struct Limiter {
    per_event: Duration,
    clock: Arc<dyn Clock>,
    free_at: Mutex<Moment>,
}

impl Limiter {
    pub(super) fn new(events_per_second: u32, clock: Arc<dyn Clock>) -> Self {
        let per_event = Duration::from_secs(1) / events_per_second.max(1);
        Self { per_event, free_at: Mutex::new(clock.moment()), clock }
    }

    /// Takes a place for `events` that go out now, or gives how long there is none.
    ///
    /// A place is taken only by what goes out at once: one that was held while its call waited for another would let two
    /// go out on each other's heels.
    pub(super) fn take(&self, events: usize) -> Result<(), Duration> {
        let cost = self.per_event.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        let now = self.clock.moment();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        if *free_at > now {
            return Err(free_at.since(now));
        }
        *free_at = (*free_at).max(now.before(LATE)) + cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::ManualClock;

    const EVENT: Duration = Duration::from_millis(100);

    fn ten_a_second() -> (Arc<ManualClock>, Limiter) {
        let clock = Arc::new(ManualClock::default());
        (clock.clone(), Limiter::new(10, clock))
    }

    #[test]
    fn who_finds_no_place_is_told_when_there_is_one() {
        let (clock, limiter) = ten_a_second();
        assert_eq!(limiter.take(3), Ok(()));
        assert_eq!(limiter.take(1), Err(EVENT * 3));
        clock.advance(EVENT * 3);
        assert_eq!(limiter.take(1), Ok(()));
    }

    #[test]
    fn those_that_waited_long_for_their_calls_do_not_go_out_on_each_others_heels() {
        let (clock, limiter) = ten_a_second();
        assert_eq!(limiter.take(1), Ok(()));
        for _ in 0..3 {
            assert_eq!(limiter.take(1), Err(EVENT), "no place is taken by who waits");
        }
        clock.advance(EVENT * 50);
        assert_eq!(limiter.take(1), Ok(()));
        assert!(limiter.take(1).is_err());
    }

    #[test]
    fn what_a_timer_is_late_by_is_made_up() {
        let (clock, limiter) = ten_a_second();
        assert_eq!(limiter.take(1), Ok(()));
        clock.advance(EVENT + Duration::from_millis(1));
        assert_eq!(limiter.take(1), Ok(()));
        assert_eq!(limiter.take(1), Err(Duration::from_millis(99)));
    }
}
