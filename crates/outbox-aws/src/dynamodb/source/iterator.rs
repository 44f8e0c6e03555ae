//! Iterators: made at a place in a shard, used for one request each, and made anew when they have expired.

use std::sync::atomic::Ordering;

use aws_sdk_dynamodbstreams::{
    operation::get_records::GetRecordsOutput, primitives::DateTime, types::ShardIteratorType,
};
use outbox::{PartitionId, StoreError};

use super::{
    Inner, SLACK, invalid,
    place::{InShard, Skip},
    seconds, stream, trimmed,
};
use crate::dynamodb::failure::Failure;

/// A shard that is read.
pub(super) struct Asked<'a> {
    pub(super) inner: &'a Inner,
    pub(super) partition: &'a PartitionId,
    arn: String,
    shard: &'a str,
    /// Whether it has an end: then every page is one nearer to it. That others follow it does not say so, for a listing may
    /// show a child whose parent still looks open.
    pub(super) is_closed: bool,
}

/// What became of a request for records.
pub(super) enum Got {
    /// A page, which may be empty.
    Page(GetRecordsOutput),
    /// The iterator was too old: a new one has to be made.
    Expired,
}

impl<'a> Asked<'a> {
    pub(super) async fn of(inner: &'a Inner, partition: &'a PartitionId) -> Result<Self, StoreError> {
        let (label, shard) = stream::parts(partition)?;
        let listing = inner.listing().await?;
        let has_last = listing.shards.get(shard).is_some_and(|listed| listed.last.is_some());
        let is_closed = listing.stream.label != label || has_last;
        Ok(Self { inner, partition, arn: inner.arn(label).await?, shard, is_closed })
    }

    /// An iterator at `place`, behind which nothing was created before `proven`.
    pub(super) async fn iterator(&self, place: &InShard, proven: i64) -> Result<String, StoreError> {
        let Some(after) = &place.after else {
            if proven < self.inner.horizon() {
                return Err(trimmed(format!(
                    "nothing was read of `{}` for longer than the stream remembers: what it held first may be gone",
                    self.partition
                )));
            }
            if let Some(found) = self.iterator_at_time(place).await? {
                return Ok(found);
            }
            return self.make(ShardIteratorType::TrimHorizon, None, None).await.map_err(|failure| self.error(failure));
        };
        let after = Some(after.as_str());
        self.make(ShardIteratorType::AfterSequenceNumber, after, None).await.map_err(|failure| self.error(failure))
    }

    /// An iterator that is well before what is not passed over, so that a day need not be read for its last hour; `None`
    /// where the service, or an emulator of it, has none.
    async fn iterator_at_time(&self, place: &InShard) -> Result<Option<String>, StoreError> {
        let wanted = match place.skip {
            Some(Skip::Recorded(millisecond)) => millisecond.div_euclid(1000),
            Some(Skip::Created(second)) => second,
            None => return Ok(None),
        };
        // Whatever the service takes a time for, it is no later than this.
        let time = wanted.min(self.inner.now()).saturating_sub(seconds(SLACK));
        if time <= self.inner.horizon() || !self.inner.knows_times.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.make(ShardIteratorType::AtTimestamp, None, Some(time)).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.code.as_deref() == Some("ValidationException") => {
                self.inner.knows_times.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(failure) => Err(self.error(failure)),
        }
    }

    async fn make(&self, kind: ShardIteratorType, after: Option<&str>, time: Option<i64>) -> Result<String, Failure> {
        let request = self.inner.streams.get_shard_iterator().stream_arn(&self.arn).shard_id(self.shard);
        let request = request.shard_iterator_type(kind).set_sequence_number(after.map(str::to_owned));
        let request = request.set_timestamp(time.map(DateTime::from_secs));
        let output = self.inner.calls.call(|| request.clone().send()).await?;
        output.shard_iterator.ok_or_else(|| Failure::unanswered("no iterator in the answer".to_owned(), false))
    }

    /// The page behind an iterator.
    pub(super) async fn records(&self, iterator: &str) -> Result<Got, StoreError> {
        let request = self.inner.streams.get_records().shard_iterator(iterator);
        match self.inner.calls.call(|| request.clone().send()).await {
            Ok(page) => Ok(Got::Page(page)),
            Err(failure) if failure.code.as_deref() == Some("ExpiredIteratorException") => Ok(Got::Expired),
            Err(failure) => Err(self.error(failure)),
        }
    }

    fn error(&self, failure: Failure) -> StoreError {
        let partition = self.partition;
        match failure.code.as_deref() {
            Some("TrimmedDataAccessException") => {
                trimmed(format!("the stream does not remember what comes next in `{partition}`: {failure}"))
            }
            Some("ResourceNotFoundException") => trimmed(format!("the stream does not have `{partition}` any more")),
            _ => failure.of_reading().store_error("reading a shard"),
        }
    }

    pub(super) fn without_number(&self) -> StoreError {
        invalid(format!("a record of `{}` has no sequence number: please report it", self.partition))
    }
}
