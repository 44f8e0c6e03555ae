//! What functions of Lambda note besides, which a relay has no use for.

use jiff::Timestamp;
use outbox::{PartitionId, RouteName, StoreError, bookkeeping::Lease};

use super::{DynamoBookkeeping, HandedIn, Loss, Redelivery, Seen, Watermark, in_turn};

/// How far functions of Lambda are with the stream. The service tells when it hands records in, and never when it does not.
impl DynamoBookkeeping {
    /// How far the functions of `route` are.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn watermark(&self, route: &RouteName) -> Result<Watermark, StoreError> {
        self.books.watermark(route).await
    }

    /// Notes that a batch is done, and when the sink accepted something of it, if it did.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](outbox::ErrorKind::Fenced) if the lease is lost; otherwise as DynamoDB says.
    pub async fn note_handed_in(
        &self,
        lease: &Lease,
        route: &RouteName,
        batch: HandedIn,
        accepted: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, batch, accepted| books.note_handed_in(&lease, &route, batch, accepted))
    }

    /// Notes a look at the stream.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](outbox::ErrorKind::Fenced) if the lease is lost; otherwise as DynamoDB says.
    pub async fn note_seen(&self, lease: &Lease, route: &RouteName, seen: &Seen) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, seen| books.note_seen(&lease, &route, &seen))
    }

    /// Forgets checkpoints that a relay left in the stream that functions are handed now. Tombstones of what was discarded stay:
    /// the same records may come by another way.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](outbox::ErrorKind::Fenced) if the lease is lost; otherwise as DynamoDB says.
    pub async fn take_over(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, partitions| books.forget_checkpoints(&lease, &route, &partitions, true))
    }

    /// Notes what the stream may have forgotten before a forwarder got it, all of which was committed before `until`. It stays
    /// noted until it is published again, or [forgotten](Self::forget_loss).
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](outbox::ErrorKind::Fenced) if the lease is lost; otherwise as DynamoDB says.
    pub async fn note_loss(
        &self,
        lease: &Lease,
        route: &RouteName,
        loss: &Loss,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, loss| books.note_loss(&lease, &route, &loss, until))
    }

    /// Notes which replay publishes it, none if that is empty. Says whether it did: nothing is noted if more was found missing
    /// since `loss` was read. An operator's doing: no lease is needed.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn note_recovering(&self, route: &RouteName, loss: &Loss, replay: &str) -> Result<bool, StoreError> {
        in_turn!(self, |books, route, loss, replay| books.note_recovering(&route, &loss, &replay))
    }

    /// Forgets it: it was published, or an operator knows that nothing is missing. Says whether it did: nothing is forgotten if
    /// more was found missing since `loss` was read.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn forget_loss(&self, route: &RouteName, loss: &Loss) -> Result<bool, StoreError> {
        in_turn!(self, |books, route, loss| books.forget_loss(&route, &loss))
    }
}

/// What functions of Lambda note of batches that come again. Only duplicates depend on it, and how soon an event that nobody
/// accepts is kept.
impl DynamoBookkeeping {
    /// What is known of the batch whose first record has the sequence number `batch`.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn redelivery(&self, route: &RouteName, batch: &str) -> Result<Redelivery, StoreError> {
        self.books.redelivery(route, batch).await
    }

    /// Notes what is known of the batch that will come again, and begin with the record of this sequence number. Of very much
    /// that was done only the first 300 KB are noted.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](outbox::ErrorKind::Fenced) if the lease is lost; otherwise as DynamoDB says.
    pub async fn note_redelivery(
        &self,
        lease: &Lease,
        route: &RouteName,
        batch: &str,
        redelivery: &Redelivery,
    ) -> Result<(), StoreError> {
        in_turn!(self, |books, lease, route, batch, redelivery| {
            books.note_redelivery(&lease, &route, &batch, &redelivery)
        })
    }

    /// Forgets what was noted of a batch, once all of it is done.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn forget_redelivery(&self, route: &RouteName, batch: &str) -> Result<(), StoreError> {
        self.books.forget_redelivery(route, batch).await
    }

    /// Forgets what was written before `time` of events that were to be kept under the lease of this name, and never were: of
    /// functions that share it and are gone.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn sweep_staged(&self, lease: &str, time: Timestamp) -> Result<(), StoreError> {
        self.books.sweep_staged_before(lease, time).await
    }

    /// Forgets what was noted of batches that the stream does not remember any more.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn sweep_redeliveries(&self, now: Timestamp) -> Result<(), StoreError> {
        self.books.sweep_redeliveries(now).await
    }
}
