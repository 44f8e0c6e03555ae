//! Whether all that the stream holds is handed in. The service tells a function what it hands in, and never when it does not:
//! a mapping that is off, or a batch that nobody gets through, is silent, and after 24 hours the stream forgets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use outbox::{Moment, RouteName, Start, StoreError};
use outbox_aws::dynamodb::{Current, Loss, Seen, Watermark};
use tokio::time::timeout;

use super::Parts;
use crate::{
    forwarder::{
        share::Share,
        watermark::{ALARMING_AGE, SLACK},
    },
    recover,
};

/// How often it is looked at.
const EVERY: Duration = Duration::from_hours(1);
/// How long the stream remembers, less an hour.
///
/// Rule: "DynamoDB Streams", 24 hours.
const MEMORY: Duration = Duration::from_hours(23);
/// What was inserted so shortly before may be on its way.
const ON_ITS_WAY: Duration = Duration::from_mins(10);
/// A forwarder of then is gone: no function runs for longer than a quarter of that.
const GONE: Duration = Duration::from_hours(1);
/// A forwarder says only once a minute how far it is.
const UNSAID: Duration = Duration::from_mins(1);

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// All that was inserted until then was handed in.
    HandedIn(Timestamp),
    /// Something that was inserted at `created` was not; all that was inserted until `until` was.
    Waiting { until: Timestamp, created: Timestamp },
    /// The stream is off: of what is written now it holds nothing. All that was inserted until then was handed in.
    Off(Timestamp),
    /// What was inserted since then may have been forgotten, for this reason.
    Lost(Timestamp, &'static str),
    /// There was no time to find out: all is as it was, and until then all was handed in.
    Unread(Timestamp),
}

/// Looks, where it is time, for each route, and reads nothing after `end`: each of those that are left has as much of the time.
pub(super) async fn look(parts: &Parts, end: Moment) -> Result<(), StoreError> {
    for (number, (route, _)) in parts.routes.iter().enumerate() {
        let mark = Box::pin(parts.watermarks.watermark(&route.name)).await?;
        if let Some(loss) = &mark.loss {
            Box::pin(end_recovery(parts, &route.name, loss)).await?;
        }
        let now = parts.clock.wall();
        if mark.seen.as_ref().is_some_and(|seen| is_less(now, seen.at, EVERY)) {
            continue;
        }
        let known = parts.bookkeeping.checkpoints(&route.name).await?;
        if known.iter().any(|known| known.partition != parts.published_elsewhere.partition) {
            // A relay publishes it still, or left what is yet to be taken over: nothing has to be handed in.
            continue;
        }
        let left = u32::try_from(parts.routes.len() - number).unwrap_or(u32::MAX);
        let time = end.since(parts.clock.moment()) / left;
        match Box::pin(find(parts, route.start, &mark, now, time)).await {
            Ok((stream, found)) => Box::pin(note(parts, &route.name, &mark, &stream, now, found)).await?,
            Err(error) => tracing::warn!(
                route = %route.name, %error,
                "the stream cannot be compared with what was handed in; the keeper needs the rights that `outbox iam keeper` prints"
            ),
        }
    }
    Ok(())
}

/// Ends the alarm if `loss` was made good. If more was found since it was read, that is another one, and stays.
async fn end_recovery(parts: &Parts, route: &RouteName, loss: &Loss) -> Result<(), StoreError> {
    match recovery(parts, loss).await? {
        Recovery::None | Recovery::UnderWay => {}
        Recovery::Done => {
            if parts.watermarks.forget_loss(route, loss).await? {
                tracing::info!(%route, "what the stream may have forgotten was published from the table");
            }
        }
        // It was cancelled: the alarm is as it was before.
        Recovery::Ended => parts.watermarks.note_recovering(route, loss, "").await.map(drop)?,
    }
    Ok(())
}

/// What became of the replay that publishes what may be lost.
enum Recovery {
    /// None was asked for.
    None,
    UnderWay,
    Done,
    /// It ended before its end.
    Ended,
}

async fn recovery(parts: &Parts, loss: &Loss) -> Result<Recovery, StoreError> {
    let Some(asked) = &loss.replay else { return Ok(Recovery::None) };
    let replays = parts.bookkeeping.replays().await?;
    let Some(replay) = replays.iter().find(|replay| replay.id == *asked) else { return Ok(Recovery::Ended) };
    if !replay.finished {
        return Ok(Recovery::UnderWay);
    }
    let read = parts.bookkeeping.checkpoints(&replay.route.replay(asked)).await?;
    Ok(if read.iter().any(|checkpoint| checkpoint.finished) { Recovery::Done } else { Recovery::Ended })
}

