//! A relay's own state in a file of its own: leases, checkpoints, and the events that routes keep.
//!
//! It is apart from the service's database so that the relay never contends with the service's writer. Everything written
//! is durable when it is answered; all writes go through one thread that commits them in groups.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use outbox::{
    Bookkeeping, Entropy, ErrorKind, Key, Operator, PartitionId, RouteName, StoreError, System,
    bookkeeping::{
        Checkpoint, DeadLetter, Keep, KeepOutcome, Kept, KeptCounts, KeptId, Lane, Lease, LeaseView, Replay,
        RouteHealth, Selector, SettleOutcome, Settlement, Tombstone, Trouble,
    },
    store::{Claim, Witness},
};
use rusqlite::Connection;

use super::blocking::{self, locked};

mod checkpoints;
mod claims;
mod codec;
mod commits;
mod kept;
mod leases;
mod operator;
#[cfg(any(test, feature = "testing"))]
pub(super) mod properties;
mod routes;
mod schema;
#[cfg(test)]
mod tests;
mod tombstones;
mod witnesses;

use commits::{Commits, Committer};

/// How a bookkeeping is opened.
#[derive(Clone)]
pub struct BookkeepingOptions {
    /// Makes the file if there is none. Without it a missing file is an error, so that a mistyped path does not begin a
    /// second bookkeeping in silence.
    pub create: bool,
    /// How long to wait for a lock that another process holds, as an operator's command does for a moment.
    pub busy: Duration,
    /// Where a new bookkeeping's id comes from.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for BookkeepingOptions {
    fn default() -> Self {
        Self { create: false, busy: Duration::from_secs(5), entropy: Arc::new(System) }
    }
}

/// A bookkeeping in an `SQLite` file of its own.
///
/// Several processes may open it, as a relay, its standby and an operator's commands do. Cheap to clone. Dropping the last
/// clone blocks for as long as closing the file takes; if nobody else has it open, all that was written is then in the one
/// file, and a copy of it is whole.
#[derive(Clone)]
pub struct SqliteBookkeeping {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    // Closed before the writer's, which is the last and so moves the WAL into the file.
    reader: Mutex<Connection>,
    commits: Commits,
}

impl SqliteBookkeeping {
    /// Opens the bookkeeping at `path`. Blocks for as long as opening a file takes.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if there is none and none is to be made, if the file
    /// is something else, or of a newer version; [`ErrorKind::NotPermitted`](outbox::ErrorKind::NotPermitted) without
    /// the right to write it and its directory; otherwise as `SQLite` says.
    pub fn open(path: impl AsRef<Path>, options: BookkeepingOptions) -> Result<Self, StoreError> {
        let BookkeepingOptions { create, busy, entropy } = options;
        let path = path.as_ref().to_owned();
        let schema::Opened { writer, file } = schema::open(&path, create, busy, &*entropy)?;
        let reader = schema::reader(&path, busy)?;
        let commits = Commits::start(Committer { path: path.clone(), connection: writer, file })?;
        Ok(Self { inner: Arc::new(Inner { path, reader: Mutex::new(reader), commits }) })
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        blocking::run(move || work(&locked(&inner.reader))).await.map_err(|error| self.in_file(error))
    }

    async fn write<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.commits.write(attempted, work).await.map_err(|error| self.in_file(error))
    }

    /// Names the file where it is the file that stands in the way.
    fn in_file(&self, error: StoreError) -> StoreError {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::NotPermitted | ErrorKind::Incompatible => {
                error.context(&format!("the bookkeeping `{}`", self.inner.path.display()))
            }
            ErrorKind::Fenced
            | ErrorKind::HistoryChanged
            | ErrorKind::Trimmed
            | ErrorKind::Ownership
            | ErrorKind::Invalid => error,
        }
    }
}

