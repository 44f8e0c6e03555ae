//! What the target thinks of events.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::{Event, event::SKIPPED};

use super::target::Answer;

/// How long the target takes, so that a kill finds calls under way.
const WORK: Duration = Duration::from_millis(2);

/// What the target thinks of events; it changes while relays live and die.
#[derive(Debug, Default)]
pub(super) struct Mood {
    refused: Mutex<BTreeSet<String>>,
    held: Mutex<BTreeSet<String>>,
    down: AtomicBool,
}

impl Mood {
    /// Refuses events of `key` by name. A marker in the place of one is welcome.
    pub(super) fn refuse(&self, key: &str) {
        self.refused.lock().unwrap().insert(key.to_owned());
    }

    /// Takes events of `key` again.
    pub(super) fn welcome(&self, key: &str) {
        self.refused.lock().unwrap().remove(key);
    }

    /// Puts events of `key` off, until it is released.
    pub(super) fn hold(&self, key: &str) {
        self.held.lock().unwrap().insert(key.to_owned());
    }

    /// Takes events of `key` at once again.
    pub(super) fn release(&self, key: &str) {
        self.held.lock().unwrap().remove(key);
    }

    /// Falls over at everything, or stands up again.
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Takes everything.
    pub(super) fn brighten(&self) {
        self.refused.lock().unwrap().clear();
        self.held.lock().unwrap().clear();
        self.set_down(false);
    }

    /// The answer to `event`.
    pub(super) fn answer(&self, event: &Event) -> Answer {
        let is_in =
            |keys: &Mutex<BTreeSet<String>>| event.key().is_some_and(|key| keys.lock().unwrap().contains(key.as_str()));
        if self.down.load(Ordering::SeqCst) {
            Answer::Fail
        } else if event.kind() != SKIPPED && is_in(&self.refused) {
            Answer::Refuse("this key is not welcome now")
        } else if is_in(&self.held) {
            Answer::Throttle
        } else {
            Answer::AcceptAfter(WORK)
        }
    }
}
