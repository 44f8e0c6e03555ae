//! When an inbox is swept.

use std::{future::Future, pin::pin, time::Duration};

use tokio::sync::Notify;

use super::service::Swept;
use crate::error::StoreError;

#[cfg(test)]
mod tests;

/// How often the sweeper looks at every lane in trouble, in rounds.
const FULL_SWEEP_EVERY: u32 = 30;

/// Runs `sweep` at the start and then on a timer, until `shutdown`: all lanes in trouble at first and now and then, those
/// that are due in between.
pub(crate) async fn sweep_on_timer<F, R>(
    every: Duration,
    ready: &Notify,
    shutdown: impl Future<Output = ()>,
    mut sweep: F,
) where
    F: FnMut(bool) -> R,
    R: Future<Output = Result<Swept, StoreError>>,
{
    let mut shutdown = pin!(shutdown);
    let mut round = 0_u32;
    loop {
        let all = round.is_multiple_of(FULL_SWEEP_EVERY);
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            result = sweep(all) => match result {
                Ok(_) => round = round.wrapping_add(1),
                // The round is made again, so that a sweep at the start is not lost to a store that was busy.
                Err(error) => tracing::warn!(%error, "a sweep of the inbox failed; it is tried again"),
            },
        }
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = ready.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
    }
}
