//! Events in any order, to one consumer and to several.

use std::sync::Arc;

use outbox::{
    inbox::{Applied, InboxLayer},
    testing::conformance::inbox::{
        InboxUnderTest, in_order_applies_any_arrival_once_in_order, latest_ends_any_arrival_with_the_last,
    },
};
use outbox_sql::postgres::{ConnectOptions, PostgresInbox};
use proptest::prelude::*;
use tower::Layer;

use crate::{
    fixture::{Bench, event, take, writing},
    pooler::Pooler,
};

fn arrivals() -> impl Strategy<Value = Vec<Vec<(u8, u64)>>> {
    let each: Vec<(u8, u64)> = (0..3).flat_map(|key| (1..6).map(move |sequence| (key, sequence))).collect();
    let more = proptest::collection::vec(proptest::sample::select(each.clone()), 0..8);
    more.prop_map(move |more| [each.clone(), more].concat())
        .prop_shuffle()
        .prop_flat_map(|events| (Just(events), 1_usize..6))
        .prop_map(|(events, size)| events.chunks(size).map(<[_]>::to_vec).collect())
}

fn run(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_arrival_is_applied_once_in_order(arrivals in arrivals()) {
        run(in_order_applies_any_arrival_once_in_order(&Bench::new(), &arrivals));
    }

    #[test]
    fn latest_ends_with_the_last_of_any_arrival(arrivals in arrivals()) {
        run(latest_ends_any_arrival_with_the_last(&Bench::new(), &arrivals));
    }
}

/// Consumers that meet the same new keys at the same moment, each in another order.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_meet_new_keys_at_once_do_not_wait_in_a_circle() {
    const KEYS: usize = 40;
    let bench = Arc::new(Bench::new());
    let consumers: Vec<_> = (0..4)
        .map(|consumer| {
            let bench = bench.clone();
            tokio::spawn(async move {
                let service = InboxLayer::in_order(bench.open()).layer(writing());
                for round in 0..10 {
                    let mut keys: Vec<_> = (0..KEYS).map(|key| format!("key/{round}/{key}")).collect();
                    keys.rotate_left(consumer * KEYS / 4);
                    if consumer % 2 == 1 {
                        keys.reverse();
                    }
                    let events = keys.iter().map(|key| event(key, 1)).collect();
                    for applied in take(&service, events).await.unwrap() {
                        assert!(matches!(applied, Applied::Applied | Applied::Duplicate), "{applied:?}");
                    }
                }
            })
        })
        .collect();
    for consumer in consumers {
        consumer.await.unwrap();
    }
    let effects = bench.effects();
    assert_eq!(effects.len(), 10 * KEYS, "each once");
    let session = bench.0.session().await;
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks: i64 = session.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(deadlocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_through_a_pooler_of_transactions() {
    let bench = Bench::new();
    let pooler = Pooler::start(crate::server::url()).await;
    let options = ConnectOptions::parse(&pooler.before(bench.0.url())).unwrap();
    let open = || InboxLayer::in_order(PostgresInbox::open(options.clone(), "tests").unwrap()).layer(writing());
    let (one, other) = (open(), open());
    for sequence in 1..=20 {
        let (first, second) = if sequence % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let events = || vec![event("a", sequence), event("b", sequence)];
        assert_eq!(take(first, events()).await.unwrap(), [Applied::Applied, Applied::Applied]);
        assert_eq!(take(second, events()).await.unwrap(), [Applied::Duplicate, Applied::Duplicate]);
    }
    assert_eq!(bench.effects().len(), 40);
}
