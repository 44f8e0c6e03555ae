//! Backends with something done before and after each of their calls.

use std::{cmp::Ordering, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use super::io::Io;
use crate::{
    bookkeeping::{
        Bookkeeping, Checkpoint, DeadLetter, Keep, KeepOutcome, Kept, KeptCounts, KeptId, Lane, Lease, LeaseView,
        Operator, Replay, RouteHealth, Selector, SettleOutcome, Settlement, Tombstone, Trouble,
    },
    entry::{Position, Record},
    error::StoreError,
    event::Key,
    route::RouteName,
    source::{Backlog, KeyOrder, Limit, Page, Partition, PartitionId, Recovery, Source},
    store::{
        Agreement, BusinessStore, Claim, OpenTransaction, Purged, Registration, Retention, StoreIdentity, Witness,
    },
};

/// What is done before and after each call of a [`Hooked`] backend.
#[async_trait]
pub trait Hook: Send + Sync {
    /// Before the call; an error is answered in the call's place, and nothing takes effect.
    async fn before(&self, io: Io) -> Result<(), StoreError>;

    /// Before a write to the bookkeeping that is done under this lease: as [`before`](Self::before), unless the lease matters.
    async fn before_leased(&self, io: Io, _lease: &Lease) -> Result<(), StoreError> {
        self.before(io).await
    }

    /// After the call succeeded; an error is answered in its place, though the call took effect.
    async fn after(&self, io: Io) -> Result<(), StoreError>;

    /// After a call that the backend failed; never returns if nothing shall go on.
    async fn failed(&self, _error: &StoreError) {
        self.alive().await;
    }

    /// After [`Source::changed`], which is no I/O of its own: never returns if nothing shall go on.
    async fn alive(&self) {}
}

/// A backend with a [`Hook`] around each of its calls.
pub struct Hooked<B: ?Sized, H> {
    inner: Arc<B>,
    hook: H,
}

impl<B: ?Sized, H: Hook> Hooked<B, H> {
    /// `inner`, with `hook` around each of its calls.
    pub fn new(inner: Arc<B>, hook: H) -> Self {
        Self { inner, hook }
    }

    async fn run<T>(&self, io: Io, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.hook.before(io).await?;
        self.end(io, call.await).await
    }

    async fn run_leased<T>(
        &self,
        io: Io,
        lease: &Lease,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.hook.before_leased(io, lease).await?;
        self.end(io, call.await).await
    }

    async fn end<T>(&self, io: Io, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match &answer {
            Ok(_) => self.hook.after(io).await?,
            Err(error) => self.hook.failed(error).await,
        }
        answer
    }
}

#[async_trait]
impl<B: Source + ?Sized, H: Hook> Source for Hooked<B, H> {
    fn key_order(&self) -> KeyOrder {
        self.inner.key_order()
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        self.inner.order(left, right)
    }

    fn passed_by_both(&self, one: &Position, other: &Position) -> Position {
        self.inner.passed_by_both(one, other)
    }

    fn after_loss(&self, position: &Position, agreed: &Position) -> Position {
        self.inner.after_loss(position, agreed)
    }

    fn leading_to(&self, from: &Position, end: &Position) -> Position {
        self.inner.leading_to(from, end)
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        self.run(Io::Partitions, self.inner.partitions()).await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.run(Io::Start, self.inner.start(partition, registration)).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        self.run(Io::Read, self.inner.read(partition, after, limit)).await
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        self.run(Io::Fetch, self.inner.fetch(key, sequences)).await
    }

    async fn changed(&self) {
        self.inner.changed().await;
        self.hook.alive().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.run(Io::Backlog, self.inner.backlog(partition, after)).await
    }

    async fn beginning(&self, partition: &PartitionId) -> Result<Position, StoreError> {
        self.run(Io::Beginning, self.inner.beginning(partition)).await
    }

    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        self.run(Io::Recovery, self.inner.recovery(registration, checkpoints)).await
    }

    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        self.run(Io::AfterRecovery, self.inner.after_recovery(recovery, partition)).await
    }
}

