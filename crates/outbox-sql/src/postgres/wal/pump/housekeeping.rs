//! Looking after what the slot holds: confirming what can be seen, and keeping to the budget.

use std::{convert::Infallible, time::Duration};

use outbox::{ErrorKind, StoreError};
use tokio::time::{Instant, sleep, timeout};

use super::{Ended, WIDE, republished, same_server};
use crate::postgres::{
    position::{LogPlace, Snapshot, Standing},
    wal::{ROUND, look::Look, shared::Shared, slot, standby},
};

/// How often the slot is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same while nothing is received: whatever is written meanwhile counts against the budget.
const LOOK_WHILE_FULL: Duration = Duration::from_millis(100);
/// How often commits are looked for that wait for a standby.
const GATE_EVERY: Duration = Duration::from_millis(2);
/// The least time between two looks that shorten positions, or that have much confirmed.
const NARROW_EVERY: Duration = Duration::from_millis(20);

/// Looks for what came in the table, so that it can be confirmed, and at what the slot holds.
pub(super) async fn keep_house(shared: &Shared, first: &Look) -> Result<Infallible, Ended> {
    let mut looked = Instant::now();
    let mut at_slot = Instant::now();
    loop {
        let (gated, full) =
            shared.with(|state| (state.chain.is_held_back(), state.chain.is_full())).unwrap_or_default();
        let wait = match (gated, full) {
            (true, _) => GATE_EVERY,
            (false, true) => LOOK_WHILE_FULL,
            (false, false) => ROUND,
        };
        // What was notified is looked at whether or not it was.
        let _ = timeout(wait, shared.house.notified()).await;
        if gated {
            sleep(GATE_EVERY).await;
        }
        let Some((unseen, urgent, full, held_back)) = shared.with(|state| {
            let (unseen, chain) = (state.has_unseen(), &state.chain);
            let is_much = unseen && state.unconfirmed() >= shared.share_of_the_budget();
            (unseen, is_much || chain.width() > WIDE, chain.is_full(), chain.is_held_back())
        }) else {
            let message = "the stream was stopped";
            return Err(StoreError::new(ErrorKind::Unavailable, message).into());
        };
        let since = looked.elapsed();
        let slot_is_due = at_slot.elapsed() >= if full { LOOK_WHILE_FULL } else { LOOK_EVERY };
        if held_back || (unseen && since >= ROUND) || (urgent && since >= NARROW_EVERY) || slot_is_due {
            let seen = look(shared, first).await?;
            looked = Instant::now();
            if urgent {
                shared.pump.notify_one();
            }
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
        return Err(republished(shared));
    }
    same_server(&look, first.timeline)?;
    standby::refuse(&look.standbys, &shared.options).await?;
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
    let over = full && held.unconfirmed >= shared.settings.budget / 2;
    shared.holds(held, pin);
    if over {
        shared.with(|state| state.chain.clear());
        tracing::debug!(slot = %shared.slot, "no route takes what the log gives; it will be read in the table");
        shared.pump.notify_one();
        shared.wake();
    }
    Ok(())
}

/// Whether the table may be read still.
async fn is_ours(shared: &Shared, seen: Snapshot) -> Result<(), Ended> {
    let Some(partition) = shared.partition() else { return Ok(()) };
    match shared.check(&partition, &Standing::at_rest(seen, LogPlace::default())).await {
        Err(error) if !error.kind().retry() => Err(Ended::NotOurs(error)),
        checked => checked.map_err(Ended::Failed),
    }
}
