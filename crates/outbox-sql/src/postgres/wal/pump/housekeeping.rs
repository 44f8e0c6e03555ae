//! Looking after what the slot holds: confirming what can be seen, and keeping to the budget.

use std::{convert::Infallible, time::Duration};

use outbox::{ErrorKind, StoreError, source::Limit};
use tokio::time::{Instant, sleep, timeout};

use super::{Ended, WIDE};
use crate::postgres::{
    position::{LogPlace, Reading, Snapshot, Standing},
    wal::{ROUND, look::Look, shared::Shared, slot},
};

/// How often the slot is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often commits are looked for that wait for a standby.
const GATE_EVERY: Duration = Duration::from_millis(2);
/// The least time between two such looks.
const NARROW_EVERY: Duration = Duration::from_millis(20);

/// Looks for what came in the table, so that it can be confirmed, and at what the slot holds.
pub(super) async fn keep_house(shared: &Shared, first: &Look) -> Result<Infallible, Ended> {
    let mut looked = Instant::now();
    let mut at_slot = Instant::now();
    loop {
        let gated = shared.with(|state| state.chain.is_held_back()).unwrap_or(false);
        let wait = if gated { GATE_EVERY } else { ROUND };
        // What was notified is looked at whether or not it was.
        let _ = timeout(wait, shared.house.notified()).await;
        if gated {
            sleep(GATE_EVERY).await;
        }
        let Some((unseen, wide, full, held_back)) = shared.with(|state| {
            let chain = &state.chain;
            (state.has_unseen(), chain.width() > WIDE, chain.is_full(), chain.is_held_back())
        }) else {
            let message = "the stream was stopped";
            return Err(StoreError::new(ErrorKind::Unavailable, message).into());
        };
        let since = looked.elapsed();
        let slot_is_due = at_slot.elapsed() >= if full { ROUND } else { LOOK_EVERY };
        if held_back || (unseen && since >= ROUND) || (wide && since >= NARROW_EVERY) || slot_is_due {
            let seen = look(shared, first).await?;
            looked = Instant::now();
            if slot_is_due {
                look_at_slot(shared, full).await?;
                is_ours(shared, seen).await?;
                at_slot = Instant::now();
            }
        }
    }
}

async fn look(shared: &Shared, first: &Look) -> Result<Snapshot, StoreError> {
    let asked = shared.with(|state| state.to_see()).unwrap_or_default();
    let look = shared.beside.look().await?;
    if look.publication != first.publication {
        // What was committed meanwhile may not have been published: the table has it, and nothing of it counts as read.
        let message = format!(
            "the publication `{}` was changed while it was read: the table is read, and the log from here on",
            shared.settings.publication
        );
        return Err(StoreError::new(ErrorKind::Unavailable, message));
    }
    let held_back = shared.with(|state| {
        let before = state.chain.is_held_back();
        state.saw(&look, asked);
        before
    });
    if held_back == Some(true) {
        shared.wake();
    }
    Ok(look.snapshot)
}

async fn look_at_slot(shared: &Shared, full: bool) -> Result<(), Ended> {
    let (_, held) = slot::look(&shared.beside, &shared.slot).await?;
    let pin = if held.whole > shared.settings.budget { slot::pin(&shared.beside).await? } else { None };
    if held.whole > shared.settings.hard_cap {
        return Err(Ended::TooMuch(held, pin));
    }
    // Somewhat before the limit, for more is written until this is looked at again.
    let over = full && held.unconfirmed >= shared.settings.budget / 4 * 3;
    shared.with(|state| {
        (state.held, state.pin) = (held, pin);
        if over {
            state.chain.clear();
        }
    });
    if over {
        tracing::debug!(slot = %shared.slot, "no route takes what the log gives; it will be read in the table");
        shared.pump.notify_one();
        shared.wake();
    }
    Ok(())
}

/// Whether the table may be read still, by reading it behind all that can be seen.
async fn is_ours(shared: &Shared, seen: Snapshot) -> Result<(), Ended> {
    let Some(partition) = shared.partition() else { return Ok(()) };
    let place = Standing { passed: seen, reading: Reading::Rest, log: LogPlace::default() }.position();
    match shared.table.read(&partition, &place, Limit { events: 0, bytes: 0 }).await {
        Err(error) if !error.kind().retry() => Err(Ended::NotOurs(error)),
        Err(error) => Err(Ended::Failed(error)),
        Ok(_) => Ok(()),
    }
}
