//! How far the route is: noted once a minute, and told at once where the stream is about to forget what it hands in.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{Moment, StoreError, bookkeeping::Lease};
use outbox_aws::dynamodb::{HandedIn, Loss};
use tokio::{sync::Mutex, time::timeout};

use super::{Forwarder, Parts, Time, invocation::Ended};
use crate::{batch::Batch, recover};

/// What the stream remembers is about to be forgotten when records are so old; in seconds.
///
/// Rule: "DynamoDB Streams", 24 hours.
pub(crate) const ALARMING_AGE: i64 = 20 * 60 * 60;
/// A batch that is older counts as behind; in seconds.
const BEHIND: i64 = 10 * 60;
/// How often each is noted by one process.
const EVERY: Duration = Duration::from_mins(1);
/// By how much clocks may differ, and writers' transactions be tried again.
pub(crate) const SLACK: Duration = Duration::from_hours(1);
/// How long an alarm may keep a batch waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// When this process last noted what.
#[derive(Default)]
pub(super) struct Noted(Mutex<Last>);

#[derive(Default)]
struct Last {
    current: Option<Moment>,
    behind: Option<Moment>,
    old: Option<Moment>,
}

impl Forwarder {
    /// Says so, and notes it, if the stream is about to forget records of this age. Nothing else depends on it.
    pub(super) async fn alarm_if_old(&self, batch: &Batch, lease: &Lease, time: &Time) {
        let Parts { route, watermarks, clock, .. } = &self.parts;
        let (now, wall) = (clock.moment(), clock.wall());
        let Some(created) = batch.records.iter().filter_map(|record| record.created).min() else { return };
        let age = wall.as_second().saturating_sub(created);
        let mut last = self.watermark.0.lock().await;
        if age <= ALARMING_AGE || !is_due(last.old, now) {
            return;
        }
        let (hours, recover) = (age / 3600, recover(&route.name));
        tracing::error!(
            route = %route.name, hours,
            "the stream remembers 24 hours, and hands in records that are {hours} old: it may have forgotten others; {recover}"
        );
        let Ok(created) = Timestamp::from_second(created) else { return };
        let reason = format!("records were {hours} hours old when they were handed in");
        let loss = Loss { since: created.saturating_sub(SLACK).unwrap_or(created), found: wall, reason, replay: None };
        let left = time.drain.since(now).min(PATIENCE);
        // What the stream has forgotten of a shard is older than what it hands in.
        let until = created.saturating_add(SLACK).unwrap_or(wall);
        let noting = Box::pin(watermarks.note_loss(lease, &route.name, &loss, until));
        match timeout(left, noting).await {
            Ok(Ok(())) => last.old = Some(now),
            Ok(Err(error)) => tracing::warn!(%error, "that the stream may have forgotten records could not be noted"),
            Err(_) => tracing::warn!("there was no time to note that the stream may have forgotten records"),
        }
    }

    /// Notes of a batch that is done, all or in part, how old it was, and whether the sink took anything of it.
    pub(super) async fn note_handed_in(&self, batch: &Batch, ended: &Ended) {
        let Parts { route, watermarks, clock, .. } = &self.parts;
        let (now, wall) = (clock.moment(), clock.wall());
        let created = batch.records[..ended.done].iter().rev().find_map(|record| record.created);
        let Some(created) = created.and_then(|created| Timestamp::from_second(created).ok()) else { return };
        let is_behind = wall.as_second().saturating_sub(created.as_second()) > BEHIND;
        let mut last = self.watermark.0.lock().await;
        let noted = if is_behind { &mut last.behind } else { &mut last.current };
        if !is_due(*noted, now) {
            return;
        }
        let done = if is_behind { HandedIn::Behind(wall, created) } else { HandedIn::Current(created) };
        let noting = async {
            let lease = self.share.lease(&*self.parts.bookkeeping).await?;
            watermarks.note_handed_in(&lease, &route.name, done, ended.accepted.then_some(wall)).await
        };
        match Box::pin(noting).await {
            Ok::<_, StoreError>(()) => *noted = Some(now),
            Err(error) => tracing::warn!(%error, "how far the route is could not be noted"),
        }
    }
}

fn is_due(noted: Option<Moment>, now: Moment) -> bool {
    noted.is_none_or(|noted| now.since(noted) >= EVERY)
}
