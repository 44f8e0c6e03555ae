//! A whole relay on the log: its routes share the stream, and one whose sink does not take events holds up no other.

use std::{sync::Arc, time::Duration};

use outbox::{
    RouteName, RouteSettings,
    memory::{MemoryBookkeeping, MemorySink, SeededEntropy},
    relay::Relay,
};
use outbox_sql::postgres::wal::{WalSettings, WalSource};

use crate::{
    acknowledging::unconfirmed,
    cluster::Cluster,
    fixture::{Fixture, slot, until, write},
};

struct Running {
    relay: tokio::task::JoinHandle<()>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    source: WalSource,
}

impl Running {
    async fn start(
        service: &Fixture,
        slot: &str,
        books: &Arc<MemoryBookkeeping>,
        sinks: &[(&str, Arc<MemorySink>)],
    ) -> Self {
        let store = Arc::new(service.store().await);
        let settings = WalSettings::new().slot(slot);
        let source = WalSource::open(store.clone(), service.options(), settings).await.unwrap();
        let mut builder = Relay::builder().source(Arc::new(source.clone())).store(store).bookkeeping(books.clone());
        for (name, sink) in sinks {
            let mut settings = RouteSettings::new(RouteName::new(*name).unwrap());
            settings.retry.max_delay = Duration::from_millis(500);
            builder = builder.route(settings, sink.clone());
        }
        let relay = builder.build().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let relay = tokio::spawn(async move {
            relay
                .run(async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
        Self { relay, stop: Some(stop), source }
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.relay.await.unwrap();
    }
}

fn published(sink: &MemorySink) -> usize {
    sink.accepted().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_publishes_what_comes_of_the_log_once_through_stops_and_starts() {
    let service = Fixture::new().await;
    let (name, books) = (slot(), Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1))));
    let (first, second) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let sinks = [("first", first.clone()), ("second", second.clone())];
    let mut client = service.database.session().await;
    let mut count = 0;
    for round in 0..4 {
        let running = Running::start(&service, &name, &books, &sinks).await;
        for number in 0..50 {
            write(&mut client, &["shared", &format!("own{}", (round + number) % 7)]).await;
            count += 2;
        }
        until("both routes have published all", async || published(&first) >= count && published(&second) >= count)
            .await;
        until("the log is read", async || running.source.status().polling.is_none()).await;
        running.stop().await;
        write(&mut client, &["meanwhile"]).await;
        count += 1;
    }
    let running = Running::start(&service, &name, &books, &sinks).await;
    until("what was written meanwhile is published", async || {
        published(&first) >= count && published(&second) >= count
    })
    .await;
    running.stop().await;
    for sink in [&first, &second] {
        assert_eq!(published(sink), count, "each once");
        assert!(sink.breaches().is_empty(), "{:?}", sink.breaches());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_whose_sink_is_down_holds_up_neither_the_other_nor_the_servers_log() {
    const EVENTS: usize = 15_000;
    const BUDGET: i64 = 64 << 20;
    let service = Fixture::on(Cluster::start("")).await;
    let (name, books) = (slot(), Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1))));
    let (up, down) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let running = Running::start(&service, &name, &books, &[("up", up.clone()), ("down", down.clone())]).await;
    until("the log is read", async || running.source.status().polling.is_none()).await;
    down.break_down(outbox::Fault::Sink, "nobody at home");
    // Half as much again as may be held.
    service.sql("ALTER TABLE outbox.entries ALTER data SET STORAGE EXTERNAL").await;
    let begun = service.text("SELECT pg_current_wal_insert_lsn()").await.unwrap();
    for round in 0..10 {
        let sql = format!(
            "INSERT INTO outbox.entries (type, event_id, data) SELECT 't', '{round}.' || n, repeat(md5(n::text), 200) FROM generate_series(1, {}) AS n",
            EVENTS / 10
        );
        service.sql(&sql).await;
        until("no more than the budget is held", async || unconfirmed(&service, &name).await <= BUDGET).await;
        until("the route whose sink is up goes on", async || published(&up) >= (round + 1) * EVENTS / 10).await;
    }
    let written =
        format!("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{begun}')::bigint > {}", BUDGET * 5 / 4);
    assert_eq!(service.text(&written).await.as_deref(), Some("true"), "more than the budget was written");
    until("the slot holds next to nothing", async || unconfirmed(&service, &name).await < 1_000_000).await;
    assert!(published(&down) < EVENTS);
    down.mend();
    until("the other catches up", async || published(&down) >= EVENTS).await;
    write(&mut service.database.session().await, &["then"]).await;
    until("both go on", async || published(&up) > EVENTS && published(&down) > EVENTS).await;
    running.stop().await;
    for sink in [&up, &down] {
        assert_eq!(published(sink), EVENTS + 1, "each once");
        assert!(sink.breaches().is_empty(), "{:?}", sink.breaches());
    }
}
