//! Routes: which events go where, and what is done about those that do not arrive.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{event::shown, filter::Filter, sink::SinkLimits};

/// A route's name: 1 to 64 characters of `a-z`, `0-9`, `-`, `_` and `.`, the first a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteName(Arc<str>);

/// A text that cannot name a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a route: use 1 to 64 of a-z, 0-9, `-`, `_` and `.`, a letter or digit first")]
pub struct RouteNameError(String);

impl RouteName {
    /// # Errors
    /// [`RouteNameError`] if `name` has other characters or another length.
    pub fn new(name: impl AsRef<str>) -> Result<Self, RouteNameError> {
        let name = name.as_ref();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = name.bytes().all(|byte| plain(byte) || b"-_.".contains(&byte));
        if !allowed || name.len() > 64 || !name.bytes().next().is_some_and(plain) {
            return Err(RouteNameError(shown(name)));
        }
        Ok(Self(name.into()))
    }

    /// A name as a bookkeeping stored it, that of a replay's temporary route included.
    pub fn stored(name: &str) -> Self {
        Self(name.into())
    }

    /// The name of the temporary route that carries out replay `id` of this one. No user's route can have it.
    pub fn replay(&self, id: &str) -> Self {
        Self(format!("{self}/replay/{id}").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for RouteName {
    type Error = RouteNameError;

    fn try_from(name: String) -> Result<Self, RouteNameError> {
        Self::new(name)
    }
}

impl From<RouteName> for String {
    fn from(name: RouteName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// Where a new route starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest entry that is retained.
    #[default]
    Beginning,
    /// With the first entry committed after the route was registered.
    Now,
    /// With the first entry recorded at this time or later.
    Time(jiff::Timestamp),
}

/// What happens to a key once one of its events has become a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterDeadLetter {
    /// Later events of the key wait behind it until it is redriven or discarded.
    #[default]
    Park,
    /// Later events go on without it. The route is then not gapless.
    Continue,
}

/// How failed events are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in quick succession before an event is set aside as `retrying`, so that its key alone waits.
    pub quick_attempts: u32,
    /// Attempts in all that count against an event before it becomes a dead letter; at least 1.
    pub attempts: u32,
    /// The first delay; each further one is twice as long, with full jitter.
    pub base_delay: Duration,
    /// The longest delay between two attempts, and of the route's backoff.
    pub max_delay: Duration,
    /// How long an event has to have failed, while others were accepted, before failures that did not name it (a 500,
    /// a timeout) make it a dead letter. Long, or one bad node behind a balancer condemns innocents.
    pub doubt: Duration,
    /// What happens to the key after a dead letter.
    pub after_dead_letter: AfterDeadLetter,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            quick_attempts: 3,
            attempts: 10,
            base_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(60),
            doubt: Duration::from_secs(15 * 60),
            after_dead_letter: AfterDeadLetter::Park,
        }
    }
}

/// What a route may hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Events read and not yet behind a stored checkpoint. Also the bound on duplicates after a crash, but for the
    /// last entry read, which may exceed it.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Events that one key may hold of them; if the window is full, what a key has beyond is parked.
    pub key_share: usize,
    /// Keys in trouble at which nothing new is read; reading resumes below nine tenths of it.
    pub troubled_keys: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { events: 8192, bytes: 12 << 20, key_share: 256, troubled_keys: 10_000 }
    }
}

/// A route's definition, apart from its sink.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Its name.
    pub name: RouteName,
    /// Which events it takes.
    pub filter: Filter,
    /// Where it starts when it is registered; no effect later.
    pub start: Start,
    /// How failures are retried.
    pub retry: RetryPolicy,
    /// What it may hold in memory.
    pub window: WindowLimits,
    /// Events published in a second at most.
    pub rate_limit: Option<u32>,
}

impl RouteSettings {
    /// A route that takes everything from the beginning.
    pub fn new(name: RouteName) -> Self {
        Self {
            name,
            filter: Filter::default(),
            start: Start::default(),
            retry: RetryPolicy::default(),
            window: WindowLimits::default(),
            rate_limit: None,
        }
    }

    /// How many events are published again at most after a crash of the relay: the window, and what the keeper has under
    /// way. The last entry read may exceed the window.
    pub fn duplicates_after_crash(&self, sink: &SinkLimits) -> u64 {
        let kept = sink.keeper_calls().saturating_mul(sink.max_events);
        u64::try_from(self.window.events.saturating_add(kept)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_names_are_plain() {
        for good in ["ledger", "a", "0-a_b.c"] {
            assert!(RouteName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "Ledger", "a b", "a/b", &"a".repeat(65)] {
            assert!(RouteName::new(bad).is_err(), "{bad}");
        }
    }
}
