//! Paused time stands still while the bookkeeping writes.

use std::sync::{Mutex, mpsc};

use async_trait::async_trait;
use outbox::{
    StoreError,
    testing::{Call, Hook, InWords, Io},
};

/// The bookkeeping's thread is none of the runtime's, which would take a wait for it for idleness and let time leap. A
/// blocking task that waits for the end of each write tells the runtime that something is under way.
#[derive(Default)]
pub(crate) struct Still(Mutex<Vec<(Io, mpsc::Sender<()>)>>);

#[async_trait]
impl Hook for Still {
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError> {
        if is_write(call.io) {
            let (until_dropped, dropped) = mpsc::channel();
            tokio::task::spawn_blocking(move || dropped.recv().is_err());
            self.0.lock().unwrap().push((call.io, until_dropped));
        }
        Ok(())
    }

    async fn after(&self, call: &Call<'_>, _: &dyn InWords) -> Result<(), StoreError> {
        let mut under_way = self.0.lock().unwrap();
        if let Some(index) = under_way.iter().position(|(of, _)| *of == call.io) {
            under_way.remove(index);
        }
        Ok(())
    }

    /// After a call that failed, whichever it was: rather let time leap than stand still for ever.
    async fn alive(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// Reads wait in blocking tasks of their own.
fn is_write(io: Io) -> bool {
    let writes = [
        Io::Take,
        Io::Renew,
        Io::Release,
        Io::NoteClaims,
        Io::NoteReplayed,
        Io::Checkpoint,
        Io::Keep,
        Io::Settle,
        Io::ForgetTombstones,
        Io::NoteHealth,
        Io::Redrive,
        Io::Discard,
        Io::PutReplay,
    ];
    writes.contains(&io)
}
