//! What a relay left that published a route before. Functions are handed what the stream holds, and nothing else: what the relay
//! had not done, and the stream has forgotten, nobody would publish.

use outbox::{ErrorKind, Moment, RouteName, StoreError, bookkeeping::Checkpoint};
use outbox_aws::dynamodb::{Loss, Reached, Seen};
use tokio::time::sleep;

use super::{Parts, stream::earlier};
use crate::{
    forwarder::{share::Share, watermark::SLACK},
    recover,
};

/// Waits for as long as a lease that nobody gave back has to stand still.
///
/// # Errors
/// [`ErrorKind::Ownership`] if it does not, or it would last beyond `stop`: a relay that lives needs its checkpoints.
pub(super) async fn refuse_beside_a_relay(parts: &Parts, stop: Moment) -> Result<(), StoreError> {
    let seen = parts.bookkeeping.lease(&parts.lease).await?;
    if seen.epoch == 0 || seen.released {
        return Ok(());
    }
    let wait = seen.duration.max(parts.failover);
    if parts.clock.moment() + wait >= stop {
        let message = format!(
            "{} published the routes and did not give its lease back, and that it is gone shows only after {wait:?}, for which there is no time: give the keeper a timeout longer than that, by a quarter and more, or start that relay again and stop it",
            seen.holder
        );
        return Err(StoreError::new(ErrorKind::Ownership, message));
    }
    sleep(wait).await;
    let now = parts.bookkeeping.lease(&parts.lease).await?;
    if now.released || (now.epoch, now.beat) == (seen.epoch, seen.beat) {
        return Ok(());
    }
    let message = format!("{} publishes the routes: no relay may run beside the functions; stop it", now.holder);
    Err(StoreError::new(ErrorKind::Ownership, message))
}

/// Notes how far the relay was, and what is lost of what came since; then forgets its checkpoints, so that a relay that comes
/// after the functions begins anew.
pub(super) async fn take_over(parts: &Parts, route: &RouteName, left: &[Checkpoint]) -> Result<(), StoreError> {
    let Parts { bookkeeping, watermarks, stream, clock, .. } = parts;
    let now = clock.wall();
    let (label, Reached { until, is_forgotten }) =
        (stream.current().await?.label, Box::pin(stream.reached(left)).await?);
    let lease = Share::new(route).lease(&**bookkeeping).await?;
    if is_forgotten {
        let reason = "a relay had not read this far, or not the table again, when functions took its place, and the stream \
                      does not hold all that came since";
        tracing::error!(%route, %until, "{reason}; {}", recover(route));
        let loss = Loss { since: earlier(until, SLACK), found: now, reason: reason.to_owned(), replay: None };
        Box::pin(watermarks.note_loss(&lease, route, &loss, now)).await?;
    } else {
        tracing::info!(%route, %until, "functions go on in the place of a relay");
    }
    let until = if is_forgotten { now } else { until };
    Box::pin(watermarks.note_seen(&lease, route, &Seen { at: until, until, stream: label, waiting: None })).await?;
    let partitions: Vec<_> = left.iter().map(|left| left.partition.clone()).collect();
    watermarks.take_over(&lease, route, &partitions).await
}
