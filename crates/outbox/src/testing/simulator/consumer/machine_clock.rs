//! The clock of the consumer's machine, which somebody may set back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    clock::{Clock, Moment},
    memory::TokioClock,
};

/// Time passes as for everybody, and what the wall says is as far behind as it was set back.
#[derive(Clone)]
pub(in super::super) struct MachineClock {
    clock: TokioClock,
    /// In milliseconds.
    behind: Arc<AtomicU64>,
}

impl MachineClock {
    pub(in super::super) fn new(clock: TokioClock) -> Self {
        Self { clock, behind: Arc::default() }
    }

    pub(in super::super) fn set_back(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.behind.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for MachineClock {
    fn moment(&self) -> Moment {
        self.clock.moment()
    }

    fn wall(&self) -> Timestamp {
        let behind = i64::try_from(self.behind.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        let wall = self.clock.wall();
        wall.checked_sub(SignedDuration::from_millis(behind)).unwrap_or(wall)
    }
}
