//! Keeping events of a lane.

use std::{collections::HashSet, sync::Arc};

use outbox::{
    PartitionId, RouteName, StoreError,
    bookkeeping::{Front, FrontState, Keep, KeepOutcome, Lane, Lease, Trouble},
};

use super::{
    batch::{Batch, Stored},
    books::{Books, Sent},
    lanes::{self, LaneRow},
    remembered::Identities,
    routes::RouteRow,
    rows,
};

pub(super) const KEEPING: &str = "keeping events";

/// Events that are not kept yet, and whether what is said of the front is said of the first of them.
struct New {
    events: Vec<(String, Stored)>,
    front_is_gone: bool,
}

impl Books {
    pub(super) async fn keep(
        &self,
        lease: &Lease,
        name: &RouteName,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<KeepOutcome, StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_or_new(name).await?;
            if let Some(outcome) = self.try_keep(lease, &route, partition, keep).await? {
                return Ok(outcome);
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(KEEPING));
            }
        }
    }

    /// `None` if something changed since it was read.
    async fn try_keep(
        &self,
        lease: &Lease,
        route: &RouteRow,
        partition: &PartitionId,
        keep: &Keep,
    ) -> Result<Option<KeepOutcome>, StoreError> {
        let row = lanes::row(route, &keep.lane);
        let known = self.lane(&row).await?;
        let Some(front) = known.as_ref().map(|lane| &lane.trouble.front).or(keep.front.as_ref()).cloned() else {
            self.expect_held(lease).await?;
            return Ok(Some(KeepOutcome::KeyFree));
        };
        let kept = match &known {
            Some(lane) => self.identities(lane).await?,
            None => Arc::default(),
        };
        let new = new_events(partition, keep, &kept, &self.buried(route).await?)?;
        if new.events.is_empty() {
            self.expect_held(lease).await?;
            // All of them may have been discarded: there is no trouble to open, and nothing to publish.
            let generation = match known {
                Some(lane) => lane.trouble.generation,
                None => self.numbers(1).await?,
            };
            return Ok(Some(KeepOutcome::Stored { generation }));
        }
        let front = if new.front_is_gone && known.is_none() { untried(&front) } else { front };
        let first = self.numbers(new.events.len() + 1).await?;
        let (lane, is_new) = match known {
            Some(lane) => (lane, false),
            None => (opened(row, &keep.lane, front, first), true),
        };
        let generation = lane.trouble.generation;
        let sent = self.append(lease, route, lane, is_new, first + 1, &new.events).await?;
        Ok((sent == Sent::Done).then_some(KeepOutcome::Stored { generation }))
    }

    /// Writes `events` behind what `lane` has, or opens it with them.
    async fn append(
        &self,
        lease: &Lease,
        route: &RouteRow,
        mut lane: LaneRow,
        is_new: bool,
        first: u64,
        events: &[(String, Stored)],
    ) -> Result<Sent, StoreError> {
        let batch = Batch::new(&lane.row.name, first, events)?;
        let mut actions = self.keeps(lease, &batch).await?;
        join(&mut lane, events);
        let guard = if is_new {
            actions.push(self.opens_lane(&lane)?);
            self.opens(route)?
        } else {
            actions.push(self.writes_lane(&lane)?);
            self.called(route)?
        };
        let sent = self.write(Some(lease), Some(guard), actions, KEEPING).await;
        if !matches!(sent, Ok(Sent::Done)) {
            self.unstage(&batch).await;
        }
        sent
    }
}

/// A lane that keeps nothing yet. Its first event has the number behind its generation's.
pub(super) fn opened(row: rows::Row, lane: &Lane, front: Front, generation: u64) -> LaneRow {
    let trouble = Trouble { lane: lane.clone(), generation, front, kept: 0 };
    LaneRow {
        row,
        trouble,
        version: 0,
        seen_generation: 0,
        first: generation + 1,
        keys: std::collections::BTreeSet::new(),
    }
}

/// Counts `events` among those of `lane`.
pub(super) fn join(lane: &mut LaneRow, events: &[(String, Stored)]) {
    lane.trouble.kept += events.len() as u64;
    if let Lane::Event(_) = &lane.trouble.lane {
        lane.keys.extend(events.iter().filter_map(|(_, stored)| stored.key.clone()));
    }
}

/// Those that are neither kept nor buried, each once.
fn new_events(
    partition: &PartitionId,
    keep: &Keep,
    kept: &Identities,
    buried: &HashSet<String>,
) -> Result<New, StoreError> {
    let (mut new, mut seen) = (New { events: Vec::new(), front_is_gone: false }, HashSet::new());
    for (content, position) in &keep.events {
        let identity = rows::identity(content, partition.as_str(), position.record());
        if buried.contains(&identity) || kept.contains(&identity) || !seen.insert(identity.clone()) {
            new.front_is_gone |= new.events.is_empty();
            continue;
        }
        new.events.push((identity, Stored::new(content, partition.as_str(), position.as_str())?));
    }
    Ok(new)
}

/// What was said of a front that was discarded since does not apply to the event behind it: that one is tried at once.
fn untried(front: &Front) -> Front {
    Front { state: FrontState::Retrying { due: front.failed_since }, attempts: 0, ..front.clone() }
}
