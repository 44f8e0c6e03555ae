//! What one route keeps: lanes in trouble, tombstones, checkpoints.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::Numbers;
use crate::{
    bookkeeping::{
        Apart, Checkpoint, Front, FrontState, Keep, KeepOutcome, Kept, KeptContent, KeptCounts, KeptId, Lane,
        RouteHealth, SettleOutcome, Settlement, Tombstone, Trouble, WitnessList,
    },
    entry::Position,
    source::PartitionId,
};

#[derive(Clone, Default)]
pub(super) struct RouteState {
    pub(super) checkpoints: BTreeMap<PartitionId, Checkpoint>,
    pub(super) witnesses: BTreeMap<PartitionId, WitnessList>,
    pub(super) lanes: BTreeMap<Lane, LaneState>,
    /// Discarded and erased events that a restart may read again.
    pub(super) graves: Vec<Grave>,
    pub(super) health: Option<RouteHealth>,
    pub(super) paused: bool,
}

/// A discarded event: by its id alone it could not be told from another one that a producer gave the same.
#[derive(Clone)]
pub(super) struct Grave {
    id: Arc<str>,
    partition: PartitionId,
    position: Position,
    index: u32,
}

impl PartialEq for Grave {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, &self.partition, self.position.record(), self.index)
            == (&other.id, &other.partition, other.position.record(), other.index)
    }
}

impl Grave {
    fn of(content: &KeptContent, partition: &PartitionId, position: &Position) -> Self {
        Self {
            id: content.id().into(),
            partition: partition.clone(),
            position: position.clone(),
            index: content.index(),
        }
    }

    pub(super) fn is_in(&self, partitions: &[PartitionId]) -> bool {
        partitions.contains(&self.partition)
    }

    pub(super) fn tombstone(&self) -> Tombstone {
        (self.id.clone(), self.partition.clone(), self.position.clone())
    }
}

/// A lane in trouble: never without an event.
#[derive(Clone)]
pub(super) struct LaneState {
    pub(super) generation: u64,
    pub(super) front: Front,
    pub(super) events: Vec<Kept>,
}

impl RouteState {
    /// Whether there is nothing of this route.
    pub(super) fn is_blank(&self) -> bool {
        self.checkpoints.is_empty()
            && self.lanes.is_empty()
            && self.graves.is_empty()
            && self.health.is_none()
            && !self.paused
    }

    pub(super) fn trouble(&self, lane: &Lane) -> Option<Trouble> {
        self.lanes.get(lane).map(|state| state.trouble(lane))
    }

    pub(super) fn troubles(&self, after: Option<&Lane>) -> impl Iterator<Item = Trouble> {
        let behind = after.map_or(Unbounded, Excluded);
        self.lanes.range::<Lane, _>((behind, Unbounded)).map(|(lane, state)| state.trouble(lane))
    }

    pub(super) fn kept(&self, lane: &Lane) -> impl Iterator<Item = &Kept> {
        self.lanes.get(lane).into_iter().flat_map(|state| &state.events)
    }

    pub(super) fn keep(&mut self, numbers: &mut Numbers, partition: &PartitionId, keep: &Keep) -> KeepOutcome {
        let is_discarded = |(content, position): &(KeptContent, Position)| {
            !self.graves.is_empty() && self.graves.contains(&Grave::of(content, partition, position))
        };
        let fresh = keep.events.iter().filter(|event| !is_discarded(event));
        let fresh: Vec<_> = fresh.cloned().collect();
        if let Some(lane) = self.lanes.get_mut(&keep.lane) {
            lane.add(numbers, partition, fresh);
            return KeepOutcome::Stored { generation: lane.generation };
        }
        let Some(front) = &keep.front else { return KeepOutcome::KeyFree };
        if fresh.is_empty() {
            // All that was to be kept has been dealt with: nothing is left to do for it, least of all to publish it.
            return KeepOutcome::Stored { generation: numbers.generation };
        }
        let front_is_discarded = keep.events.first().is_some_and(is_discarded);
        let front = if front_is_discarded { untried(front) } else { front.clone() };
        let generation = Numbers::next(&mut numbers.generation);
        let mut lane = LaneState { generation, front, events: Vec::new() };
        lane.add(numbers, partition, fresh);
        self.lanes.insert(keep.lane.clone(), lane);
        KeepOutcome::Stored { generation }
    }

