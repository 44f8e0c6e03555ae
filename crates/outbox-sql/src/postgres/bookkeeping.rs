//! A relay's own state in a schema of its own: leases, checkpoints, and the events that routes keep.
//!
//! It may be in the service's database or in another one. A database of its own, on another server, has the merit that it does
//! not go back with the service's when that is restored from a backup, so that a history that went backwards is noticed. In the
//! service's own, a file of the relay's sees to that ([`PostgresBookkeeping::witness_file`]).
//!
//! Every write is one call of a function of the schema: one round trip and one transaction, whose first step locks what it
//! depends on (`schema/bookkeeping.sql` says how). Nothing depends on the session, so all of it works through a pooler
//! that gives each transaction another one.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use outbox::{
    Bookkeeping, Key, Operator, PartitionId, RouteName, StoreError,
    bookkeeping::{
        Checkpoint, DeadLetter, Keep, KeepOutcome, Kept, KeptCounts, KeptId, Lane, Lease, LeaseView, Replay,
        RouteHealth, Selector, SettleOutcome, Settlement, Tombstone, Trouble,
    },
    store::{Claim, Witness},
};

use super::connection::{ConnectOptions, connect};

mod books;
mod checkpoints;
mod claims;
mod codec;
mod connection;
mod kept;
mod leases;
mod operator;
mod routes;
mod schema;
mod tombstones;
mod witness_file;

use books::Books;
pub use schema::BookkeepingSchema;
use witness_file::WitnessFile;

/// A bookkeeping in a PostgreSQL database.
///
/// Several processes may open it, as a relay, its standby and an operator's commands do. It holds three connections at most
/// and makes each when it is first needed, and anew after it broke: a call that finds it broken fails, and the next one
/// connects. Cheap to clone; clones share the connections.
///
/// *Order*: writes through one handle take effect in the order in which they were asked for, those whose caller is gone
/// included. That holds beyond a connection that broke for every write that takes a lease: what was sent over the broken
/// one is done by the time that a later one is, or refused.
///
/// *Durability*: a write is on the server's disk when it is answered, also where `synchronous_commit` is off for this role.
#[derive(Clone)]
pub struct PostgresBookkeeping {
    books: Arc<Books>,
    witnesses: Option<WitnessFile>,
    /// Whose witnesses these are.
    id: Arc<Mutex<Arc<str>>>,
}

impl PostgresBookkeeping {
    /// Makes the bookkeeping; where it is there, puts its functions in place anew and changes nothing else. The role needs the
    /// right to create a schema in the database, or to own a schema of that name;
    /// [`BookkeepingSchema::sql`] gives the statements to run otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if one of another layout is there, or the database is not
    /// UTF8; [`ErrorKind::NotPermitted`](outbox::ErrorKind::NotPermitted) without the right to make it; else as connecting
    /// gives them.
    pub async fn init(options: &ConnectOptions, schema: &BookkeepingSchema) -> Result<(), StoreError> {
        schema::init(options, schema).await
    }

    /// Whether the schema has a bookkeeping, of whatever layout.
    ///
    /// # Errors
    /// As connecting gives them.
    pub async fn is_there(options: &ConnectOptions, schema: &BookkeepingSchema) -> Result<bool, StoreError> {
        schema::is_there(&connect(options).await?, schema).await
    }

    /// Opens the bookkeeping.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`](outbox::ErrorKind::Incompatible) if there is none, or one of another layout; else as
    /// connecting gives them.
    pub async fn open(options: ConnectOptions, schema: BookkeepingSchema) -> Result<Self, StoreError> {
        let books = Books::new(options, schema);
        let id = operator::id(&books).await?.into();
        Ok(Self { books: Arc::new(books), witnesses: None, id: Arc::new(Mutex::new(id)) })
    }

