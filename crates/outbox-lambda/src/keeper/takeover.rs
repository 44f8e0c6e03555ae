//! What a relay left that published a route before. Functions are handed what the stream holds, and nothing else: what the relay
//! had not done, and the stream has forgotten, nobody would publish.

use outbox::{RouteName, StoreError, bookkeeping::Checkpoint};
use outbox_aws::dynamodb::{Loss, Reached, Seen};

use super::{Parts, stream::earlier};
use crate::{
    forwarder::{share::Share, watermark::SLACK},
    recover,
};

/// Notes how far the relay was, and what is lost of what came since; then forgets its checkpoints, so that a relay that comes
/// after the functions begins anew.
pub(super) async fn take_over(parts: &Parts, route: &RouteName, left: &[Checkpoint]) -> Result<(), StoreError> {
    let Parts { bookkeeping, watermarks, stream, clock, .. } = parts;
    let now = clock.wall();
    let (label, Reached { until, is_forgotten }) = (stream.stream().await?, Box::pin(stream.reached(left)).await?);
    let lease = Share::new(route).lease(&**bookkeeping).await?;
    if is_forgotten {
        let reason = "a relay had not read this far, or not the table again, when functions took its place, and the stream \
                      does not hold all that came since";
        tracing::error!(%route, %until, "{reason}; {}", recover(route));
        let loss = Loss { since: earlier(until, SLACK), found: now, reason: reason.to_owned(), replay: None };
        Box::pin(watermarks.note_loss(&lease, route, &loss)).await?;
    } else {
        tracing::info!(%route, %until, "functions go on in the place of a relay");
    }
    let until = if is_forgotten { now } else { until };
    Box::pin(watermarks.note_seen(&lease, route, &Seen { at: until, until, stream: label })).await?;
    let partitions: Vec<_> = left.iter().map(|left| left.partition.clone()).collect();
    watermarks.take_over(&lease, route, &partitions).await
}