    pub(super) fn settle(&mut self, numbers: &mut Numbers, settlement: &Settlement) -> SettleOutcome {
        let Some(lane) = self.lanes.get_mut(&settlement.lane) else { return SettleOutcome::Changed };
        if lane.generation != settlement.generation {
            return SettleOutcome::Changed;
        }
        let is_done = |kept: &mut Kept| settlement.remove.contains(&kept.id);
        let done: Vec<_> = lane.events.extract_if(.., is_done).collect();
        let left = lane.events.len() as u64;
        if left == 0 {
            self.lanes.remove(&settlement.lane);
        } else if let Some(front) = &settlement.front {
            lane.front = front.clone();
        }
        if settlement.discarded {
            bury(&mut self.graves, &done);
        }
        let first = settlement.remove.first();
        if let (Some(apart), Some(dead)) = (&settlement.apart, done.iter().find(|kept| Some(&kept.id) == first)) {
            self.set_apart(numbers, apart, dead);
        }
        if left == 0 { SettleOutcome::Released } else { SettleOutcome::Left(left) }
    }

    fn set_apart(&mut self, numbers: &mut Numbers, apart: &Apart, dead: &Kept) {
        let lane = self.lanes.entry(apart.lane.clone()).or_insert_with(|| LaneState {
            generation: Numbers::next(&mut numbers.generation),
            front: apart.front(),
            events: Vec::new(),
        });
        lane.add(numbers, &dead.partition, vec![(dead.content.clone(), dead.position.clone())]);
    }

    pub(super) fn counts(&self) -> KeptCounts {
        let mut counts = KeptCounts { lanes: self.lanes.len() as u64, ..KeptCounts::default() };
        for lane in self.lanes.values() {
            counts.parked += lane.parked();
            match lane.front.state {
                FrontState::Retrying { .. } => counts.retrying += 1,
                FrontState::Dead => counts.dead += 1,
                FrontState::Discarded { .. } => {}
            }
        }
        counts
    }
}

/// Leaves tombstones, so that a restart that reads these events again does not publish them.
pub(super) fn bury(graves: &mut Vec<Grave>, gone: &[Kept]) {
    for kept in gone {
        let grave = Grave::of(&kept.content, &kept.partition, &kept.position);
        if !graves.contains(&grave) {
            graves.push(grave);
        }
    }
}

impl LaneState {
    /// Adds events at the end, but for those that are there already.
    fn add(&mut self, numbers: &mut Numbers, partition: &PartitionId, events: Vec<(KeptContent, Position)>) {
        for (content, position) in events {
            let is_it = |kept: &Kept| {
                kept.content.id() == content.id()
                    && kept.content.index() == content.index()
                    && (&kept.partition, kept.position.record()) == (partition, position.record())
            };
            if self.events.iter().any(is_it) {
                continue;
            }
            let id = KeptId(Numbers::next(&mut numbers.kept));
            self.events.push(Kept { id, content, partition: partition.clone(), position });
        }
    }

    /// Events that wait behind the front.
    pub(super) fn parked(&self) -> u64 {
        (self.events.len() as u64).saturating_sub(1)
    }

    fn trouble(&self, lane: &Lane) -> Trouble {
        Trouble {
            lane: lane.clone(),
            generation: self.generation,
            front: self.front.clone(),
            kept: self.events.len() as u64,
        }
    }
}

/// What was said of a front that is discarded since does not apply to the event behind it: that one is tried at once.
fn untried(front: &Front) -> Front {
    let state = FrontState::Retrying { due: front.failed_since };
    Front { state, attempts: 0, ..front.clone() }
}
