//! What a relay does to its stores, call by call.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outbox::{
    StoreError,
    testing::{Call, Hook, InWords, Io},
};

/// The I/Os that took effect, in their order. A handle: clones share the list.
#[derive(Clone, Default)]
pub(crate) struct Logged(Arc<Mutex<Vec<Io>>>);

impl Logged {
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn count(&self, io: Io) -> usize {
        self.0.lock().unwrap().iter().filter(|done| **done == io).count()
    }

    /// Those that change a bookkeeping.
    pub(crate) fn writes(&self) -> Vec<Io> {
        let is_write = |io: &Io| {
            matches!(
                io,
                Io::Take
                    | Io::Renew
                    | Io::Release
                    | Io::Checkpoint
                    | Io::Keep
                    | Io::Settle
                    | Io::ForgetTombstones
                    | Io::NoteHealth
                    | Io::NoteReplayed
            )
        };
        self.0.lock().unwrap().iter().copied().filter(is_write).collect()
    }
}

#[async_trait]
impl Hook for Logged {
    async fn before(&self, _: &Call<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        let mut done = self.0.lock().unwrap();
        done.push(call.io);
        // Paused time does not pass for one that never waits: end the test rather than hang it.
        assert!(done.len() < 100_000, "it goes round in a circle");
        Ok(())
    }
}
