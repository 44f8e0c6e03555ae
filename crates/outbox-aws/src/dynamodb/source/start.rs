//! Where a route begins in a shard: at its start, behind the shard's parents, or behind a recovery.

use aws_sdk_dynamodbstreams::{primitives::DateTime, types::ShardIteratorType};
use jiff::Timestamp;
use outbox::{PartitionId, Position, StoreError, route::Start, store::Registration};

use super::{
    Inner,
    place::{InShard, Skip},
    recovery,
    stream::{self, Listing, check_label},
    trimmed,
};
use crate::dynamodb::{calls::attempted, failure::Failure};

/// By how much the clock of whoever registers a route may differ from the service's.
const CLOCKS: i64 = 60;

/// The position of now, for whoever registers a route that starts now: every shard's, for it is a time.
pub(in crate::dynamodb) fn position_now(start: Start, now: Timestamp) -> Option<Position> {
    let recorded = Some(Skip::Recorded(now.as_millisecond()));
    let place = InShard { skip: recorded, ..InShard::beginning(now.as_second()) };
    (start == Start::Now).then(|| place.position())
}

/// When a route starts, in milliseconds since 1970; none if at the beginning.
pub(super) fn start_of(registration: &Registration) -> Result<Option<i64>, StoreError> {
    let fixed = registration.start_position.as_deref().map(Position::new);
    if let Some(Skip::Recorded(time)) =
        fixed.map(|fixed| InShard::parse(&fixed)).transpose()?.and_then(|fixed| fixed.skip)
    {
        return Ok(Some(time));
    }
    Ok(match registration.start {
        Start::Beginning => None,
        Start::Now => Some(registration.registered.as_millisecond()),
        Start::Time(time) => Some(time.as_millisecond()),
    })
}

impl Inner {
    pub(super) async fn start(
        &self,
        partition: &PartitionId,
        registration: &Registration,
    ) -> Result<Position, StoreError> {
        self.store.claimed().check().await?;
        let (label, _) = stream::parts(partition)?;
        let listing = self.listing().await?;
        check_label(&listing, label)?;
        let since = start_of(registration)?;
        let stream = &listing.stream;
        let held = match since.map(|since| since.div_euclid(1000)) {
            None => stream.whole && stream.created >= self.horizon(),
            Some(second) => {
                second >= self.horizon() && (stream.whole || stream.created.saturating_add(CLOCKS) <= second)
            }
        };
        if !held {
            return Err(trimmed(format!(
                "route `{}` starts before what stream `{label}` holds: what came before it is in the table",
                registration.route
            )));
        }
        let begin = since.map_or(stream.created, |since| since.div_euclid(1000));
        Ok(InShard { skip: since.map(Skip::Recorded), ..InShard::beginning(begin) }.position())
    }

    /// The beginning of a shard whose parents were read to their end. What it holds was created after their last record.
    pub(super) async fn beginning(&self, partition: &PartitionId) -> Result<InShard, StoreError> {
        self.store.claimed().check().await?;
        let (label, shard) = stream::parts(partition)?;
        let mut listing = self.listing().await?;
        if !listing.shards.contains_key(shard) {
            listing = self.look().await?;
        }
        check_label(&listing, label)?;
        let parent = listing.shards.get(shard).and_then(|shard| shard.parent.as_deref());
        let since = match parent {
            None => listing.stream.whole.then_some(listing.stream.created),
            Some(parent) => self.end_of(&listing, parent).await?,
        };
        let Some(since) = since else {
            return Err(trimmed(format!(
                "what comes before `{partition}` is forgotten, so that nobody knows whether some of it is as well"
            )));
        };
        Ok(InShard::beginning(since))
    }

    /// A second before which nothing was created that follows `shard`: known to whoever read it to its end just now; else by
    /// its last record, if the stream still has that, or, of one that never had any, by what comes before it.
    async fn end_of(&self, listing: &Listing, shard: &str) -> Result<Option<i64>, StoreError> {
        let mut next = Some(shard);
        while let Some(shard) = next {
            if let Some(since) = self.shards.known(&listing.partition(shard)).and_then(|known| known.since) {
                return Ok(Some(since));
            }
            let Some(listed) = listing.shards.get(shard) else { return Ok(None) };
            if let Some(last) = &listed.last {
                return match self.created(listing, shard, last).await {
                    Ok(created) => Ok(created),
                    Err(failure) if is_gone(&failure) => Ok(None),
                    Err(failure) => Err(attempted("looking at the last record of a shard")(failure.of_reading())),
                };
            }
            next = listed.parent.as_deref();
        }
        Ok(listing.stream.whole.then_some(listing.stream.created))
    }

    /// When the last record of a shard was created, if it is there. Empty pages may come before it.
    async fn created(&self, listing: &Listing, shard: &str, number: &str) -> Result<Option<i64>, Failure> {
        let request = self.streams.get_shard_iterator().stream_arn(&listing.stream.arn).shard_id(shard);
        let request = request.shard_iterator_type(ShardIteratorType::AtSequenceNumber).sequence_number(number);
        let mut next = self.calls.call(|| request.clone().send()).await?.shard_iterator;
        while let Some(iterator) = next {
            let request = self.streams.get_records().shard_iterator(iterator);
            let page = self.calls.call(|| request.clone().send()).await?;
            if let Some(record) = page.records().first() {
                let created = record.dynamodb().and_then(|record| record.approximate_creation_date_time());
                return Ok(created.map(DateTime::secs));
            }
            next = page.next_shard_iterator;
        }
        Ok(None)
    }

    pub(super) async fn after_recovery(
        &self,
        recovery: &PartitionId,
        partition: &PartitionId,
    ) -> Result<InShard, StoreError> {
        self.store.claimed().check().await?;
        let recovery = recovery::Name::parse(recovery)?;
        let (label, _) = stream::parts(partition)?;
        if recovery.label != label {
            return Err(trimmed(format!(
                "while the table was read, stream `{}` was disabled, and `{label}` enabled: read it again",
                recovery.label
            )));
        }
        if recovery.kept.is_some_and(|kept| self.calls.clock.wall().as_millisecond() > kept) {
            return Err(trimmed(
                "while the table was read, some of what was to be read may have expired: read it again",
            ));
        }
        let skip = recovery::skip_behind(recovery.started);
        if skip < self.horizon() {
            return Err(trimmed(
                "reading the table took longer than the stream remembers: give the table more read capacity, or recoveries \
                 a larger share of it (`recovery_share`)",
            ));
        }
        // A stream that forgets sooner than it should: what was forgotten came before the recovery, too.
        let forgotten = self.shards.known(partition).and_then(|known| known.forgotten);
        let skip = forgotten.map_or(skip, |forgotten| skip.max(forgotten.saturating_add(1)));
        Ok(InShard { skip: Some(Skip::Created(skip)), ..InShard::beginning(skip) })
    }
}

/// Whether what was asked for is not in the stream any more.
pub(super) fn is_gone(failure: &Failure) -> bool {
    matches!(
        failure.code.as_deref(),
        Some("TrimmedDataAccessException" | "ResourceNotFoundException" | "ValidationException")
    )
}