async fn find(
    parts: &Parts,
    start: Start,
    mark: &Watermark,
    now: Timestamp,
    time: Duration,
) -> Result<(String, Found), StoreError> {
    let Current { label: stream, is_on } = parts.stream.current().await?;
    let until = match &mark.seen {
        Some(seen) => Some(seen.until),
        None => begun(parts, start, now).await?,
    };
    let Some(until) = until else {
        let reason = "what was written before the stream's memory began was handed to nobody";
        return Ok((stream, Found::Lost(Timestamp::UNIX_EPOCH, reason)));
    };
    let handed_in = mark.handed_in().map_or(until, |handed_in| handed_in.max(until));
    if mark.seen.as_ref().is_some_and(|seen| seen.stream != stream) {
        let reason = "the stream was disabled, and another one enabled: what was written in between is in neither. If the \
                      tables were restored from a backup, first stop the service's writers and run `outbox adopt`";
        // Not from what was handed in last: that is of the new one.
        return Ok((stream, Found::Lost(until, reason)));
    }
    if !is_on {
        return Ok((stream, Found::Off(until)));
    }
    if is_less(now, handed_in, EVERY) {
        return Ok((stream, Found::HandedIn(handed_in)));
    }
    if !is_less(now, handed_in, MEMORY) {
        let reason = "for longer than the stream remembers nothing was handed in, and nobody looked";
        return Ok((stream, Found::Lost(handed_in, reason)));
    }
    // A look finds all until its end; a forwarder may have been handed more than it said.
    let since = mark.handed_in().map_or(until, |handed_in| later(handed_in, UNSAID).max(until));
    let end = earlier(now, ON_ITS_WAY);
    let Ok(waiting) = timeout(time, parts.stream.inserted_between(since, end)).await else {
        // What was not seen for longer than the stream remembers is an alarm.
        tracing::warn!(?time, "there was no time to read what the stream holds: give the keeper more");
        return Ok((stream, Found::Unread(until)));
    };
    let found = match waiting? {
        None => Found::HandedIn(end.max(handed_in)),
        Some(created) if now.as_second().saturating_sub(created.as_second()) > ALARMING_AGE => {
            Found::Lost(handed_in, "for 20 hours the stream has held entries that were not handed in")
        }
        Some(created) => Found::Waiting { until, created },
    };
    Ok((stream, found))
}

/// The first look knows of nothing that was handed in before it. Gives from when on what the route has to be handed is in the
/// stream; none if it is not.
async fn begun(parts: &Parts, start: Start, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let begins = match start {
        Start::Beginning => Timestamp::UNIX_EPOCH,
        Start::Time(time) => time.min(now),
        Start::Now => now,
    };
    let (since, holds_all) = parts.stream.holds_since().await?;
    if holds_all || begins >= since {
        return Ok(Some(begins.max(since)));
    }
    Ok((!parts.stream.has_entries().await?).then_some(now))
}

async fn note(
    parts: &Parts,
    route: &RouteName,
    mark: &Watermark,
    stream: &str,
    now: Timestamp,
    found: Found,
) -> Result<(), StoreError> {
    let Parts { bookkeeping, watermarks, .. } = parts;
    let lease = Share::new(route).lease(&**bookkeeping).await?;
    let waited = mark.seen.as_ref().and_then(|seen| seen.waiting);
    let (until, waiting) = match found {
        Found::HandedIn(until) => (until, None),
        Found::Unread(until) => (until, waited),
        Found::Waiting { until, created } => {
            tracing::warn!(
                %route, %created,
                "the stream holds entries that were not handed in yet: is the event source mapping enabled?"
            );
            (until, Some(created))
        }
        Found::Off(until) => {
            tracing::error!(
                %route,
                "the stream of the entries is off: what is written is in no stream, and nobody is handed it. Enable one with \
                 the view type NEW_IMAGE, make the event source mapping of it, and run `outbox recover` once the keeper has \
                 noted that there is another stream"
            );
            (until, Some(waited.unwrap_or(now)))
        }
        Found::Lost(since, reason) => {
            tracing::error!(%route, %since, "{reason}; {}", recover(route));
            let loss = Loss { since: earlier(since, SLACK), found: now, reason: reason.to_owned(), replay: None };
            watermarks.note_loss(&lease, route, &loss, now).await?;
            // It is noted, and nothing more is to be found out about it.
            (now, waited)
        }
    };
    watermarks.note_seen(&lease, route, &Seen { at: now, until, stream: stream.to_owned(), waiting }).await?;
    if let Err(error) = watermarks.sweep_staged(&lease.name, earlier(now, GONE)).await {
        tracing::warn!(%route, %error, "what forwarders staged and did not keep is deleted later");
    }
    Ok(())
}

/// Whether `then` is less than `duration` ago.
fn is_less(now: Timestamp, then: Timestamp, duration: Duration) -> bool {
    SignedDuration::try_from(duration).is_ok_and(|duration| now.duration_since(then) < duration)
}

pub(super) fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
