//! Events with a key and without a place are set aside and come back like others: in the order in which they came.

use std::{sync::Arc, time::Duration};

use outbox::{Operator, RouteName, RouteSettings, bookkeeping::Selector, memory::MemorySink, relay::Relay};
use outbox_sql::postgres::{BookkeepingSchema, Mapping, PostgresBookkeeping};

use crate::fixture::Service;

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_behind_a_dead_letter_of_its_key_goes_out_in_order_once_that_is_redriven() {
    let table = "CREATE TABLE events (id bigserial PRIMARY KEY, eid text, whose text, kind text, body json)";
    let mapping = Mapping::new("events", "id", "kind", "body").event_id("eid").key(["whose"]);
    let service = Service::with(table, mapping).await.prepared().await;
    let write = async |from: u32| {
        let to = from + 2;
        let sql = format!(
            "INSERT INTO events (eid, whose, kind, body) SELECT whose || n, whose, 't', '{{}}' \
             FROM generate_series({from}, {to}) AS n, unnest(ARRAY['a', 'b']) AS whose ORDER BY n, whose"
        );
        service.sql(&sql).await;
    };
    let (options, schema) = (service.options(), BookkeepingSchema::default());
    PostgresBookkeeping::init(&options, &schema).await.unwrap();
    let books = Arc::new(PostgresBookkeeping::open(options, schema).await.unwrap());
    let (store, sink) = (Arc::new(service.store().await), Arc::new(MemorySink::default()));
    sink.refuse("a2", true, "not this one");
    let route = RouteName::new("all").unwrap();
    let relay = Relay::builder()
        .source(store.clone())
        .store(store)
        .bookkeeping(books.clone())
        .route(RouteSettings::new(route.clone()), sink.clone())
        .build()
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        relay
            .run(async {
                let _ = stopped.await;
            })
            .await
    });
    write(1).await;
    until("the other key goes on", async || sink.ids().contains(&"b3".to_owned())).await;
    write(4).await;
    until("the other key goes on", async || sink.ids().contains(&"b6".to_owned())).await;
    let all = Selector::default();
    until("it is a dead letter", async || books.dead_letters(&route, &all, None, 10).await.unwrap().len() == 1).await;
    sink.mend();
    assert_eq!(books.redrive(&route, &all, jiff::Timestamp::UNIX_EPOCH).await.unwrap(), 1);
    until("all is published", async || sink.accepted().len() >= 12).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let of = |key: &str| sink.ids().into_iter().filter(|id| id.starts_with(key)).collect::<Vec<_>>();
    assert_eq!(of("a"), ["a1", "a2", "a3", "a4", "a5", "a6"]);
    assert_eq!(of("b"), ["b1", "b2", "b3", "b4", "b5", "b6"]);
}
