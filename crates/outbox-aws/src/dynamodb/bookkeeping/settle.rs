//! Settling the front of a lane.

use std::collections::{BTreeSet, HashSet};

use aws_sdk_dynamodb::types::TransactWriteItem;
use outbox::{
    ErrorKind, RouteName, StoreError,
    bookkeeping::{Apart, Lease, SettleOutcome, Settlement},
};

use super::{
    batch::{Batch, Index, Stored},
    books::{Books, ROWS, Sent},
    keep::{join, opened},
    lanes::{self, LaneRow},
    passed::Passed,
    routes::RouteRow,
};

const SETTLING: &str = "settling kept events";

/// What a settlement does to a lane, as it was read.
pub(super) struct Removal {
    /// The indexes that were read, from the lane's first event on.
    indexes: Vec<Index>,
    /// Events that are removed, identity and content, as far as their contents are asked for.
    pub(super) removed: Vec<(String, Stored)>,
    /// How many these are.
    count: u64,
    /// The number of the first event that is left.
    left: Option<u64>,
}

impl Removal {
    /// The number of the first event that is left.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// What nothing leads to any more, once it is done.
    pub(super) fn passed(&self, lane: &LaneRow) -> Option<Passed> {
        let ends = self.indexes.iter().filter_map(|index| index.entries.last().map(|entry| entry.0));
        let last = ends.take_while(|last| self.left.is_none_or(|left| *last < left)).last()?;
        Some(Passed::new(&lane.row, last))
    }
}

impl Books {
    pub(super) async fn settle(
        &self,
        lease: &Lease,
        name: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        // Each one that is discarded leaves a row: more than one transaction takes are settled one part after the other.
        if settlement.discarded && settlement.remove.len() > ROWS / 2 {
            let (now, later) = settlement.remove.split_at(ROWS / 2);
            let part = Settlement { remove: now.to_vec(), front: None, ..settlement.clone() };
            match self.settle_all(lease, name, &part).await? {
                SettleOutcome::Left(_) => {}
                over @ (SettleOutcome::Released | SettleOutcome::Changed) => return Ok(over),
            }
            let rest = Settlement { remove: later.to_vec(), ..settlement.clone() };
            return Box::pin(self.settle(lease, name, &rest)).await;
        }
        self.settle_all(lease, name, settlement).await
    }

