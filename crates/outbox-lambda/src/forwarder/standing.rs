//! What an invocation has to know before anything goes out: keys in trouble, discarded events, whether the route is paused,
//! and what of the batch was done before.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use outbox::{
    Lane, Moment, Position, StoreError,
    bookkeeping::{Operator, Tombstone},
    route::RouteName,
};
use outbox_aws::dynamodb::Redelivery;
use tokio::{sync::Mutex, time::sleep};

use super::{Done, Parts, Time};

/// Lanes in trouble are read in pages of so many.
const PAGE: usize = 1000;
/// For how long it is taken for granted that a route is not paused, and the pause between two looks while it is.
const PAUSED_FOR: Duration = Duration::from_secs(5);

/// When it was last seen that the route is not paused.
#[derive(Default)]
pub(super) struct Paused(Mutex<Option<Moment>>);

/// What there is besides the batch.
pub(super) struct Standing {
    pub(super) troubled: Vec<Lane>,
    pub(super) tombstones: Vec<(Arc<str>, Position)>,
    pub(super) done: Done,
    /// Since when nothing of the batch is accepted, and nobody says why.
    pub(super) doubted: Option<Timestamp>,
}

impl Standing {
    /// Whether anything is noted of the batch.
    pub(super) fn is_noted(&self) -> bool {
        self.doubted.is_some() || !self.done.is_empty()
    }
}

/// Looks at all of it. `None` if the route is paused until the time is over.
pub(super) async fn look(
    parts: &Parts,
    paused: &Paused,
    first: Option<&str>,
    time: &Time,
) -> Result<Option<Standing>, StoreError> {
    let (bookkeeping, route) = (&*parts.bookkeeping, &parts.route.name);
    let before = async {
        match first {
            Some(first) => parts.redeliveries.redelivery(route, first).await,
            None => Ok(Redelivery::default()),
        }
    };
    if !wait_while_paused(parts, paused, time).await? {
        return Ok(None);
    }
    let (troubled, tombstones, before) = tokio::try_join!(troubled(bookkeeping, route), tombstones(parts), before)?;
    let Redelivery { done, doubted } = before;
    let done = done.into_iter().map(|(position, index)| (position.as_str().to_owned(), index)).collect();
    Ok(Some(Standing { troubled, tombstones, done, doubted }))
}

async fn troubled(bookkeeping: &dyn Operator, route: &RouteName) -> Result<Vec<Lane>, StoreError> {
    let mut lanes: Vec<Lane> = Vec::new();
    loop {
        let page = bookkeeping.troubles(route, lanes.last(), PAGE).await?;
        let full = page.len() == PAGE;
        lanes.extend(page.into_iter().map(|trouble| trouble.lane));
        if !full {
            return Ok(lanes);
        }
    }
}

/// The route's discarded events, by id and record.
pub(super) async fn tombstones(parts: &Parts) -> Result<Vec<(Arc<str>, Position)>, StoreError> {
    let tombstones = parts.bookkeeping.tombstones(&parts.route.name).await?;
    Ok(tombstones.into_iter().map(|(id, _, position): Tombstone| (id, position)).collect())
}

/// Waits while the route is paused; false if that lasts until no new call is made.
async fn wait_while_paused(parts: &Parts, paused: &Paused, time: &Time) -> Result<bool, StoreError> {
    let mut seen = paused.0.lock().await;
    loop {
        let now = parts.clock.moment();
        if seen.is_some_and(|at| now.since(at) < PAUSED_FOR) {
            return Ok(true);
        }
        if !parts.bookkeeping.paused().await?.contains(&parts.route.name) {
            *seen = Some(now);
            return Ok(true);
        }
        *seen = None;
        if now + PAUSED_FOR >= time.drain {
            return Ok(false);
        }
        sleep(PAUSED_FOR).await;
    }
}
