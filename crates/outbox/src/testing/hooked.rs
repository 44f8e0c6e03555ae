//! Backends with something done before and after each of their calls.

mod call;
mod in_words;

use std::{cmp::Ordering, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use self::in_words::After;
pub use self::{call::Call, in_words::InWords};
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
    async fn before(&self, call: &Call<'_>) -> Result<(), StoreError>;

    /// After the call succeeded with `answer`; an error is answered in its place, though the call took effect.
    async fn after(&self, call: &Call<'_>, answer: &dyn InWords) -> Result<(), StoreError>;

    /// After a call that the backend failed; never returns if nothing shall go on.
    async fn failed(&self, _call: &Call<'_>, _error: &StoreError) {
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

    async fn run<T: InWords>(
        &self,
        io: Io,
        asked: &dyn InWords,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.around(&Call::new(io, asked), call).await
    }

    async fn run_leased<T: InWords>(
        &self,
        io: Io,
        lease: &Lease,
        asked: &dyn InWords,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.around(&Call::new(io, asked).under(lease), call).await
    }

    async fn around<T: InWords>(
        &self,
        told: &Call<'_>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.hook.before(told).await?;
        let answer = call.await;
        match &answer {
            Ok(answer) => self.hook.after(told, answer).await?,
            Err(error) => self.hook.failed(told, error).await,
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
        self.run(Io::Partitions, &(), self.inner.partitions()).await
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        self.run(Io::Start, partition, self.inner.start(partition, registration)).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        self.run(Io::Read, &(partition, After(after)), self.inner.read(partition, after, limit)).await
    }

    async fn fetch(&self, key: &Key, sequences: &[u64]) -> Result<Vec<Option<Arc<Record>>>, StoreError> {
        self.run(Io::Fetch, key, self.inner.fetch(key, sequences)).await
    }

    async fn changed(&self) {
        self.inner.changed().await;
        self.hook.alive().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        self.run(Io::Backlog, &(partition, After(after)), self.inner.backlog(partition, after)).await
    }

    async fn beginning(&self, partition: &PartitionId) -> Result<Position, StoreError> {
        self.run(Io::Beginning, partition, self.inner.beginning(partition)).await
    }

    async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Option<Recovery>, StoreError> {
        self.run(Io::Recovery, &checkpoints, self.inner.recovery(registration, checkpoints)).await
    }

    async fn after_recovery(&self, recovery: &PartitionId, partition: &PartitionId) -> Result<Position, StoreError> {
        self.run(Io::AfterRecovery, &(recovery, partition), self.inner.after_recovery(recovery, partition)).await
    }
}

#[async_trait]
impl<B: BusinessStore + ?Sized, H: Hook> BusinessStore for Hooked<B, H> {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.run(Io::Identity, &(), self.inner.identity()).await
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        self.run(Io::Claim, claim, self.inner.claim(claim, seen)).await
    }

    async fn disown(&self) -> Result<(), StoreError> {
        self.run(Io::Disown, &(), self.inner.disown()).await
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        self.run(Io::Routes, &(), self.inner.routes()).await
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        self.run(Io::Register, &registration.route.clone(), self.inner.register(registration)).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.run(Io::RenameRegistered, &(from, to), self.inner.rename_route(from, to)).await
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.run(Io::RetireRoute, route, self.inner.retire_route(route)).await
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        self.run(Io::Purge, &(passed, retention), self.inner.purge(passed, retention)).await
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
        self.run(Io::Agreement, &witnesses, self.inner.agreement(witnesses)).await
    }

    async fn entries_behind(&self, agreed: Option<&Position>) -> Result<Option<u64>, StoreError> {
        self.inner.entries_behind(agreed).await
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        self.run(Io::RaiseIncarnation, &agreed, self.inner.raise_incarnation(agreed, restamp)).await
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
        self.run(Io::Id, &(), self.inner.id()).await
    }

    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        self.run(Io::Lease, &name, self.inner.lease(name)).await
    }

    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.run(Io::Take, &(holder, seen), self.inner.take(name, seen, holder, duration)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.run_leased(Io::Renew, lease, &lease.epoch, self.inner.renew(lease)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.run_leased(Io::Release, lease, &lease.epoch, self.inner.release(lease)).await
    }

    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        self.run(Io::Claims, &name, self.inner.claims(name)).await
    }

    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        self.run_leased(Io::NoteClaims, lease, &claims, self.inner.note_claims(lease, claims)).await
    }

    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        self.run(Io::Checkpoints, route, self.inner.checkpoints(route)).await
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        self.run_leased(
            Io::Checkpoint,
            lease,
            &(route, checkpoint),
            self.inner.checkpoint(lease, route, checkpoint, witness),
        )
        .await
    }

    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        self.run_leased(
            Io::ForgetCheckpoints,
            lease,
            &(route, partitions),
            self.inner.forget_checkpoints(lease, route, partitions),
        )
        .await
    }

    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        self.run(Io::Witnesses, partition, self.inner.witnesses(partition)).await
    }

    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        self.run_leased(Io::Keep, lease, &(route, keep), self.inner.keep(lease, route, partition, keep)).await
    }

    async fn troubles(
        &self,
        route: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        self.run(Io::Troubles, &(route, after), self.inner.troubles(route, after, limit)).await
    }

    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        self.run(Io::Trouble, &(route, lane), self.inner.trouble(route, lane)).await
    }

    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        self.run(Io::Kept, &(route, lane), self.inner.kept(route, lane, limit)).await
    }

    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        self.run_leased(Io::Settle, lease, &(route, settlement), self.inner.settle(lease, route, settlement)).await
    }

    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        self.run(Io::Tombstones, route, self.inner.tombstones(route)).await
    }

    async fn forget_tombstones(
        &self,
        lease: &Lease,
        route: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        self.run_leased(
            Io::ForgetTombstones,
            lease,
            &(route, passed),
            self.inner.forget_tombstones(lease, route, passed),
        )
        .await
    }

    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        self.run_leased(Io::NoteReplayed, lease, &replay, self.inner.note_replayed(lease, replay)).await
    }

    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError> {
        self.run_leased(Io::NoteHealth, lease, &(route, health), self.inner.note_health(lease, route, health)).await
    }

    async fn operator_changes(&self) -> Result<u64, StoreError> {
        self.run(Io::OperatorChanges, &(), self.inner.operator_changes()).await
    }

    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError> {
        self.run(Io::KeptCounts, route, self.inner.kept_counts(route)).await
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
        self.run(Io::DeadLetters, &(route, selector), self.inner.dead_letters(route, selector, after, limit)).await
    }

    async fn redrive(&self, route: &RouteName, selector: &Selector, now: Timestamp) -> Result<u64, StoreError> {
        self.run(Io::Redrive, &(route, selector), self.inner.redrive(route, selector, now)).await
    }

    async fn discard(&self, route: &RouteName, selector: &Selector, reason: &str) -> Result<u64, StoreError> {
        self.run(Io::Discard, &(route, selector), self.inner.discard(route, selector, reason)).await
    }

    async fn erase(&self, key: &Key) -> Result<u64, StoreError> {
        self.run(Io::Erase, key, self.inner.erase(key)).await
    }

    async fn health(&self, route: &RouteName) -> Result<Option<RouteHealth>, StoreError> {
        self.run(Io::Health, route, self.inner.health(route)).await
    }

    async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        self.run(Io::Paused, &(), self.inner.paused()).await
    }

    async fn pause(&self, route: &RouteName, paused: bool) -> Result<(), StoreError> {
        self.run(Io::Pause, &(route, paused), self.inner.pause(route, paused)).await
    }

    async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        self.run(Io::Replays, &(), self.inner.replays()).await
    }

    async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        self.run(Io::PutReplay, replay, self.inner.put_replay(replay)).await
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.run(Io::RenameRoute, &(from, to), self.inner.rename_route(from, to)).await
    }

    async fn forget_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.run(Io::ForgetRoute, route, self.inner.forget_route(route)).await
    }

    async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        self.run(Io::KnownRoutes, &(), self.inner.routes()).await
    }

    async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        self.run(Io::RenewId, &id, self.inner.renew_id(id)).await
    }

    async fn reset_checkpoint(&self, route: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.run(Io::ResetCheckpoint, &(route, checkpoint), self.inner.reset_checkpoint(route, checkpoint)).await
    }
}