#[async_trait]
impl Bookkeeping for SqliteBookkeeping {
    async fn id(&self) -> Result<String, StoreError> {
        // Read each time: a standby that waits for the lease claims by the id that the bookkeeping has then.
        self.read(schema::id).await
    }

    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| leases::view(connection, &name)).await
    }

    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let (name, seen, holder) = (name.to_owned(), seen.clone(), holder.to_owned());
        self.write("taking a lease", move |tx| leases::take(tx, &name, &seen, &holder, duration)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.write("renewing a lease", move |tx| leases::renew(tx, &lease)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.write("giving up a lease", move |tx| leases::release(tx, &lease)).await
    }

    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| claims::noted(connection, &name)).await
    }

    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        let (lease, claims) = (lease.clone(), claims.to_vec());
        self.write("noting a claim", move |tx| claims::note(tx, &lease, &claims)).await
    }

    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        let route = route.clone();
        self.read(move |connection| checkpoints::of_route(connection, route.as_str())).await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        let (lease, route, checkpoint, witness) = (lease.clone(), route.clone(), checkpoint.clone(), witness.cloned());
        self.write("storing a checkpoint", move |tx| {
            checkpoints::store(tx, &lease, route.as_str(), &checkpoint, witness.as_ref())
        })
        .await
    }

    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        let (lease, route, partitions) = (lease.clone(), route.clone(), partitions.to_vec());
        self.write("forgetting checkpoints", move |tx| checkpoints::forget(tx, &lease, route.as_str(), &partitions))
            .await
    }

    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        let partition = partition.clone();
        self.read(move |connection| witnesses::of_partition(connection, partition.as_str())).await
    }

    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        let (lease, route, draft) = (lease.clone(), route.clone(), kept::Draft::new(partition, keep));
        self.write("keeping events", move |tx| kept::keep(tx, &lease, route.as_str(), &draft)).await
    }

    async fn troubles(
        &self,
        route: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        let (route, after) = (route.clone(), after.cloned());
        self.read(move |connection| kept::troubles(connection, route.as_str(), after.as_ref(), limit)).await
    }

    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        let (route, lane) = (route.clone(), lane.clone());
        self.read(move |connection| kept::trouble(connection, route.as_str(), &lane)).await
    }

    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let (route, lane) = (route.clone(), lane.clone());
        self.read(move |connection| kept::kept(connection, route.as_str(), &lane, limit)).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        let (lease, route, settlement) = (lease.clone(), route.clone(), settlement.clone());
        self.write("settling kept events", move |tx| kept::settle(tx, &lease, route.as_str(), &settlement)).await
    }

    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        let route = route.clone();
        self.read(move |connection| tombstones::of_route(connection, route.as_str())).await
    }

    async fn forget_tombstones(
        &self,
        lease: &Lease,
        route: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        let (lease, route, passed) = (lease.clone(), route.clone(), passed.to_vec());
        self.write("forgetting tombstones", move |tx| tombstones::forget(tx, &lease, route.as_str(), &passed)).await
    }

    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        let (lease, replay) = (lease.clone(), replay.to_owned());
        self.write("noting a replay as finished", move |tx| routes::note_replayed(tx, &lease, &replay)).await
    }

    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError> {
        let (lease, route, health) = (lease.clone(), route.clone(), health.clone());
        self.write("noting a route's health", move |tx| operator::note_health(tx, &lease, route.as_str(), &health))
            .await
    }

    async fn operator_changes(&self) -> Result<u64, StoreError> {
        self.read(operator::changes).await
    }

    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError> {
        let route = route.clone();
        self.read(move |connection| kept::counts(connection, route.as_str())).await
    }
}

#[async_trait]
impl Operator for SqliteBookkeeping {
    async fn dead_letters(
        &self,
        route: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let (route, selector) = (route.clone(), selector.clone());
        self.read(move |connection| operator::dead_letters(connection, &route, &selector, after, limit)).await
    }

    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError> {
        let (route, selector) = (route.clone(), selector.clone());
        self.write("redriving dead letters", move |tx| operator::redrive(tx, route.as_str(), &selector, now)).await
    }

    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError> {
        let (route, selector, reason) = (route.clone(), selector.clone(), reason.to_owned());
        self.write("discarding dead letters", move |tx| operator::discard(tx, route.as_str(), &selector, &reason)).await
    }

    async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        let key = key.clone();
        self.write("erasing kept events", move |tx| operator::erase(tx, &key)).await
    }

    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        let route = route.clone();
        self.read(move |connection| operator::health(connection, route.as_str())).await
    }

    async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        self.read(operator::paused).await
    }

    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError> {
        let route = route.clone();
        self.write("pausing or resuming a route", move |tx| operator::pause(tx, route.as_str(), paused)).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        self.read(routes::replays).await
    }

    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        let replay = replay.clone();
        self.write("storing a replay", move |tx| routes::put_replay(tx, &replay)).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        let (from, to) = (from.clone(), to.clone());
        self.write("renaming a route", move |tx| routes::rename(tx, from.as_str(), to.as_str())).await
    }

    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError> {
        let route = route.clone();
        self.write("forgetting a route", move |tx| routes::forget(tx, route.as_str())).await
    }

    async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        self.read(checkpoints::routes).await
    }

    async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write("giving the bookkeeping another id", move |tx| operator::renew_id(tx, &id)).await
    }

    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let (route, checkpoint) = (route.clone(), checkpoint.clone());
        self.write("resetting a checkpoint", move |tx| {
            checkpoints::reset(tx, route.as_str(), &checkpoint)?;
            operator::changed(tx)
        })
        .await
    }
}
