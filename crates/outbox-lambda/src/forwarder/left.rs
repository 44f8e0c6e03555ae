//! What is left when the time is over although the sink takes other events: it is kept for the keeper, or the shard would wait
//! for it for ever. A batch comes again from its first record on that is not done, and holds no more than so many: once all
//! others in it are done, nothing would be left in it to find out with whose fault it is. Where it had no others from the
//! beginning, some minutes of failing for no stated reason are enough.

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use outbox::{
    Content, Lane, Position, Record,
    bookkeeping::{Front, FrontState, Keep, KeepOutcome, KeptContent},
};
use tokio::time::timeout;

use super::{invocation::Invocation, jobs, partition};

/// So many lanes are kept at a time. More of them look like the sink's own trouble, and wait until the batch gets no further.
const FEW: usize = 16;

/// So long nothing of a batch is accepted, for a reason that nobody gives, before a part of it is kept.
const DOUBTED: SignedDuration = SignedDuration::from_mins(5);

impl Invocation<'_> {
    /// Keeps what is left, or a part of it, if the sink took others of the batch.
    pub(super) async fn keep_what_is_left(&mut self) {
        let mut lanes = self.lanes_left();
        let left = lanes.len();
        // For what was not even tried there was no time: it comes again, and so does what could not be kept, and what follows
        // an entry that is missing still.
        lanes.retain(|(lane, _)| self.failed.contains(lane) && self.is_whole(lane));
        let are_few = lanes.len() == left && left <= FEW;
        let is_stuck = self.answerable(self.prefix) == 0 && !self.is_sink_down;
        let takes_others = self.accepted || self.is_redelivered || self.is_doubted_for_long();
        let cannot_be_kept = self.fatal.is_some() || self.unwritten.is_some();
        if lanes.is_empty() || !(are_few || is_stuck) || !takes_others || cannot_be_kept {
            return;
        }
        lanes.truncate(FEW);
        for (lane, events) in lanes {
            let kept = self.keep_left(lane, events).await;
            if !kept {
                break;
            }
        }
        self.prefix = self.done_prefix();
        // That others were taken before says nothing about the sink now.
        self.resolved = self.prefix == self.records && self.accepted;
    }

    /// Whether for some minutes nothing of the batch was accepted, and the sink does not say that the fault is its own. Then it
    /// may be that of the first event, which has nothing beside it in the batch that would show that; and the shard would wait
    /// for it until the stream forgets. Nothing is given up by this: the keeper tries what is kept, and looks for evidence.
    fn is_doubted_for_long(&self) -> bool {
        let now = self.parts.clock.wall();
        let lasts = |since| now.duration_since(since) >= DOUBTED;
        !self.is_sink_down && self.doubted.is_some_and(lasts)
    }

    async fn keep_left(&mut self, lane: Lane, events: Vec<(KeptContent, Position)>) -> bool {
        let now = self.parts.clock.wall();
        let reason = self.said.clone().unwrap_or_else(|| "there was no time to publish it".to_owned());
        let front = Front { state: FrontState::Retrying { due: now }, attempts: 0, failed_since: now, reason };
        let keep = Keep { lane: lane.clone(), front: Some(front), events };
        let left = self.time.give_up.since(self.parts.clock.moment());
        let partition = partition();
        let keeping = self.parts.bookkeeping.keep(&self.lease, &self.parts.route.name, &partition, &keep);
        match timeout(left, keeping).await {
            Ok(Ok(KeepOutcome::Stored { .. })) => {
                tracing::warn!(route = %self.parts.route.name, ?lane, "what the sink did not take by the deadline is kept");
                self.finish_kept(&keep.events);
                true
            }
            Ok(Ok(KeepOutcome::KeyFree)) | Err(_) => false,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what the sink did not take by the deadline could not be kept");
                self.unwritten = Some(error.to_string());
                false
            }
        }
    }

    /// Events of the batch that are not done, and of what was fetched for it, by lane, each lane in its order, and the lanes as
    /// they began.
    fn lanes_left(&self) -> Vec<(Lane, Vec<(KeptContent, Position)>)> {
        let mut lanes: Vec<(Lane, Vec<_>)> = Vec::new();
        let mut known: BTreeMap<Lane, usize> = BTreeMap::new();
        for (_, record) in &self.entries {
            for (content, index) in self.left_of(record) {
                debug_assert_eq!(content.index(), index);
                let lane = content.lane();
                let at = *known.entry(lane.clone()).or_insert(lanes.len());
                if at == lanes.len() {
                    lanes.push((lane, Vec::new()));
                }
                lanes[at].1.push((content, record.position.clone()));
            }
        }
        lanes
    }

    /// Events of a record that are not done, behind those that were fetched for it.
    fn left_of(&self, record: &Arc<Record>) -> Vec<(KeptContent, u32)> {
        let records = self.fetched_before(record).into_iter().chain([record]);
        records.flat_map(|record| self.open_in(record)).collect()
    }

    /// Events of a record that are not done.
    pub(super) fn open_in(&self, record: &Arc<Record>) -> Vec<(KeptContent, u32)> {
        let is_open = |index: u32| !self.finished.contains(&(record.position.as_str().to_owned(), index));
        match &record.content {
            Content::Undecodable(row) => {
                is_open(0).then(|| (KeptContent::Undecodable(row.clone()), 0)).into_iter().collect()
            }
            Content::Events(events) => {
                let taken = events.iter().filter(|event| self.filter.matches(event));
                let open = taken.map(|event| (KeptContent::Event(event.clone()), jobs::index_of(event)));
                open.filter(|(_, index)| is_open(*index)).collect()
            }
        }
    }

    /// So many records from the first on are done.
    fn done_prefix(&self) -> usize {
        let is_open = |record: &Arc<Record>| self.misses(record) || !self.left_of(record).is_empty();
        let open = self.entries.iter().filter(|(_, record)| is_open(record));
        let first = open.map(|(index, _)| *index).min();
        first.map_or(self.records, |first| self.prefix.max(first))
    }
}
