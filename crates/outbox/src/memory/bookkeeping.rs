//! A relay's bookkeeping in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;

use self::{
    lanes::{Grave, RouteState},
    leases::{Leases, fenced},
};
use super::lock;
use crate::{
    bookkeeping::{
        Bookkeeping, Checkpoint, Keep, KeepOutcome, Kept, KeptCounts, Lane, Lease, LeaseView, Replay, RouteHealth,
        SettleOutcome, Settlement, Tombstone, Trouble, WitnessList,
    },
    clock::Entropy,
    error::StoreError,
    route::RouteName,
    source::PartitionId,
    store::{Claim, Witness},
};

mod lanes;
mod leases;
mod operator;

/// A relay's bookkeeping in memory, with what an operator does to it.
///
/// An operator's redrive or discard gives the trouble a new generation, so that a keeper that does not know of it yet
/// cannot settle over it.
pub struct MemoryBookkeeping {
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    id: String,
    leases: Leases,
    /// By the lease's name.
    claims: BTreeMap<String, Vec<Claim>>,
    routes: BTreeMap<RouteName, RouteState>,
    /// In the order in which they were asked for.
    replays: Vec<Replay>,
    numbers: Numbers,
    operator_changes: u64,
}

/// What is given once and never again.
#[derive(Clone, Copy, Default)]
struct Numbers {
    kept: u64,
    generation: u64,
    witness: u64,
}

impl Numbers {
    fn next(number: &mut u64) -> u64 {
        *number += 1;
        *number
    }
}

impl MemoryBookkeeping {
    /// An empty bookkeeping with an id of its own.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let id = uuid::Builder::from_random_bytes(entropy.sixteen()).into_uuid().to_string();
        Self { state: Mutex::new(State { id, ..State::default() }) }
    }

    /// A copy as it is now, with the same id, as somebody makes who copies the file.
    pub fn copy(&self) -> Self {
        Self { state: Mutex::new(self.state().clone()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state, for a write under `lease`.
    fn owned_by(&self, lease: &Lease) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        if state.leases.is_current(lease) { Ok(state) } else { Err(fenced(lease)) }
    }

    /// Reads a route; one of which nothing is known reads as empty.
    fn read<T: Default>(&self, route: &RouteName, read: impl FnOnce(&RouteState) -> T) -> T {
        self.state().routes.get(route).map(read).unwrap_or_default()
    }
}

#[async_trait]
impl Bookkeeping for MemoryBookkeeping {
    async fn id(&self) -> Result<String, StoreError> {
        Ok(self.state().id.clone())
    }

    async fn lease(&self, name: &str) -> Result<LeaseView, StoreError> {
        Ok(self.state().leases.view(name))
    }

    async fn take(
        &self,
        name: &str,
        seen: &LeaseView,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        Ok(self.state().leases.take(name, seen, holder, duration))
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.owned_by(lease)?.leases.renew(lease);
        Ok(())
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.state().leases.release(lease);
        Ok(())
    }

    async fn claims(&self, name: &str) -> Result<Vec<Claim>, StoreError> {
        Ok(self.state().claims.get(name).cloned().unwrap_or_default())
    }

    async fn note_claims(&self, lease: &Lease, claims: &[Claim]) -> Result<(), StoreError> {
        self.owned_by(lease)?.claims.insert(lease.name.clone(), claims.to_vec());
        Ok(())
    }

    async fn checkpoints(&self, route: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(self.read(route, |route| route.checkpoints.values().cloned().collect()))
    }

    async fn checkpoint(
        &self,
        lease: &Lease,
        route: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        let mut state = self.owned_by(lease)?;
        let State { routes, numbers, .. } = &mut *state;
        let route = routes.entry(route.clone()).or_default();
        route.checkpoints.insert(checkpoint.partition.clone(), checkpoint.clone());
        if let Some(witness) = witness {
            let number = Numbers::next(&mut numbers.witness);
            route.witnesses.entry(checkpoint.partition.clone()).or_default().add(number, witness);
        }
        Ok(())
    }

    async fn forget_checkpoints(
        &self,
        lease: &Lease,
        route: &RouteName,
        partitions: &[PartitionId],
    ) -> Result<(), StoreError> {
        let mut state = self.owned_by(lease)?;
        if let Some(route) = state.routes.get_mut(route) {
            route.checkpoints.retain(|partition, _| !partitions.contains(partition));
            route.witnesses.retain(|partition, _| !partitions.contains(partition));
            route.graves.retain(|grave| !grave.is_in(partitions));
        }
        Ok(())
    }

    async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        let state = self.state();
        Ok(WitnessList::newest_first(state.routes.values().filter_map(|route| route.witnesses.get(partition))))
    }

    async fn keep(
        &self,
        lease: &Lease,
        route: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        let mut state = self.owned_by(lease)?;
        let State { routes, numbers, .. } = &mut *state;
        Ok(routes.entry(route.clone()).or_default().keep(numbers, partition, keep))
    }

    async fn troubles(
        &self,
        route: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        Ok(self.read(route, |route| route.troubles(after).take(limit).collect()))
    }

    async fn trouble(&self, route: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        Ok(self.read(route, |route| route.trouble(lane)))
    }

    async fn kept(&self, route: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        Ok(self.read(route, |route| route.kept(lane).take(limit).cloned().collect()))
    }

    async fn settle(
        &self,
        lease: &Lease,
        route: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        let mut state = self.owned_by(lease)?;
        let State { routes, numbers, .. } = &mut *state;
        Ok(routes.get_mut(route).map_or(SettleOutcome::Changed, |route| route.settle(numbers, settlement)))
    }

    async fn tombstones(&self, route: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        Ok(self.read(route, |route| route.graves.iter().map(Grave::tombstone).collect()))
    }

    async fn forget_tombstones(
        &self,
        lease: &Lease,
        route: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        let mut state = self.owned_by(lease)?;
        if let Some(route) = state.routes.get_mut(route) {
            route.graves.retain(|grave| !passed.contains(&grave.tombstone()));
        }
        Ok(())
    }

    async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        let mut state = self.owned_by(lease)?;
        if let Some(known) = state.replays.iter_mut().find(|known| known.id == replay) {
            known.finished = true;
        }
        Ok(())
    }

    async fn note_health(&self, lease: &Lease, route: &RouteName, health: &RouteHealth) -> Result<(), StoreError> {
        self.owned_by(lease)?.routes.entry(route.clone()).or_default().health = Some(health.clone());
        Ok(())
    }

    async fn operator_changes(&self) -> Result<u64, StoreError> {
        Ok(self.state().operator_changes)
    }

    async fn kept_counts(&self, route: &RouteName) -> Result<KeptCounts, StoreError> {
        Ok(self.read(route, RouteState::counts))
    }
}
