//! What a replay would publish: it is read and counted, as a relay would read it.

use std::sync::Arc;

use indicatif::ProgressBar;
use jiff::Timestamp;
#[cfg(feature = "aws")]
use outbox::bookkeeping::Replay;
use outbox::{ErrorKind, Event, KeyOrder, Record, StoreError, source::Limit};
use serde::Serialize;

use super::Plan;
use crate::{commands::standing, exit::Failure, output::Output, wiring::Stores};

/// Read at a time while counting.
const PAGE: Limit = Limit { events: 2_000, bytes: 8 << 20 };

/// So often in a row nothing may come before the end that is known to be there,
const VAIN: u32 = 20;
/// of a stream more often: of a shard that is still open it has an empty page for each minute or so in which nothing happened.
const VAIN_OF_A_STREAM: u32 = 600;

/// What one route would get.
#[derive(Debug, Default, Serialize)]
pub(in crate::commands) struct Found {
    pub(super) route: String,
    pub(in crate::commands) replay: Option<String>,
    pub(in crate::commands) events: u64,
    pub(super) bytes: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    /// The stream does not remember all of it, and the table is read instead, up to now.
    pub(super) table: bool,
}

impl Plan {
    fn takes(&self, event: &Event) -> bool {
        self.wanted.matches(event)
            && self.routed.matches(event)
            && self.replay.event.as_deref().is_none_or(|id| event.id() == id)
    }

    fn takes_time(&self, recorded: Timestamp) -> bool {
        self.replay.since.is_none_or(|since| recorded >= since)
            && self.replay.until.is_none_or(|until| recorded < until)
    }
}

/// Reads what the replay would read.
pub(in crate::commands) async fn count(stores: &Stores, out: Output, plan: &Plan) -> Result<Found, Failure> {
    let total = standing::left_of_replay(stores, &plan.registration, &plan.replay).await?;
    let bar = out.progress(total, &format!("reading for {}", plan.replay.route));
    let found = match in_partitions(stores, plan, &bar).await {
        Err(error) if error.kind() == ErrorKind::Trimmed => in_table(stores, plan, &bar, error).await,
        found => found,
    };
    bar.finish_and_clear();
    Ok(found?)
}

async fn in_partitions(stores: &Stores, plan: &Plan, bar: &ProgressBar) -> Result<Found, StoreError> {
    let mut found = Found::none(plan);
    let most = match stores.source.key_order() {
        KeyOrder::Promised => VAIN,
        KeyOrder::Observed | KeyOrder::None => VAIN_OF_A_STREAM,
    };
    for read in &plan.replay.ends {
        let mut position = standing::start_of_replay(stores, &plan.registration, &plan.replay, read).await?;
        let ((partition, end), mut vain) = (read, 0);
        while stores.source.order(&position, end).is_lt() && vain < most {
            let page = stores.source.read(partition, &position, PAGE).await?;
            let is_within = |record: &&Arc<Record>| stores.source.order(&record.position, end).is_le();
            page.records.iter().take_while(is_within).for_each(|record| found.take(record, plan, bar));
            if page.end {
                break;
            }
            vain = if page.next == position { vain + 1 } else { 0 };
            position = page.next;
        }
    }
    Ok(found)
}

/// The stream does not remember all of it: as a relay does then, which publishes what the table has.
async fn in_table(stores: &Stores, plan: &Plan, bar: &ProgressBar, forgotten: StoreError) -> Result<Found, StoreError> {
    let replaying = standing::replaying(&plan.registration, &plan.replay);
    let Some(recovery) = stores.source.recovery(&replaying, &[]).await? else { return Err(forgotten) };
    let mut found = Found { table: true, ..Found::none(plan) };
    let mut position = recovery.position;
    loop {
        let page = stores.source.read(&recovery.partition, &position, PAGE).await?;
        page.records.iter().for_each(|record| found.take(record, plan, bar));
        if page.end {
            return Ok(found);
        }
        position = page.next;
    }
}

impl Found {
    fn none(plan: &Plan) -> Self {
        Self { route: plan.replay.route.to_string(), ..Self::default() }
    }

    /// Counts what of a record the replay publishes.
    fn take(&mut self, record: &Record, plan: &Plan, bar: &ProgressBar) {
        bar.inc(1);
        if plan.takes_time(record.recorded) {
            let matching = record.events().iter().filter(|event| plan.takes(event));
            matching.for_each(|event| self.add(event, record.recorded));
        }
    }

    /// What `replay` publishes.
    #[cfg(feature = "aws")]
    pub(in crate::commands) fn of(self, replay: &Replay) -> Self {
        Self { replay: Some(replay.id.clone()), ..self }
    }

    fn add(&mut self, event: &Event, recorded: Timestamp) {
        self.events += 1;
        self.bytes += event.data().map_or(0, |data| data.len() as u64);
        self.first = Some(self.first.map_or(recorded, |first| first.min(recorded)));
        self.last = Some(self.last.map_or(recorded, |last| last.max(recorded)));
    }
}
