//! The stream's work, beside those who read: receiving, confirming, and beginning again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use outbox::{ErrorKind, StoreError};
use tokio::time::sleep;

use super::{
    ROUND,
    chain::Chain,
    lsn::Lsn,
    publication,
    replication::Replication,
    shared::Shared,
    slot::{self, Held, Pin, Slot},
    state::State,
};
use crate::postgres::position::LogPlace;

mod housekeeping;
mod receiving;

/// More transactions than these in a position, and what can be seen is looked at to shorten it.
const WIDE: u64 = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why a stream ended.
enum Ended {
    Failed(StoreError),
    /// The server keeps too much log for it.
    TooMuch(Held, Option<Pin>),
    /// The store is another relay's now.
    NotOurs(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Streams for as long as the store is ours.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Err(ended) = session(&shared).await;
        let streamed = shared.is_streaming();
        match ended {
            Ended::Failed(error) => {
                pause = if streamed { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
                shared.stop_streaming(&error.to_string());
                sleep(pause).await;
            }
            Ended::TooMuch(held, pin) => {
                shared.stop_streaming(&too_much(&shared, held, pin.as_ref()));
                if let Err(error) = let_go(&shared, pin).await {
                    shared.stop_streaming(&error.to_string());
                    sleep(LONGEST_PAUSE).await;
                }
            }
            Ended::NotOurs(error) => {
                shared.stop_streaming(&error.to_string());
                return;
            }
        }
    }
}

fn too_much(shared: &Shared, held: Held, pin: Option<&Pin>) -> String {
    let cause = pin.map_or_else(
        || "because nobody read it for so long".to_owned(),
        |pin| format!("because of {pin}; the log is read again once that has ended"),
    );
    format!(
        "the server kept {} bytes of log for the replication slot `{}`, more than the hard cap of {}, {cause}: the slot was dropped, and the table is polled",
        held.whole, shared.slot, shared.settings.hard_cap
    )
}

/// Drops the slot, and waits until whoever pinned the log has ended.
async fn let_go(shared: &Shared, pin: Option<Pin>) -> Result<(), StoreError> {
    while let Err(error) = slot::drop(&shared.beside, &shared.slot).await {
        if !error.kind().retry() {
            return Err(error);
        }
        sleep(ROUND).await;
    }
    if let Some(pin) = pin {
        while !shared.beside.snapshot().await?.sees(pin.xid) {
            sleep(ROUND).await;
        }
    }
    Ok(())
}

/// One stream, from the checks before it to its end.
async fn session(shared: &Arc<Shared>) -> Result<Infallible, Ended> {
    {
        let client = shared.beside.connection().client().await?;
        publication::check(&*client, &shared.settings.publication, &shared.layout.target()).await?;
    }
    let (found, held) = slot::look(&shared.beside, &shared.slot).await?;
    if held.whole > shared.settings.hard_cap {
        return Err(Ended::TooMuch(held, slot::pin(&shared.beside).await?));
    }
    match found {
        Slot::Ready => {}
        Slot::Missing => make(shared).await?,
        Slot::Lost => {
            tracing::warn!(slot = %shared.slot, "the server has thrown away log that the replication slot held; what is missing is read in the table");
            slot::drop(&shared.beside, &shared.slot).await?;
            make(shared).await?;
        }
        Slot::Busy { pid } => {
            let message = format!(
                "the replication slot `{}` is read by process {pid}: stop that relay, or end it with SELECT pg_terminate_backend({pid})",
                shared.slot
            );
            return Err(StoreError::new(ErrorKind::Unavailable, message).into());
        }
    }
    let mut replication = Replication::connect(&shared.options).await?;
    let timeline = replication.timeline().await?;
    let mut streaming = replication.start(&shared.slot, &shared.settings.publication, Lsn(0)).await?;
    // Whatever the slot does not give any more was seen once, so it is seen now.
    let look = shared.beside.look_at_flushed().await?;
    let mut chain = Chain::new(look.snapshot.clone(), LogPlace { timeline, lsn: look.written.0 });
    chain.gate(look.gated.then(|| look.snapshot.clone()));
    shared.begin_streaming(State::new(chain));
    tokio::select! {
        received = receiving::receive(shared, &mut streaming) => received.map_err(Ended::from),
        kept = housekeeping::keep_house(shared, &look) => kept,
    }
}

async fn make(shared: &Shared) -> Result<(), StoreError> {
    if let Some(pin) = slot::pin(&shared.beside).await? {
        shared.stop_streaming(&format!(
            "the replication slot `{}` is being made, which waits for {pin} and all others that are open: the table is polled until then",
            shared.slot
        ));
    }
    let mut session = Replication::connect(&shared.options).await?;
    slot::make(&mut session, &shared.slot).await
}
