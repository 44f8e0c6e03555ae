//! How often a stream is asked in which nothing happens.

use std::{sync::PoisonError, time::Duration};

use super::Inner;

/// The first pause behind the last record.
const SHORTEST: Duration = Duration::from_millis(20);
/// The pause within the first minute: four times a second, as often as the service's own consumers ask.
const USUAL: Duration = Duration::from_millis(250);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// The pause between two requests to a shard that gave nothing for this long: it grows with that time.
pub(super) fn pause(quiet: Duration) -> Duration {
    if quiet < MINUTE { (quiet / 4).clamp(SHORTEST, USUAL) } else { (quiet / 240).clamp(USUAL, LONGEST) }
}

impl Inner {
    /// A moment's rest before every shard is looked at again. Each keeps its own pause besides.
    pub(super) async fn rest(&self) {
        let active = *self.active.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep(pause(self.calls.clock.moment().since(active)) / 2).await;
    }

    /// Something was read.
    pub(super) fn note_activity(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = self.calls.clock.moment();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let after = |seconds| pause(Duration::from_secs(seconds));
        assert_eq!((after(0), after(1), after(59), after(60)), (SHORTEST, USUAL, USUAL, USUAL));
        assert_eq!((after(120), after(100_000)), (Duration::from_millis(500), LONGEST));
    }
}
