//! What every business store promises a relay.
//!
//! Implement [`StoreUnderTest`] as for [`source`](super::source), whose page has an example: the two suites work on the
//! same, and `business_store::all(async || fresh()).await` runs this one. The checks are in rooms of their own: [`claims`],
//! [`routes`], [`retention`] and [`history`].

use super::writer::read_all;
use crate::{
    entry::Position,
    error::{ErrorKind, StoreError},
    event::Event,
    store::Retention,
    testing::{Opened, StoreUnderTest},
};

pub mod claims;
pub mod history;
pub mod retention;
pub mod routes;

/// Runs every check, each on a fresh backend.
pub async fn all<S: StoreUnderTest + 'static>(fresh: impl AsyncFn() -> S) {
    claims::all(&fresh).await;
    routes::all(&fresh).await;
    retention::all(&fresh).await;
    history::all(&fresh).await;
}

fn kind_of<T>(answer: Result<T, StoreError>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

async fn purge(opened: &Opened, passed: &Position, retention: Retention) {
    while opened.store.purge(passed, retention).await.expect("published entries can be purged").more {}
}

async fn events_of(opened: &Opened) -> Vec<Event> {
    read_all(&*opened.source).await.iter().flat_map(|record| record.events().to_vec()).collect()
}
