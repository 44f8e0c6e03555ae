//! How often to look: soon after something was found, and ever more seldom while nothing is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// The pause after something was found.
const SHORTEST: Duration = Duration::from_millis(2);
/// So many looks find nothing before the pause becomes twice as long.
const LOOKS: u32 = 4;

/// When to look next.
pub(in crate::postgres) struct Pace {
    longest: Duration,
    /// Looks since something was found.
    idle: AtomicU32,
    /// Wakes whoever waits, as somebody's notification does.
    waker: Arc<Notify>,
}

impl Pace {
    pub(in crate::postgres) fn new(longest: Duration) -> Self {
        Self { longest: longest.max(SHORTEST), idle: AtomicU32::new(u32::MAX), waker: Arc::default() }
    }

    /// Something was found: more may follow soon.
    pub(super) fn found(&self) {
        self.idle.store(0, Ordering::Relaxed);
    }

    /// What ends a wait at once.
    pub(in crate::postgres) fn waker(&self) -> Arc<Notify> {
        self.waker.clone()
    }

    fn pause(&self) -> Duration {
        let doubled = (self.idle.load(Ordering::Relaxed) / LOOKS).min(16);
        (SHORTEST * (1 << doubled)).min(self.longest)
    }

    /// Waits until it is time to look. Dropping the wait loses no wake-up.
    pub(super) async fn wait(&self) {
        tokio::select! {
            biased;
            () = self.waker.notified() => self.found(),
            () = tokio::time::sleep(self.pause()) => {
                self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| idle.checked_add(1)).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_nothing_is_found_up_to_the_longest() {
        let pace = Pace::new(Duration::from_millis(75));
        assert_eq!(pace.pause(), Duration::from_millis(75), "nothing was found yet");
        pace.found();
        let mut pauses = Vec::new();
        for _ in 0..30 {
            pauses.push(pace.pause().as_millis());
            pace.wait().await;
        }
        assert_eq!(pauses[..9], [2, 2, 2, 2, 4, 4, 4, 4, 8]);
        assert_eq!(pauses[29], 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_that_comes_while_nobody_waits_is_kept() {
        let pace = Pace::new(Duration::from_secs(60));
        pace.waker().notify_one();
        let before = tokio::time::Instant::now();
        pace.wait().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(pace.pause(), SHORTEST);
    }
}
