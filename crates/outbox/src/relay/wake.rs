//! Waking readers: one wait on the source for all of them.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::Mutex;

use super::watch;
use crate::source::Source;

/// Tells every reader of a source that something may have been committed. A source keeps a wake-up for whoever waits
/// next, so of two readers that waited on it by themselves, one could take the other's.
pub(super) struct Wake {
    source: Arc<dyn Source>,
    /// The wait under way. Kept if the reader that waits turns to something else: its poll must not begin anew with
    /// every page.
    waiting: Mutex<Option<BoxFuture<'static, ()>>>,
    /// How often the source woke anybody.
    woken: watch::Sender<u64>,
}

impl Wake {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self { source, waiting: Mutex::default(), woken: watch::Sender::new(0) }
    }

    /// How often the source woke anybody. To be asked for before a read, so that nothing is missed behind it.
    pub(super) fn count(&self) -> u64 {
        *self.woken.borrow()
    }

    /// Waits until the source has woken anybody more than `seen` times. May be dropped.
    pub(super) async fn since(&self, seen: u64) {
        let mut woken = self.woken.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as this, so waiting cannot fail.
            _ = woken.wait_for(|count| *count > seen) => {}
            () = self.wait() => {}
        }
    }

    async fn wait(&self) {
        let mut waiting = self.waiting.lock().await;
        let source = self.source.clone();
        waiting.get_or_insert_with(|| async move { source.changed().await }.boxed()).await;
        *waiting = None;
        self.woken.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::Wake;
    use crate::{
        event::NewEvent,
        memory::{ManualClock, MemoryStore, SeededEntropy},
    };

    fn store() -> MemoryStore {
        MemoryStore::new("/tests", Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))).unwrap()
    }

    fn commit(store: &MemoryStore) {
        store.write([NewEvent::builder("t").key("a").json(&1).build().unwrap()]).unwrap();
    }

    #[tokio::test]
    async fn a_commit_wakes_every_reader_though_one_of_them_did_not_wait_then() {
        let store = store();
        let wake = Wake::new(Arc::new(store.clone()));
        let (first, second) = (wake.count(), wake.count());
        commit(&store);
        wake.since(first).await;
        // It was reading meanwhile, and found nothing.
        assert!(wake.since(second).now_or_never().is_some());
        assert!(wake.since(wake.count()).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_reader_that_turns_to_something_else_takes_no_wake_up_with_it() {
        let store = store();
        let wake = Wake::new(Arc::new(store.clone()));
        let seen = wake.count();
        assert!(wake.since(seen).now_or_never().is_none());
        commit(&store);
        assert!(wake.since(seen).now_or_never().is_some());
    }
}
