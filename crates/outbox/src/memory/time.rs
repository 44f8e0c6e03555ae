//! Time and randomness that a test decides.

use std::{fmt, sync::Mutex, time::Duration};

use jiff::Timestamp;

use super::lock;
use crate::clock::{Clock, Entropy, Moment};

/// 2026-01-01T00:00:00Z: where a clock of a test begins unless told otherwise.
const BEGINNING_SECOND: i64 = 1_767_225_600;

fn beginning() -> Timestamp {
    Timestamp::from_second(BEGINNING_SECOND).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn later(start: Timestamp, by: Duration) -> Timestamp {
    start.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A clock that stands still until it is advanced by hand.
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<(Moment, Timestamp)>,
}

impl ManualClock {
    /// A clock whose wall shows `wall` and whose moment is zero.
    pub fn new(wall: Timestamp) -> Self {
        Self { hands: Mutex::new((Moment::default(), wall)) }
    }

    /// Lets `by` pass.
    pub fn advance(&self, by: Duration) {
        let mut hands = lock(&self.hands);
        *hands = (hands.0 + by, later(hands.1, by));
    }

    /// Sets the wall clock, as an administrator might: no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        lock(&self.hands).1 = wall;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new(beginning())
    }
}

impl Clock for ManualClock {
    fn moment(&self) -> Moment {
        lock(&self.hands).0
    }

    fn wall(&self) -> Timestamp {
        lock(&self.hands).1
    }
}

/// A clock that follows tokio's: under `tokio::time::pause` it passes as the test's timers do.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    zero: tokio::time::Instant,
    wall: Timestamp,
}

impl TokioClock {
    /// A clock whose wall shows `wall` now.
    pub fn new(wall: Timestamp) -> Self {
        Self { zero: tokio::time::Instant::now(), wall }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new(beginning())
    }
}

impl Clock for TokioClock {
    fn moment(&self) -> Moment {
        Moment::from_zero(self.zero.elapsed())
    }

    fn wall(&self) -> Timestamp {
        later(self.wall, self.zero.elapsed())
    }
}

/// Bytes that look random and are the same for the same seed. Not for anything that has to be secret.
pub struct SeededEntropy {
    generator: Mutex<fastrand::Rng>,
}

impl SeededEntropy {
    /// The bytes that belong to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { generator: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        lock(&self.generator).fill(bytes);
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededEntropy").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::default();
        let (moment, wall) = (clock.moment(), clock.wall());
        assert_eq!((clock.moment(), clock.wall()), (moment, wall));
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.moment() - moment, Duration::from_secs(3));
        assert_eq!(clock.wall().as_second() - wall.as_second(), 3);
    }

    #[test]
    fn setting_the_wall_lets_no_time_pass() {
        let clock = ManualClock::default();
        clock.set_wall(Timestamp::UNIX_EPOCH);
        assert_eq!((clock.moment(), clock.wall()), (Moment::default(), Timestamp::UNIX_EPOCH));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tokio_clock_follows_paused_time() {
        let clock = TokioClock::default();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.moment(), Moment::from_zero(Duration::from_secs(5)));
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let bytes = |seed| SeededEntropy::new(seed).sixteen();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }
}
