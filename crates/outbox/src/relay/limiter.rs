//! A route's rate limit.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::clock::{Clock, Moment};

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

    /// Waits until `events` may go out.
    pub(super) async fn acquire(&self, events: usize) {
        let cost = self.per_event.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        let wait = {
            let now = self.clock.moment();
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*free_at).max(now);
            *free_at = start + cost;
            start.since(now)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}
