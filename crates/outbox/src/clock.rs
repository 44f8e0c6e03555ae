//! Time and randomness, injected wherever behaviour depends on them.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use jiff::Timestamp;

/// A moment on a clock that never goes back and that counts suspended time; the zero is arbitrary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment `since_zero` after the clock's zero.
    pub const fn from_zero(since_zero: Duration) -> Self {
        Self(since_zero)
    }

    /// The moment `duration` before this one, or the clock's zero.
    pub const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// What time it is. Implementations are cheap and never fail.
pub trait Clock: Send + Sync {
    /// For durations: never goes back, and counts the time a machine or process was suspended, so that a lease that
    /// ran out during a suspension is seen to have run out.
    fn moment(&self) -> Moment;

    /// For what is recorded and shown: may jump.
    fn wall(&self) -> Timestamp;
}

/// Random bytes, for identities that must not repeat.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// Sixteen random bytes.
    fn sixteen(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// A seed for a deterministic generator.
    fn seed(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The machine's clock and random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn moment(&self) -> Moment {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        Moment(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Entropy for System {
    #[expect(
        clippy::disallowed_methods,
        clippy::expect_used,
        reason = "the one source of entropy; a system without any cannot make safe identities"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gives random bytes");
    }
}