#[async_trait]
impl<B: BusinessStore + ?Sized, H: Hook> BusinessStore for Hooked<B, H> {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.run(Io::Identity, self.inner.identity()).await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        self.run(Io::Claim, self.inner.claim(claim, seen)).await
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.run(Io::Disown, self.inner.disown()).await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.run(Io::Routes, self.inner.routes()).await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        self.run(Io::Register, self.inner.register(registration)).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.run(Io::RenameRegistered, self.inner.rename_route(from, to)).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.run(Io::RetireRoute, self.inner.retire_route(route)).await
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        self.run(Io::Purge, self.inner.purge(passed, retention)).await
    }

    fn expires_after(&self) -> Option<Duration> {
        self.inner.expires_after()
    }

    fn status_interval(&self) -> Option<Duration> {
        self.inner.status_interval()
    }

    async fn keep_status(&self, passed: &Position) -> Result<bool, StoreError> {
        self.inner.keep_status(passed).await
    }

    async fn oldest_transaction(&self) -> Result<Option<OpenTransaction>, StoreError> {
        self.inner.oldest_transaction().await
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        self.run(Io::Agreement, self.inner.agreement(witnesses)).await
    }

    async fn entries_behind(&self, agreed: Option<&Position>) -> Result<Option<u64>, StoreError> {
        self.inner.entries_behind(agreed).await
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        self.run(Io::RaiseIncarnation, self.inner.raise_incarnation(agreed, restamp)).await
    }

    async fn is_refused(&self, position: &Position) -> Result<bool, StoreError> {
        self.inner.is_refused(position).await
    }

    async fn anchored(&self, positions: &[Position], witnesses: &[Witness]) -> Result<Vec<Position>, StoreError> {
        self.inner.anchored(positions, witnesses).await
    }
}

#[async_trait]
impl<B: Bookkeeping + ?Sized, H: Hook> Bookkeeping for Hooked<B, H> {
    async fn id(&self) -> Result<String, StoreError> {
        self.run(Io::Id, self.inner.id()).await
    }

    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        self.run(Io::Lease, self.inner.lease(name)).await
    }

    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.run(Io::Take, self.inner.take(name, seen, holder, duration)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.run_leased(Io::Renew, lease, self.inner.renew(lease)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.run_leased(Io::Release, lease, self.inner.release(lease)).await
    }

    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        self.run(Io::Claims, self.inner.claims(name)).await
    }

    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        self.run_leased(Io::NoteClaims, lease, self.inner.note_claims(lease, claims)).await
    }

    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        self.run(Io::Checkpoints, self.inner.checkpoints(route)).await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        self.run_leased(Io::Checkpoint, lease, self.inner.checkpoint(lease, route, checkpoint, witness)).await
    }

    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        self.run_leased(Io::ForgetCheckpoints, lease, self.inner.forget_checkpoints(lease, route, partitions)).await
    }

    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        self.run(Io::Witnesses, self.inner.witnesses(partition)).await
    }

    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        self.run_leased(Io::Keep, lease, self.inner.keep(lease, route, partition, keep)).await
    }

    async fn troubles(
        &self,
        route: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        self.run(Io::Troubles, self.inner.troubles(route, after, limit)).await
    }

    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        self.run(Io::Trouble, self.inner.trouble(route, lane)).await
    }

    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        self.run(Io::Kept, self.inner.kept(route, lane, limit)).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        self.run_leased(Io::Settle, lease, self.inner.settle(lease, route, settlement)).await
    }

    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        self.run(Io::Tombstones, self.inner.tombstones(route)).await
    }

    async fn forget_tombstones(
        &self,
        lease: &Lease,
        route: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        self.run_leased(Io::ForgetTombstones, lease, self.inner.forget_tombstones(lease, route, passed)).await
    }

    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        self.run_leased(Io::NoteReplayed, lease, self.inner.note_replayed(lease, replay)).await
    }

    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError> {
        self.run_leased(Io::NoteHealth, lease, self.inner.note_health(lease, route, health)).await
    }

    async fn operator_changes(&self) -> Result<u64, StoreError> {
        self.run(Io::OperatorChanges, self.inner.operator_changes()).await
    }

    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError> {
        self.run(Io::KeptCounts, self.inner.kept_counts(route)).await
    }
}

#[async_trait]
impl<B: Operator + ?Sized, H: Hook> Operator for Hooked<B, H> {
    async fn dead_letters(
        &self,
        route: &RouteName,
        selector: &Selector,
        after: Option<KeptId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.run(Io::DeadLetters, self.inner.dead_letters(route, selector, after, limit)).await
    }

    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError> {
        self.run(Io::Redrive, self.inner.redrive(route, selector, now)).await
    }

    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError> {
        self.run(Io::Discard, self.inner.discard(route, selector, reason)).await
    }

    async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        self.run(Io::Erase, self.inner.erase(key)).await
    }

    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        self.run(Io::Health, self.inner.health(route)).await
    }

    async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        self.run(Io::Paused, self.inner.paused()).await
    }

    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError> {
        self.run(Io::Pause, self.inner.pause(route, paused)).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        self.run(Io::Replays, self.inner.replays()).await
    }

    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        self.run(Io::PutReplay, self.inner.put_replay(replay)).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.run(Io::RenameRoute, self.inner.rename_route(from, to)).await
    }

    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.run(Io::ForgetRoute, self.inner.forget_route(route)).await
    }

    async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        self.run(Io::KnownRoutes, self.inner.routes()).await
    }

    async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        self.run(Io::RenewId, self.inner.renew_id(id)).await
    }

    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.run(Io::ResetCheckpoint, self.inner.reset_checkpoint(route, checkpoint)).await
    }
}
