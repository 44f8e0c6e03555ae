//! The readers of a source: one for each partition that a route needs, for as long as any does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use super::reader::Request;
use crate::source::PartitionId;

/// Where routes ask for readers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers {
    open: Arc<Mutex<BTreeMap<PartitionId, mpsc::WeakUnboundedSender<Request>>>>,
    wanted: mpsc::UnboundedSender<Wanted>,
}

/// A reader that is to be run: it ends once none of those who ask is left.
pub(super) struct Wanted {
    pub(super) partition: PartitionId,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
}

impl Readers {
    /// No reader yet, and where those come that are wanted.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Wanted>) {
        let (wanted, readers) = mpsc::unbounded_channel();
        (Self { open: Arc::default(), wanted }, readers)
    }

    /// Where to ask the reader of `partition`. To be dropped as soon as it is not needed any more.
    pub(super) fn of(&self, partition: &PartitionId) -> mpsc::UnboundedSender<Request> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(requests) = open.get(partition).and_then(mpsc::WeakUnboundedSender::upgrade) {
            return requests;
        }
        open.retain(|_, requests| requests.strong_count() > 0);
        let (asking, requests) = mpsc::unbounded_channel();
        open.insert(partition.clone(), asking.downgrade());
        // An owner that is gone needs no readers.
        let _ = self.wanted.send(Wanted { partition: partition.clone(), requests });
        asking
    }
}

#[cfg(test)]
mod tests {
    use super::Readers;
    use crate::source::PartitionId;

    #[test]
    fn routes_share_a_reader_and_the_last_one_ends_it() {
        let (readers, mut wanted) = Readers::new();
        let shard = PartitionId::new("shard");
        let (one, other) = (readers.of(&shard), readers.of(&shard));
        let first = wanted.try_recv().unwrap();
        assert!(wanted.try_recv().is_err());
        drop(one);
        assert!(!first.requests.is_closed());
        drop(other);
        assert!(first.requests.is_closed());
        let _again = readers.of(&shard);
        assert_eq!(wanted.try_recv().unwrap().partition, shard);
    }
}
