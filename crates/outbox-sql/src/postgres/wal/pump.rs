//! The stream's work, beside those who read: receiving, confirming, and beginning again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use outbox::{ErrorKind, StoreError};
use tokio::time::sleep;

use super::{
    ROUND,
    chain::Chain,
    look::Look,
    lsn::Lsn,
    publication,
    replication::Replication,
    shared::Shared,
    slot::{self, Held, Pin, Slot},
    standby,
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
                // The slot gives nothing but this again, and what it holds is in the table.
                if error.kind() == ErrorKind::HistoryChanged
                    && let Err(error) = slot::drop(&shared.beside, &shared.slot).await
                {
                    shared.stop_streaming(&error.to_string());
                }
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
    shared.holds(Held::default(), None);
    if let Some(pin) = pin {
        while !shared.beside.snapshot().await?.sees(pin.xid) {
            sleep(ROUND).await;
        }
    }
    Ok(())
}

/// One stream, from the checks before it to its end.
async fn session(shared: &Arc<Shared>) -> Result<Infallible, Ended> {
    // First of all: whatever keeps us from reading, the slot holds log.
    let (found, held) = slot::look(&shared.beside, &shared.slot).await?;
    within_the_cap(shared, held).await?;
    let look = published(shared).await?;
    match found {
        Slot::Ready => wait_for_older(shared, &look).await?,
        // Making one waits for all who are open.
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
    let publication = look.publication;
    shared.settle(publication.clone());
    let mut replication = Replication::connect(&shared.options).await?;
    let timeline = replication.timeline().await?;
    let mut streaming = replication.start(&shared.slot, &shared.settings.publication, Lsn(0)).await?;
    // Whatever the slot does not give any more was seen once, so it is seen now.
    let look = shared.beside.look_at_flushed().await?;
    if look.publication != publication {
        return Err(republished(shared).into());
    }
    same_server(&look, timeline)?;
    let passed = look.snapshot.below(shared.beside.above_newest(&shared.layout, &look.snapshot).await?);
    let mut chain = Chain::new(passed, LogPlace { timeline, lsn: look.written.0 }, look.snapshot.xmax());
    chain.gate(look.gate());
    shared.begin_streaming(State::new(chain));
    tokio::select! {
        received = receiving::receive(shared, &mut streaming) => received.map_err(Ended::from),
        kept = housekeeping::keep_house(shared, &look) => kept,
    }
}

/// Makes sure that the log tells of every row from here on.
async fn published(shared: &Shared) -> Result<Look, Ended> {
    let look = shared.beside.look().await?;
    standby::refuse(&look.standbys, &shared.options).await?;
    {
        let client = shared.beside.connection().client().await?;
        publication::check(&*client, &shared.settings.publication, &shared.layout.target()).await?;
    }
    Ok(look)
}

/// Who was open when the publication was changed may have rows that it left out: only once that has ended, they are behind
/// where a stream begins. No number of the change tells who that is: a later one may have written before its end.
async fn wait_for_older(shared: &Shared, look: &Look) -> Result<(), Ended> {
    if shared.is_settled(&look.publication) {
        return Ok(());
    }
    // Drawn behind that look, so above the number of whoever wrote before: the end of a snapshot is not, for it is the number
    // behind the last transaction that has ended.
    let above = shared.beside.draw_number().await?;
    while shared.beside.snapshot().await?.first_unseen() < above {
        let pin = slot::pin(&shared.beside).await?.map_or_else(|| "a transaction".to_owned(), |pin| pin.to_string());
        shared.stop_streaming(&format!(
            "if the publication `{}` was changed while {pin} was open, the log may lack some of that: the table is polled until it has ended",
            shared.settings.publication
        ));
        sleep(ROUND).await;
        let (_, held) = slot::look(&shared.beside, &shared.slot).await?;
        within_the_cap(shared, held).await?;
    }
    Ok(())
}

/// What was committed meanwhile may not have been published: the table has it, and nothing of it counts as read.
fn republished(shared: &Shared) -> StoreError {
    let message = format!(
        "the publication `{}` was changed while it was read: the table is read, and the log from here on",
        shared.settings.publication
    );
    StoreError::new(ErrorKind::Unavailable, message)
}

/// Makes sure that who looks and who streams are at one server: where another takes over, the one may find it first.
fn same_server(look: &Look, timeline: u32) -> Result<(), StoreError> {
    if look.timeline == timeline {
        return Ok(());
    }
    let message = "reading the log: another server took over meanwhile; the log is read anew";
    Err(StoreError::new(ErrorKind::Unavailable, message))
}

/// Makes the slot, unless the server keeps too much log meanwhile: it does from the beginning on, for as long as it waits.
async fn make(shared: &Shared) -> Result<(), Ended> {
    if let Some(pin) = slot::pin(&shared.beside).await? {
        shared.stop_streaming(&format!(
            "the replication slot `{}` is being made, which waits for {pin} and all others that are open: the table is polled until then",
            shared.slot
        ));
    }
    let mut session = Replication::connect(&shared.options).await?;
    tokio::select! {
        made = slot::make(&shared.beside, &mut session, &shared.slot) => made.map_err(Ended::from),
        Err(ended) = keep_to_the_cap(shared) => Err(ended),
    }
}

async fn keep_to_the_cap(shared: &Shared) -> Result<Infallible, Ended> {
    loop {
        sleep(ROUND).await;
        let (_, held) = slot::look(&shared.beside, &slot::unfinished(&shared.slot)).await?;
        within_the_cap(shared, held).await?;
    }
}

async fn within_the_cap(shared: &Shared, held: Held) -> Result<(), Ended> {
    shared.holds(held, None);
    if held.whole > shared.settings.hard_cap {
        return Err(Ended::TooMuch(held, slot::pin(&shared.beside).await?));
    }
    Ok(())
}
