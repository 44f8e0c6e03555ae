//! Work that may block for ever, on one thread at a time.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, oneshot},
    time::timeout,
};

/// How long work waits for what is under way to end before that counts as stuck.
const TURN: Duration = Duration::from_secs(1);

/// Something that one thread at a time may use, for as long as it takes. Clones share it.
///
/// A call that is dropped leaves its work to go on; until that has ended nothing else begins and no further thread waits.
/// The threads are none of the runtime's, which would wait for them when it ends.
pub(super) struct Alone<T>(Arc<Mutex<T>>);

/// Why work brought no result.
#[derive(Debug)]
pub(super) enum NotDone {
    /// Earlier work has not ended; this has not begun.
    Stuck,
    /// No thread could be started; the work has not begun.
    NoThread(io::Error),
    /// It panicked, in the midst of whatever it did.
    CutShort,
}

impl<T> Clone for Alone<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Alone<T> {
    pub(super) fn new(shared: T) -> Self {
        Self(Arc::new(Mutex::new(shared)))
    }

    /// Carries out `work` on a thread of that name.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> Result<R, NotDone> {
        let Ok(mut shared) = timeout(TURN, Arc::clone(&self.0).lock_owned()).await else { return Err(NotDone::Stuck) };
        let (done, result) = oneshot::channel();
        let work = move || {
            let result = work(&mut shared);
            drop(shared);
            // Nobody waits for it any more if the call was dropped.
            let _ = done.send(result);
        };
        // Whoever has its turn has the only such thread.
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(NotDone::NoThread)?;
        result.await.map_err(|_| NotDone::CutShort)
    }
}
