//! What the stream holds, whoever reads it: for functions of Lambda, to whom the service hands the records, and whom nobody
//! tells when it does not.

use aws_sdk_dynamodbstreams::types::{OperationType, Record};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use outbox::{ErrorKind, PartitionId, StoreError};

use super::{
    Inner, SLACK, StreamsSource,
    iterator::{Asked, Got},
    place::{InShard, Skip},
    seconds,
};
use crate::dynamodb::{calls::attempted, failure::Failure};

/// A page may be empty before others that are not, and an open shard has no end to tell that nothing comes: it counts as read
/// after so many empty ones in a row, and one more for each minute that it is read from its past, of six hours at most: a shard
/// is closed after about four.
const EMPTY: i64 = 20;
const OPEN: i64 = 6 * 60;
/// So many shards are read at once: one after the other, their empty pages would take minutes.
const AT_ONCE: usize = 16;

/// A table's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its label: another one once it was disabled and enabled again.
    pub label: String,
    /// Whether it is enabled. What is written to the table while it is not is in no stream.
    pub is_on: bool,
}

impl StreamsSource {
    /// The stream that the table has now.
    ///
    /// # Errors
    /// As DynamoDB says; [`ErrorKind::Incompatible`] if the table has no stream.
    pub async fn current(&self) -> Result<Current, StoreError> {
        self.inner.look().await.map(|listing| Current { label: listing.stream.label.clone(), is_on: listing.is_on })
    }

    /// The ARN of the stream that the table has now.
    ///
    /// # Errors
    /// As DynamoDB says; [`ErrorKind::Incompatible`] if the table has no stream.
    pub async fn arn(&self) -> Result<String, StoreError> {
        self.inner.look().await.map(|listing| listing.stream.arn.clone())
    }

    /// Since when the stream holds all that was inserted, and whether that is all there ever was: it was made with its table,
    /// and has forgotten nothing yet.
    ///
    /// # Errors
    /// As DynamoDB says; [`ErrorKind::Incompatible`] if the table has no stream.
    pub async fn holds_since(&self) -> Result<(Timestamp, bool), StoreError> {
        let listing = self.inner.look().await?;
        let (stream, horizon) = (&listing.stream, self.inner.horizon());
        let since = Timestamp::from_second(stream.created.max(horizon)).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok((since, stream.whole && stream.created >= horizon))
    }

    /// Whether there is anything in the table.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn has_entries(&self) -> Result<bool, StoreError> {
        let Inner { calls, store, .. } = &*self.inner;
        let scan = calls.client().scan().table_name(store.tables().entries()).limit(1).consistent_read(true);
        let found = calls.call(|| scan.clone().send()).await.map_err(Failure::of_reading);
        let found = found.map_err(attempted("looking whether there are entries"))?;
        Ok(!found.items().is_empty())
    }

    /// When the first item was inserted, about, of those that the stream holds and that were inserted after `since` and not
    /// after `until`. None if there is none. Reads each shard from about `since` on, up to the first such record.
    ///
    /// # Errors
    /// As DynamoDB says.
    pub async fn inserted_between(&self, since: Timestamp, until: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let inner = &*self.inner;
        let listing = inner.look().await?;
        let (since, until) = (since.as_second(), until.as_second());
        let partitions: Vec<_> = listing.shards.keys().map(|shard| listing.partition(shard)).collect();
        let mut first = None;
        for some in partitions.chunks(AT_ONCE) {
            let reading = some.iter().map(|partition| async move {
                match inner.first_between(partition, since, until).await {
                    // It was forgotten meanwhile, and so was all in it.
                    Err(error) if error.kind() == ErrorKind::Trimmed => Ok(None),
                    found => found,
                }
            });
            first = try_join_all(reading).await?.into_iter().chain([first]).flatten().min();
        }
        Ok(first.and_then(|second| Timestamp::from_second(second).ok()))
    }
}

impl Inner {
    async fn first_between(&self, partition: &PartitionId, since: i64, until: i64) -> Result<Option<i64>, StoreError> {
        let asked = Asked::of(self, partition).await?;
        let place = InShard { skip: Some(Skip::Created(since)), ..InShard::beginning(since) };
        let mut next = Some(asked.iterator(&place, self.now()).await?);
        let span = self.now().saturating_sub(since).saturating_add(seconds(SLACK));
        let most = EMPTY + (span / 60).min(OPEN);
        let mut empty = 0;
        while let Some(iterator) = next {
            let Got::Page(page) = asked.records(&iterator).await? else {
                next = Some(asked.iterator(&place, self.now()).await?);
                continue;
            };
            let records = page.records.unwrap_or_default();
            match records.iter().filter_map(inserted).find(|created| *created > since) {
                Some(created) => return Ok((created <= until).then_some(created)),
                None if records.is_empty() => empty += 1,
                None => empty = 0,
            }
            if empty >= most && !asked.is_closed {
                break;
            }
            next = page.next_shard_iterator;
        }
        Ok(None)
    }
}

/// When an item was inserted, in seconds since 1970; none if the record is of something else.
fn inserted(record: &Record) -> Option<i64> {
    let is_insertion = record.event_name == Some(OperationType::Insert);
    let created = record.dynamodb.as_ref()?.approximate_creation_date_time.as_ref()?;
    is_insertion.then(|| created.secs())
}
