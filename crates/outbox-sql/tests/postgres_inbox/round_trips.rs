//! How often an inbox waits for the server: as often for many events as for one.

use std::time::Duration;

use outbox::{
    Event, NewEvent,
    event::{Identity, extension},
    inbox::{Applied, InboxLayer, InboxService},
};
use outbox_sql::postgres::{ConnectOptions, PostgresInbox, handler_fn};
use tokio_postgres::Transaction;
use tower::Layer;

use crate::{
    fixture::{Bench, event, take},
    proxy::host_and_port,
    turns::Turns,
};

/// A batch of so many keys.
const KEYS: usize = 50;
/// The beginning, which the driver waits for; the check of all events; the record of all with the commit behind it.
const TRIPS: usize = 3;

/// Events that come in the `round`th batch.
type Batch = fn(round: u64) -> Vec<Event>;

/// The round trips of a batch through a service that has taken one before: its handlers do nothing.
async fn trips<H>(layer: impl FnOnce(PostgresInbox) -> InboxService<PostgresInbox, H>, batch: Batch) -> usize
where
    H: for<'t> outbox::inbox::Handler<outbox_sql::postgres::PostgresTx<'t>>,
{
    let bench = Bench::new();
    let turns = Turns::start(&host_and_port(bench.0.url())).await;
    let options = ConnectOptions::parse(&turns.before(bench.0.url())).unwrap();
    let service = layer(PostgresInbox::open(options, "tests").unwrap());
    for round in 1..=2 {
        all_applied(&take(&service, batch(round)).await.unwrap());
    }
    let before = turns.count();
    all_applied(&take(&service, batch(3)).await.unwrap());
    turns.count() - before
}

fn all_applied(applied: &[Applied]) {
    assert!(applied.iter().all(|applied| *applied == Applied::Applied), "{applied:?}");
}

fn keyed(round: u64) -> Vec<Event> {
    (0..KEYS).map(|key| event(&format!("key/{key}"), round)).collect()
}

fn keyless(id: &str, cause: Option<&str>) -> Event {
    let mut new = NewEvent::builder("sample").id(id).json("payload");
    if let Some(cause) = cause {
        new = new.extension(extension::CAUSATION_ID, cause);
    }
    let identity = Identity { source: &"/orders".into(), placing: None, recorded: None, fallback_id: id };
    Event::from_new(new.build().unwrap(), identity).unwrap()
}

/// Each caused by one of the round before.
fn keyless_with_causes(round: u64) -> Vec<Event> {
    let id = |round: u64, number| format!("{round}-{number}");
    let cause = |number| (round > 1).then(|| id(round - 1, number));
    (0..KEYS).map(|number| keyless(&id(round, number), cause(number).as_deref())).collect()
}

macro_rules! service {
    ($mode:ident $(, $more:expr)*) => {
        |inbox| {
            let handler = async |_: &Transaction<'_>, _: &Event| {};
            InboxLayer::$mode(inbox $(, $more)*).layer(handler_fn(handler))
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_order_is_checked_in_one_round_trip_and_recorded_with_the_commit() {
    assert_eq!(trips(service!(in_order), keyed).await, TRIPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_states_is_checked_in_one_round_trip_and_recorded_with_the_commit() {
    assert_eq!(trips(service!(latest), keyed).await, TRIPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_by_ids_is_checked_in_one_round_trip_and_recorded_with_the_commit() {
    assert_eq!(trips(service!(once), keyed).await, TRIPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_batch_of_causes_is_asked_for_in_one_round_trip() {
    let layer = service!(after_cause, ["/orders"], Duration::from_secs(60));
    assert_eq!(trips(layer, keyed).await, TRIPS + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_causes_without_a_key_of_a_batch_are_looked_for_in_one_round_trip() {
    let layer = service!(after_cause, ["/orders"], Duration::from_secs(60));
    // The ids, their causes, and who waits for them.
    assert_eq!(trips(layer, keyless_with_causes).await, TRIPS + 2);
}
