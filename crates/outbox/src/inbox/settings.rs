//! How an inbox is to behave: data, checked when the layer is made.

use std::{collections::BTreeSet, time::Duration};

/// How much order a consumer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Effects where order does not matter. Keeps the id of every event for
    /// [`InboxSettings::remember_ids_for`]; a duplicate that comes later is applied again.
    Once,
    /// Copies of state: the newest event of a key is all that counts. Keeps a mark a key for ever. Events without a
    /// place are compared by their time, and recognised by their id.
    Latest,
    /// Effects that build on each other: every event of a key, in its order. Keeps a mark a key for ever. Wants a
    /// gapless route, and refuses what has no place.
    InOrder,
    /// As [`InOrder`](Self::InOrder) within a key, and besides after the event that caused an event. Events without a
    /// key are recognised by their id.
    AfterCause {
        /// The producers that this consumer subscribes to: for a cause of any other it does not wait.
        producers: BTreeSet<String>,
        /// How long an event waits for its cause before it is a dead letter "cause not seen".
        max_wait: Duration,
    },
}

impl Mode {
    /// The mode's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Latest => "latest",
            Self::InOrder => "in_order",
            Self::AfterCause { .. } => "after_cause",
        }
    }
}

/// Where a consumer begins that joins when a key already has a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// With the first event of each key: one that comes before is early. A consumer that takes a copy of the state over
    /// gives it to [`InboxService::seed`](super::InboxService::seed) with the marks it belongs to: keys with a mark go on
    /// behind it.
    #[default]
    Beginning,
    /// With whichever event of a key comes first. Only for transports that keep order: on others 58 may come first,
    /// and 57 would be lost.
    FirstSeen,
}

/// Which event types create, change and remove what a key names. A change before its create waits; one after the
/// removal does nothing; a later create opens the key again. Types in no list do none of it. In mode [`Mode::Latest`] a
/// create or removal that fails gives way only to a later one of either; whatever else comes waits behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Types that create.
    pub create: BTreeSet<String>,
    /// Types that change.
    pub change: BTreeSet<String>,
    /// Types that remove.
    pub remove: BTreeSet<String>,
}

/// When a failed event is tried again, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRetry {
    /// Attempts in all before the event is a dead letter; at least 1.
    pub attempts: u32,
    /// The delay after the first failure; each further one is twice as long, shortened by up to half so that keys that
    /// failed together do not come back together.
    pub base_delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
}

impl Default for InboxRetry {
    fn default() -> Self {
        Self { attempts: 10, base_delay: Duration::from_secs(1), max_delay: Duration::from_secs(300) }
    }
}

impl InboxRetry {
    /// The delay after failure number `failures` of the event with this id: the same for the same event.
    pub(crate) fn delay(&self, failures: u32, id: &str) -> Duration {
        let whole = self.base_delay.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.max_delay);
        let seed = id.bytes().fold(u64::from(failures), |hash, byte| hash.rotate_left(5) ^ u64::from(byte));
        let half = u64::try_from(whole.as_micros() / 2).unwrap_or(u64::MAX);
        whole.saturating_sub(Duration::from_micros(fastrand::Rng::with_seed(seed).u64(0..=half)))
    }
}

/// How an inbox behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxSettings {
    /// How much order the consumer needs.
    pub mode: Mode,
    /// Where it begins.
    pub join: Join,
    /// Which event types create, change and remove.
    pub kinds: Kinds,
    /// When failures are tried again.
    pub retry: InboxRetry,
    /// How long ids are remembered at least, where events are recognised by their id: 30 days unless set otherwise.
    /// Longer than anything may be redelivered after.
    pub remember_ids_for: Duration,
    /// Kept events applied in one transaction at most once their turn has come; the rest follows in the next.
    pub drain: usize,
}

/// Settings that make no sense. Names the setting and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Zero attempts.
    #[error("`retry.attempts` is 0: an event needs at least 1 attempt")]
    Attempts,
    /// A drain of nothing.
    #[error("`drain` is 0: parked events could never be applied; use at least 1")]
    Drain,
    /// A claim that ends before its handler must have.
    #[error(
        "`claim.expiry` ({expiry:?}) is not longer than `claim.timeout` ({timeout:?}): another worker could take an event over while its handler still runs"
    )]
    ClaimExpiry {
        /// The claim's expiry.
        expiry: Duration,
        /// The handler's timeout.
        timeout: Duration,
    },
    /// Nobody to run handlers.
    #[error("`claim.concurrency` is 0: use at least 1")]
    ClaimConcurrency,
}

impl InboxSettings {
    /// The settings of `mode` with all else by default.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            join: Join::default(),
            kinds: Kinds::default(),
            retry: InboxRetry::default(),
            remember_ids_for: Duration::from_secs(30 * 24 * 3600),
            drain: 256,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`SettingsError`] names what makes no sense.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.retry.attempts == 0 {
            return Err(SettingsError::Attempts);
        }
        if self.drain == 0 {
            return Err(SettingsError::Drain);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_within_half_and_whole() {
        let retry = InboxRetry::default();
        for (failures, whole) in [(1, 1), (2, 2), (5, 16), (30, 300)] {
            let whole = Duration::from_secs(whole);
            for id in ["a", "b", "c"] {
                let delay = retry.delay(failures, id);
                assert!(delay >= whole / 2 && delay <= whole, "{failures} {id} {delay:?}");
            }
        }
    }

    #[test]
    fn events_that_failed_together_do_not_come_back_together() {
        let retry = InboxRetry::default();
        let mut delays: Vec<_> = (0..20).map(|number| retry.delay(30, &format!("order/{number}@1.1.0"))).collect();
        delays.sort_unstable();
        assert!(delays[0] < retry.max_delay * 2 / 3 && delays[19] > retry.max_delay * 5 / 6, "{delays:?}");
        delays.dedup();
        assert!(delays.len() > 15, "{delays:?}");
    }

    #[test]
    fn a_claim_ends_after_its_handler_and_some_handler_runs() {
        let claims = crate::inbox::ClaimSettings::default();
        assert_eq!(claims.validate(), Ok(()));
        let short = crate::inbox::ClaimSettings { expiry: claims.timeout, ..claims };
        assert!(matches!(short.validate(), Err(SettingsError::ClaimExpiry { .. })));
        let none = crate::inbox::ClaimSettings { concurrency: 0, ..claims };
        assert_eq!(none.validate(), Err(SettingsError::ClaimConcurrency));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let mut settings = InboxSettings::new(Mode::Once);
        settings.retry.attempts = 0;
        assert_eq!(settings.validate(), Err(SettingsError::Attempts));
        settings = InboxSettings { drain: 0, ..InboxSettings::new(Mode::Once) };
        assert_eq!(settings.validate(), Err(SettingsError::Drain));
    }
}