    async fn settle_all(
        &self,
        lease: &Lease,
        name: &RouteName,
        settlement: &Settlement,
    ) -> Result<SettleOutcome, StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            if let Some(outcome) = self.try_settle(lease, name, settlement).await? {
                return Ok(outcome);
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(SETTLING));
            }
        }
    }

    /// `None` if something changed since it was read.
    async fn try_settle(
        &self,
        lease: &Lease,
        name: &RouteName,
        settlement: &Settlement,
    ) -> Result<Option<SettleOutcome>, StoreError> {
        let Some((route, lane)) = self.to_settle(name, settlement).await? else {
            self.expect_held(lease).await?;
            return Ok(Some(SettleOutcome::Changed));
        };
        let remove: HashSet<u64> = settlement.remove.iter().map(|id| id.0).collect();
        let contents = settlement.discarded || settlement.apart.is_some();
        let Some(removal) = self.removal(&lane, &remove, contents).await? else { return Ok(None) };
        if removal.count == 0 && settlement.front.is_none() {
            self.expect_held(lease).await?;
            return Ok(Some(SettleOutcome::Left(lane.trouble.kept)));
        }
        let discarded = removal.removed.iter().filter(|_| settlement.discarded);
        let mut actions: Vec<_> =
            discarded.map(|(identity, stored)| self.buries(&route, identity, stored)).collect::<Result<_, _>>()?;
        let (guard, batch) = match (&settlement.apart, settlement.remove.first(), removal.removed.first()) {
            (Some(apart), Some(_), Some(dead)) => self.set_apart(lease, &route, apart, dead, &mut actions).await?,
            _ => (self.called(&route)?, None),
        };
        let passed = removal.passed(&lane);
        if let Some(passed) = &passed {
            actions.push(self.notes_passed(passed)?);
        }
        let (outcome, action) = self.leaves(lane, &removal, settlement)?;
        actions.push(action);
        let sent = self.write(Some(lease), Some(guard), actions, SETTLING).await;
        if let (Some(batch), false) = (&batch, matches!(sent, Ok(Sent::Done))) {
            self.unstage(batch).await;
        }
        if sent? == Sent::Changed {
            return Ok(None);
        }
        if let Some(passed) = &passed {
            self.sweep_passed(passed).await;
        }
        Ok(Some(outcome))
    }

    /// Route and lane of a settlement, if the lane is still in the trouble that it is about.
    async fn to_settle(
        &self,
        name: &RouteName,
        settlement: &Settlement,
    ) -> Result<Option<(RouteRow, LaneRow)>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(None) };
        let lane = self.lane(&lanes::row(&route, &settlement.lane)).await?;
        Ok(lane.filter(|lane| lane.trouble.generation == settlement.generation).map(|lane| (route, lane)))
    }

    /// What is left of the lane, and the action that writes it.
    fn leaves(
        &self,
        mut lane: LaneRow,
        removal: &Removal,
        settlement: &Settlement,
    ) -> Result<(SettleOutcome, TransactWriteItem), StoreError> {
        let Some(first) = removal.left else {
            return Ok((SettleOutcome::Released, self.releases_lane(&lane)?));
        };
        lane.first = first;
        lane.trouble.kept = lane.trouble.kept.saturating_sub(removal.count);
        if let Some(front) = &settlement.front {
            lane.trouble.front = front.clone();
        }
        Ok((SettleOutcome::Left(lane.trouble.kept), self.writes_lane(&lane)?))
    }

    /// The events at the front of a lane that are in `remove`, and what is left behind them. `None` if somebody settled
    /// it meanwhile.
    pub(super) async fn removal(
        &self,
        lane: &LaneRow,
        remove: &HashSet<u64>,
        with_contents: bool,
    ) -> Result<Option<Removal>, StoreError> {
        let of = |index: &Index| -> Vec<u64> {
            index.entries.iter().map(|entry| entry.0).filter(|number| *number >= lane.first).collect()
        };
        let leaves = |indexes: &[Index]| indexes.iter().flat_map(&of).find(|number| !remove.contains(number));
        let indexes = self.indexes(lane, |indexes| leaves(indexes).is_some()).await?;
        let left = leaves(&indexes);
        let numbers: BTreeSet<_> = indexes.iter().flat_map(&of).collect();
        let gone: HashSet<_> = numbers.iter().copied().take_while(|number| Some(*number) != left).collect();
        if let Some(inside) = remove.iter().find(|number| numbers.contains(number) && !gone.contains(number)) {
            let message = format!(
                "{SETTLING}: kept event {inside} is not at the front of its lane: settle those before it first"
            );
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let mut removed = Vec::new();
        for index in indexes.iter().filter(|_| with_contents) {
            let Some(contents) = self.contents(index, |entry| gone.contains(&entry.0)).await? else { return Ok(None) };
            removed.extend(contents.into_iter().map(|(entry, stored)| (entry.1.clone(), stored)));
        }
        Ok(Some(Removal { indexes, removed, count: gone.len() as u64, left }))
    }

    /// Adds the actions that keep a dead letter in a lane of its own, behind what is kept there already. Gives the action
    /// on the route's row that goes with them, and what is to be unstaged if they are not committed.
    async fn set_apart(
        &self,
        lease: &Lease,
        route: &RouteRow,
        apart: &Apart,
        dead: &(String, Stored),
        actions: &mut Vec<TransactWriteItem>,
    ) -> Result<(TransactWriteItem, Option<Batch>), StoreError> {
        let row = lanes::row(route, &apart.lane);
        let known = self.lane(&row).await?;
        if let Some(lane) = &known
            && self.identities(lane).await?.contains(&dead.0)
        {
            return Ok((self.called(route)?, None));
        }
        let first = self.numbers(2).await?;
        let events = std::slice::from_ref(dead);
        let batch = Batch::new(&row.name, first + 1, events)?;
        actions.extend(self.keeps(lease, &batch).await?);
        if let Some(mut lane) = known {
            join(&mut lane, events);
            actions.push(self.writes_lane(&lane)?);
            return Ok((self.called(route)?, Some(batch)));
        }
        let mut lane = opened(row, &apart.lane, apart.front(), first);
        join(&mut lane, events);
        actions.push(self.opens_lane(&lane)?);
        Ok((self.opens(route)?, Some(batch)))
    }
}