    /// Notes what is read in the file `path` besides: a bookkeeping in the service's own database goes back with it when that
    /// is restored from a backup, and only such a file shows it. It is made with the first checkpoint; a few kilobytes.
    pub fn witness_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.witnesses = Some(WitnessFile::new(path.into()));
        self
    }

    fn known_id(&self) -> Arc<str> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Bookkeeping for PostgresBookkeeping {
    async fn id(&self) -> Result<String, StoreError> {
        operator::id(&self.books).await
    }

    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        leases::view(&self.books, name).await
    }

    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        leases::take(&self.books, name, seen, holder, duration).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        leases::renew(&self.books, lease).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        leases::release(&self.books, lease).await
    }

    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        claims::noted(&self.books, name).await
    }

    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        claims::note(&self.books, lease, claims).await
    }

    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        checkpoints::of_route(&self.books, route).await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        if let (Some(file), Some(witness)) = (&self.witnesses, witness) {
            file.note(&self.known_id(), route, &checkpoint.partition, witness).await?;
        }
        checkpoints::store(&self.books, lease, route, checkpoint, witness).await
    }

    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        checkpoints::forget(&self.books, lease, route, partitions).await?;
        match &self.witnesses {
            Some(file) => file.forget(&self.known_id(), route, Some(partitions)).await,
            None => Ok(()),
        }
    }

    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        let mut witnesses = checkpoints::witnesses(&self.books, partition).await?;
        if let Some(file) = &self.witnesses {
            let filed = file.of_partition(&self.known_id(), partition).await?;
            witnesses
                .splice(0..0, filed.into_iter().filter(|witness| !witnesses.contains(witness)).collect::<Vec<_>>());
        }
        Ok(witnesses)
    }

    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        kept::keep(&self.books, lease, route, partition, keep).await
    }

    async fn troubles(
        &self,
        route: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        kept::troubles(&self.books, route, after, limit).await
    }

    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        kept::trouble(&self.books, route, lane).await
    }

    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        kept::kept(&self.books, route, lane, limit).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        kept::settle(&self.books, lease, route, settlement).await
    }

    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        tombstones::of_route(&self.books, route).await
    }

    async fn forget_tombstones(
        &self,
        lease: &Lease,
        route: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        tombstones::forget(&self.books, lease, route, passed).await
    }

    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        routes::note_replayed(&self.books, lease, replay).await
    }

    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError> {
        operator::note_health(&self.books, lease, route, health).await
    }

    async fn operator_changes(&self) -> Result<u64, StoreError> {
        operator::changes(&self.books).await
    }

    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError> {
        kept::counts(&self.books, route).await
    }
}

#[async_trait]
impl Operator for PostgresBookkeeping {
    async fn dead_letters(
        &self,
        route: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        operator::dead_letters(&self.books, route, selector, after, limit).await
    }

    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError> {
        operator::redrive(&self.books, route, selector, now).await
    }

    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError> {
        operator::discard(&self.books, route, selector, reason).await
    }

    async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        operator::erase(&self.books, key).await
    }

    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        operator::health(&self.books, route).await
    }

    async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        operator::paused(&self.books).await
    }

    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError> {
        operator::pause(&self.books, route, paused).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        routes::replays(&self.books).await
    }

    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        routes::put_replay(&self.books, replay).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        routes::rename(&self.books, from, to).await?;
        match &self.witnesses {
            Some(file) => file.rename(&self.known_id(), from, to).await,
            None => Ok(()),
        }
    }

    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError> {
        routes::forget(&self.books, route).await?;
        match &self.witnesses {
            Some(file) => file.forget(&self.known_id(), route, None).await,
            None => Ok(()),
        }
    }

    async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        checkpoints::routes(&self.books).await
    }

    async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        operator::renew_id(&self.books, id).await?;
        match &self.witnesses {
            Some(file) => file.renew_id(&self.known_id(), id).await?,
            None => return Ok(()),
        }
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = id.into();
        Ok(())
    }

    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        checkpoints::reset(&self.books, route, checkpoint).await?;
        match &self.witnesses {
            Some(file) => file.go_back_to(&self.known_id(), route, checkpoint).await,
            None => Ok(()),
        }
    }
}
