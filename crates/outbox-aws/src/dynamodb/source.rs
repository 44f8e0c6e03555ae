//! Reading committed entries from the table's stream.
//!
//! Each shard is a partition, named after the stream's label and the shard: a stream that is disabled and enabled again is
//! another one. Its records are read parents first, which the relay sees to, and only those of new items are entries. What
//! the stream does not remember is read from the table (`recovery/…`). `docs/dynamodb.md` tells it for users.
//!
//! Rule: "Change data capture for DynamoDB Streams" of the developer guide, and the API reference of DynamoDB Streams,
//! 2012-08-10.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_dynamodbstreams::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
};
use futures_util::future::try_join_all;
use outbox::{
    ErrorKind, Key, KeyOrder, Moment, Page, Partition, PartitionId, Position, Record, Source, StoreError,
    bookkeeping::Checkpoint,
    source::{Backlog, Limit, Recovery},
    store::Registration,
};

use super::{
    calls::{Calls, attempted},
    entry::EntryReader,
    item::{item, number, text},
    store::DynamoStore,
};

mod backlog;
mod capacity;
mod iterator;
mod line;
mod lost;
mod pace;
mod place;
mod recovery;
mod scan;
mod shards;
mod start;
mod stream;
mod table;
mod unread;

pub use lost::Reached;
pub(super) use start::position_now;
pub use table::TableSource;
pub use unread::Current;

use place::{InShard, Place};
use shards::Shards;
use stream::Listing;

/// How long a stream remembers, less an hour for clocks that differ and for whoever is slow.
///
/// Rule: "DynamoDB Streams", 24 hours.
const MEMORY: Duration = Duration::from_hours(23);
/// By how much a recovery goes back behind what was read last, and shards behind the start of a recovery: for clocks that
/// differ, and writers that send a transaction again and again. A writer's patience is half of it at most.
pub(super) const SLACK: Duration = Duration::from_hours(1);
/// How long one attempt may take before its answer counts as lost.
const ATTEMPT: Duration = Duration::from_secs(6);

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceOptions {
    /// Which share of the table's read capacity a recovery takes at most: above 0, 1 for all of it. Of a table that is paid
    /// by request, of the 12,000 units a second that a new one has, or of the limit that is set for it.
    pub recovery_share: f64,
    /// Go on though entries may have expired before a route got them: what `--accept-loss` says.
    pub accept_loss: bool,
}

impl Default for SourceOptions {
    /// A quarter of the capacity; no loss is accepted.
    fn default() -> Self {
        Self { recovery_share: 0.25, accept_loss: false }
    }
}

/// A table's stream, and the table behind it: a [`Source`]. Cheap to clone.
///
/// *Bounds*: of each shard two positions are read at a time, and of what was fetched for each at most one page is kept, 1,000
/// records or 1 MB as DynamoDB counts. A shard in which nothing happens is asked four times a second, and after a minute
/// less and less often, down to once.
#[derive(Clone)]
pub struct StreamsSource {
    inner: Arc<Inner>,
}

struct Inner {
    store: DynamoStore,
    calls: Calls,
    streams: Client,
    reader: EntryReader,
    options: SourceOptions,
    listing: Mutex<Option<Arc<Listing>>>,
    shards: Shards,
    scans: scan::Scans,
    /// When something was read last.
    active: Mutex<Moment>,
    /// Whether the service knows iterators at a time, as emulators may not.
    knows_times: AtomicBool,
    /// When it was last said that clocks are far apart.
    told_skew: Mutex<Option<Moment>>,
}

impl StreamsSource {
    /// Reads the entries of `store` by its table's stream, under the claims that are made through `store`. The client's own
    /// retries are not used.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the share of the read capacity is none; otherwise as DynamoDB says.
    pub async fn open(store: &DynamoStore, streams: &Client, options: SourceOptions) -> Result<Self, StoreError> {
        if !(options.recovery_share > 0.0 && options.recovery_share <= 1.0) {
            let message = "`recovery_share` is not above 0 and at most 1: give the share of the read capacity";
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let calls = store.calls().clone();
        let identity = super::schema::identity(&calls, store.tables()).await?;
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT.min(calls.patience)).build();
        let config = streams.config().to_builder().retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        let inner = Inner {
            reader: EntryReader::of(store.tables(), &identity.producer),
            streams: Client::from_conf(config.build()),
            options,
            listing: Mutex::default(),
            shards: Shards::default(),
            scans: scan::Scans::default(),
            active: Mutex::new(calls.clock.moment()),
            knows_times: AtomicBool::new(true),
            told_skew: Mutex::default(),
            store: store.clone(),
            calls,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    /// The time, in seconds since 1970.
    fn now(&self) -> i64 {
        self.calls.clock.wall().as_second()
    }

    /// Whether the table's items do not say when they were written.
    fn is_timeless(&self) -> bool {
        self.store.tables().mapping().is_some_and(|mapping| !mapping.has_time())
    }

    /// What was created before this second may be forgotten.
    fn horizon(&self) -> i64 {
        self.now().saturating_sub(seconds(MEMORY))
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn trimmed(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Trimmed, message)
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}

#[async_trait]
impl Source for StreamsSource {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Observed
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        match (Place::of(left), Place::of(right)) {
            (Some(left), Some(right)) => left.order(&right),
            // What is no position of a stream comes first: reading there says so.
            (left, right) => left.is_some().cmp(&right.is_some()),
        }
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        let listing = self.inner.look().await?;
        self.inner.shards.keep(&listing, self.inner.calls.clock.moment());
        Ok(listing.partitions())
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.inner.start(partition, registration).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        if partition.is_recovery() {
            recovery::Name::parse(partition)?;
            return self.inner.read_table(partition, after, limit).await;
        }
        self.inner.read_shard(partition, after, limit).await
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        let inner = &self.inner;
        let table = inner.store.tables().entries();
        let fetch = sequences.iter().map(async |sequence| {
            let primary = item([("key", text(key.as_str())), ("sequence", number(sequence))]);
            let found = inner.calls.get(table, primary).await.map_err(attempted("reading an entry of a key"))?;
            Ok(found.map(|item| Arc::new(inner.reader.record(&item, inner.reader.position(&item, "")))))
        });
        try_join_all(fetch).await
    }

    async fn changed(&self) {
        self.inner.rest().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        if partition.is_recovery() {
            return self.inner.backlog_of_table(after).await;
        }
        self.inner.backlog_of_shard(partition, after).await
    }

    async fn beginning(&self, partition: &PartitionId) -> Result<Position, StoreError> {
        self.inner.beginning(partition).await.map(|place| place.position())
    }

    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        self.inner.recovery(registration, checkpoints).await.map(Some)
    }

    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        self.inner.after_recovery(recovery, partition).await.map(|place: InShard| place.position())
    }
}
