//! How long the server has said nothing while somebody listened.

use std::time::Duration;

use outbox::{ErrorKind, StoreError};
use tokio::time::Instant;

/// How long it may be silent: it answers whoever asks it every few seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Silence {
    since: Instant,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now }
    }

    /// It said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
    }

    /// Whether it is still there. While nobody listens it may say what it likes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it was silent for too long.
    pub(super) fn check(&mut self, now: Instant, listens: bool) -> Result<(), StoreError> {
        if !listens {
            self.since = now;
        }
        if now.saturating_duration_since(self.since) <= LONGEST {
            return Ok(());
        }
        let message = format!("reading the log: the server has said nothing for {LONGEST:?}");
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_nobody_listens_to_is_not_taken_for_silent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::new(start);
        silence.heard(at(10));
        assert!(silence.check(at(70), true).is_ok());
        assert!(silence.check(at(71), true).is_err());
        assert!(silence.check(at(500), false).is_ok(), "what was read waits for its readers");
        assert!(silence.check(at(560), true).is_ok(), "and is listened to again only since then");
        assert!(silence.check(at(561), true).is_err());
    }
}
