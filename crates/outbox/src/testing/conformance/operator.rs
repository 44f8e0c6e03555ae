//! What every bookkeeping promises an operator.
//!
//! Implement [`BookkeepingUnderTest`] as for [`bookkeeping`](super::bookkeeping), whose page has an example, and run both.
//! The checks are in rooms of their own: [`mod@dead_letters`], [`beside_a_relay`], [`identity`] and [`routes`].

use std::sync::Arc;

use super::bookkeeping::Subjects;
use crate::{
    bookkeeping::{
        Bookkeeping, DeadLetter, Front, Keep, KeepOutcome, Lease, Operator, Replay, Selector, SettleOutcome, Settlement,
    },
    filter::Filter,
    testing::{
        BookkeepingUnderTest,
        sample::{at, key, lane, partition, position, route, settlement, trouble},
    },
};

pub mod beside_a_relay;
pub mod dead_letters;
pub mod identity;
pub mod routes;

/// Runs every check, each on a fresh bookkeeping.
pub async fn all<S: BookkeepingUnderTest>(fresh: impl AsyncFn() -> S) {
    let subjects = Subjects::default();
    let fresh = async || subjects.open(fresh().await).await;
    dead_letters::all(&fresh).await;
    beside_a_relay::all(&fresh).await;
    routes::all(&fresh).await;
    identity::all(&fresh).await;
}

fn any() -> Selector {
    Selector::default()
}

fn by_key(name: &str) -> Selector {
    Selector { key: Some(key(name)), ..any() }
}

async fn keep_it(operator: &dyn Operator, lease: &Lease, name: &str, keep: &Keep) -> KeepOutcome {
    operator.keep(lease, &route(name), &partition(), keep).await.expect("the owner keeps events")
}

async fn dead_letters(operator: &dyn Operator, selector: &Selector) -> Vec<DeadLetter> {
    operator.dead_letters(&route("a"), selector, None, 100).await.expect("dead letters can be listed")
}

async fn redrive(operator: &dyn Operator, selector: &Selector) -> u64 {
    operator.redrive(&route("a"), selector, at(100)).await.expect("dead letters can be redriven")
}

async fn discard(operator: &dyn Operator, selector: &Selector) -> u64 {
    operator.discard(&route("a"), selector, "no longer wanted").await.expect("dead letters can be discarded")
}

async fn front(operator: &dyn Operator, name: &str) -> Front {
    trouble(operator, &route("a"), &lane(name)).await.front
}

async fn settled(operator: &dyn Operator, lease: &Lease, settlement: &Settlement) -> SettleOutcome {
    operator.settle(lease, &route("a"), settlement).await.expect("the owner settles")
}

/// What the keeper knows of a lane, made into a settlement.
async fn known(operator: &Arc<dyn Operator>, name: &str, done: usize, front: Option<Front>) -> Settlement {
    let bookkeeping: Arc<dyn Bookkeeping> = operator.clone();
    settlement(&bookkeeping, &route("a"), &lane(name), done, front).await
}

fn replay(id: &str) -> Replay {
    Replay {
        id: id.to_owned(),
        route: route("a"),
        filter: Filter { types: vec!["order.*".to_owned()], ..Filter::default() },
        event: Some("k@1.1.0".to_owned()),
        since: Some(at(1)),
        until: None,
        ends: vec![(partition(), position(9))],
        finished: false,
    }
}
