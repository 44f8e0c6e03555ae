//! What must not lose or double anything: slots and publications that others change, servers that stop, relays that are
//! killed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use outbox::source::Limit;
use outbox_sql::postgres::wal::WalSettings;

use crate::{
    cluster::Cluster,
    fixture::{Fixture, Route, slot, streams, until, write},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_dropped_under_the_stream_is_made_anew() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let name = source.status().slot;
    let mut route = Route::new();
    service.write("before").await;
    route.until(&source, 1).await;
    until("the slot is dropped", async || {
        let end = format!("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{name}'; SELECT pg_drop_replication_slot('{name}')");
        service.client.batch_execute(&end).await.is_ok()
    })
    .await;
    service.write("missed").await;
    route.until(&source, 2).await;
    streams(&source).await;
    service.write("then").await;
    route.until(&source, 3).await;
    assert_eq!(route.keys(), ["before", "missed", "then"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_changed_publication_left_out_is_read_in_the_table() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let mut route = Route::new();
    service.write("before").await;
    route.until(&source, 1).await;
    service.sql("ALTER PUBLICATION outbox DROP TABLE outbox.entries").await;
    service.write("left out").await;
    service.sql("ALTER PUBLICATION outbox ADD TABLE outbox.entries").await;
    route.until(&source, 2).await;
    streams(&source).await;
    service.write("then").await;
    route.until(&source, 3).await;
    route.finish(&source).await;
    assert_eq!(route.keys(), ["before", "left out", "then"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_a_publication_left_it_out_is_not_lost_however_late_it_commits() {
    let service = Fixture::on(Cluster::start("")).await;
    let source = service.streaming().await;
    let mut route = Route::new();
    service.write("before").await;
    route.until(&source, 1).await;
    service.sql("ALTER PUBLICATION outbox DROP TABLE outbox.entries").await;
    let late = service.database.session().await;
    late.batch_execute("BEGIN; SELECT outbox.write('late', 't', '1'::json)").await.unwrap();
    service.sql("ALTER PUBLICATION outbox ADD TABLE outbox.entries").await;
    until("who is waited for is told", async || {
        source.status().polling.is_some_and(|reason| reason.contains("was changed while the open transaction"))
    })
    .await;
    service.write("meanwhile").await;
    route.until(&source, 2).await;
    late.batch_execute("COMMIT").await.unwrap();
    streams(&source).await;
    service.write("then").await;
    route.until(&source, 4).await;
    let mut keys = route.keys();
    keys.sort_unstable();
    assert_eq!(keys, ["before", "late", "meanwhile", "then"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_transaction_wrote_before_the_publication_was_changed_is_not_lost_to_a_relay_that_begins() {
    let service = Fixture::on(Cluster::start("")).await;
    let name = slot();
    let settings = || WalSettings::new().slot(&name);
    let source = service.open(settings()).await.unwrap();
    streams(&source).await;
    drop(source);
    service.sql("ALTER PUBLICATION outbox DROP TABLE outbox.entries").await;
    service.sql("BEGIN; SELECT pg_current_xact_id(); ALTER PUBLICATION outbox ADD TABLE outbox.entries").await;
    let late = service.database.session().await;
    late.batch_execute("BEGIN; SELECT outbox.write('late', 't', '1'::json)").await.unwrap();
    service.sql("COMMIT").await;
    let source = service.open(settings()).await.unwrap();
    let mut route = Route::new();
    route.read(&source).await;
    until("who is waited for is told", async || {
        source.status().polling.is_some_and(|reason| reason.contains("was changed while the open transaction"))
    })
    .await;
    late.batch_execute("COMMIT").await.unwrap();
    streams(&source).await;
    service.write("then").await;
    route.until(&source, 2).await;
    let mut keys = route.keys();
    keys.sort_unstable();
    assert_eq!(keys, ["late", "then"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_publication_the_table_is_polled_and_the_reason_told() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let mut route = Route::new();
    service.sql("DROP PUBLICATION outbox").await;
    service.write("a").await;
    route.until(&source, 1).await;
    until("the reason is told", async || {
        source.status().polling.is_some_and(|reason| reason.contains("CREATE PUBLICATION"))
    })
    .await;
    outbox_sql::postgres::wal::publish(&service.client, "outbox").await.unwrap();
    streams(&source).await;
    service.write("b").await;
    route.until(&source, 2).await;
    assert_eq!(route.keys(), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_holds_what_was_written_without_a_publication_is_made_anew() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let mut route = Route::new();
    service.write("before").await;
    route.until(&source, 1).await;
    service.sql("DROP PUBLICATION outbox").await;
    service.write("missed").await;
    outbox_sql::postgres::wal::publish(&service.client, "outbox").await.unwrap();
    service.write("then").await;
    let written = service.text("SELECT pg_current_wal_insert_lsn()").await.unwrap();
    route.until(&source, 3).await;
    let name = source.status().slot;
    until("the slot moves on beyond it", async || {
        let sql =
            "SELECT confirmed_flush_lsn >= '?'::pg_lsn AND active FROM pg_replication_slots WHERE slot_name = '@'";
        service.text(&sql.replace('?', &written).replace('@', &name)).await.as_deref() == Some("true")
    })
    .await;
    route.is_exact(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_and_starts_again_is_read_on() {
    let cluster = Cluster::start("");
    let service = Fixture::on(cluster.clone()).await;
    let source = service.streaming().await;
    let mut route = Route::new();
    let mut count = 0;
    for mode in ["fast", "immediate", "immediate"] {
        for _ in 0..3 {
            service.write_anew("a").await;
            count += 1;
        }
        route.until(&source, count).await;
        service.write_anew("unread").await;
        cluster.restart(mode);
        service.write_anew("after").await;
        count += 2;
        route.until(&source, count).await;
        streams(&source).await;
    }
    route.is_exact(count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_in_the_middle_of_a_transaction_goes_on_in_it() {
    let service = Fixture::new().await;
    let name = slot();
    let mut route = Route::new();
    route.page = Limit { events: 37, bytes: 1 << 20 };
    let mut count = 0;
    for round in 0..6 {
        let source = service.open(WalSettings::new().slot(&name)).await.unwrap();
        streams(&source).await;
        let sql = format!(
            "INSERT INTO outbox.entries (type, event_id) SELECT 't', '{round}.' || n FROM generate_series(1, 500) AS n"
        );
        service.sql(&sql).await;
        count += 500;
        route.until(&source, count - 250).await;
        // What it read is as far as its checkpoint is; the rest is gone with it.
    }
    let store = service.store().await;
    route.until(&store, count).await;
    route.is_exact(count);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_do_not_rise_within_a_transaction_lose_nothing_when_it_is_left_in_the_middle() {
    let service = Fixture::new().await;
    service.sql("SELECT nextval('outbox.entry_ids') FROM generate_series(1, 300)").await;
    let source = service.streaming().await;
    service.sql("INSERT INTO outbox.entries (id, type, event_id) OVERRIDING SYSTEM VALUE SELECT 300 - n, 't', n::text FROM generate_series(1, 200) AS n").await;
    let mut route = Route::new();
    route.page = Limit { events: 30, bytes: 1 << 20 };
    route.until(&source, 90).await;
    assert!(route.position.as_str().contains('~'), "it came from the log: {}", route.position);
    drop(source);
    let source = service.streaming().await;
    route.until(&source, 200).await;
    route.finish(&source).await;
    let ids: std::collections::BTreeSet<_> = route.events.iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids.len(), 200, "nothing is lost");
    // Begun in the table, it is read from its first row once more when the log goes on with it.
    assert!(
        route.events.len() <= 490,
        "and what was read of it comes again at most once a change: {}",
        route.events.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_under_load_costs_nothing() {
    let service = Fixture::new().await;
    let source = Arc::new(service.streaming().await);
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let url = service.database.url();
            tokio::spawn(async move {
                let mut client = crate::cluster::session(&url).await;
                for number in 0..100 {
                    write(&mut client, &["shared", &format!("own{writer}.{}", number % 7)]).await;
                }
            })
        })
        .collect();
    let cutting = {
        let (client, done, name) = (service.database.session().await, done.clone(), source.status().slot);
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let cut = format!(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{name}' AND active_pid IS NOT NULL"
                );
                client.batch_execute(&cut).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            }
        })
    };
    let mut route = Route::new();
    route.page = Limit { events: 13, bytes: 1 << 20 };
    route.until(&*source, 800).await;
    done.store(true, Ordering::Relaxed);
    cutting.await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    route.finish(&*source).await;
    route.is_exact(800);
}

impl Fixture {
    /// Writes as a service does that connects again when its session was ended.
    async fn write_anew(&self, key: &str) {
        write(&mut self.database.session().await, &[key]).await;
    }
}
