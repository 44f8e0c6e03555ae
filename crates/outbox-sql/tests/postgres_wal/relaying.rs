//! A whole relay on the log: its routes share the stream, and one whose sink does not take events holds up no other.

use std::{sync::Arc, time::Duration};

use outbox::{
    RouteName, RouteSettings,
    memory::{MemoryBookkeeping, MemorySink, SeededEntropy},
    relay::Relay,
};
use outbox_sql::postgres::wal::{WalSettings, WalSource};

use crate::fixture::{Fixture, slot, until, write};

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
        let settings = WalSettings::new().slot(slot).budget(1 << 20);
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
    const EVENTS: usize = 30_000;
    let service = Fixture::new().await;
    let (name, books) = (slot(), Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(1))));
    let (up, down) = (Arc::new(MemorySink::default()), Arc::new(MemorySink::default()));
    let running = Running::start(&service, &name, &books, &[("up", up.clone()), ("down", down.clone())]).await;
    until("the log is read", async || running.source.status().polling.is_none()).await;
    down.break_down(outbox::Fault::Sink, "nobody at home");
    for round in 0..10 {
        let sql = format!(
            "INSERT INTO outbox.entries (type, event_id, data) SELECT 't', '{round}.' || n, repeat('x', 500) FROM generate_series(1, {}) AS n",
            EVENTS / 10
        );
        service.sql(&sql).await;
        until("the route whose sink is up goes on", async || published(&up) >= (round + 1) * EVENTS / 10).await;
    }
    let unconfirmed = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn) < 1e6 FROM pg_replication_slots WHERE slot_name = '{name}'"
    );
    until("the slot holds next to nothing", async || service.text(&unconfirmed).await.as_deref() == Some("true")).await;
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
