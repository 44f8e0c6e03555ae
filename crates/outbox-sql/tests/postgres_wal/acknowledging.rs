//! What the server may forget, and when.

use outbox::source::Limit;
use outbox_sql::postgres::wal::WalSettings;

use crate::{
    cluster::Cluster,
    fixture::{Fixture, Route, slot, streams, until},
};

/// How far the slot is confirmed, in bytes before the end of the log.
pub(crate) async fn unconfirmed(service: &Fixture, slot: &str) -> i64 {
    let sql = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    service.text(&sql).await.expect("the slot is there").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_holds_no_log_though_others_write() {
    let service = Fixture::new().await;
    let source = service.streaming().await;
    let slot = source.status().slot;
    service.write("a").await;
    Route::new().until(&source, 1).await;
    for _ in 0..3 {
        service.sql("CREATE TABLE IF NOT EXISTS other (data text); INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 2000)").await;
        until("what others wrote is confirmed", async || unconfirmed(&service, &slot).await < 200_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_slowly_holds_the_servers_log() {
    let service = Fixture::new().await;
    let settings = WalSettings::new().slot(slot()).budget(8 << 20);
    let source = service.open(settings).await.unwrap();
    streams(&source).await;
    let slot = source.status().slot;
    // Nobody reads, and ten times as much is written as is waited for.
    for round in 0..20 {
        let sql = format!(
            "INSERT INTO outbox.entries (type, event_id, data) SELECT 't', '{round}.' || n, repeat(md5(n::text), 64) FROM generate_series(1, 2000) AS n"
        );
        service.sql(&sql).await;
        until("the slot holds no more than its budget", async || unconfirmed(&service, &slot).await < 9 << 20).await;
    }
    let mut route = Route::new();
    route.page = Limit { events: 500, bytes: 4 << 20 };
    route.until(&source, 40_000).await;
    service.write("then").await;
    route.until(&source, 40_001).await;
    route.is_exact(40_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_holds_no_more_log_than_the_budget_however_much_others_write() {
    let service = Fixture::on(Cluster::start("")).await;
    let source = service.open(WalSettings::new().slot(slot())).await.unwrap();
    streams(&source).await;
    let slot = source.status().slot;
    service.sql("CREATE TABLE other (data text); ALTER TABLE other ALTER data SET STORAGE EXTERNAL").await;
    let mut most = 0;
    for _ in 0..60 {
        // Nobody reads, and more entries come than are kept for who may.
        service.sql("INSERT INTO outbox.entries (type) SELECT 't' FROM generate_series(1, 3000)").await;
        service.sql("INSERT INTO other SELECT repeat(md5(n::text), 256) FROM generate_series(1, 800) AS n").await;
        most = most.max(unconfirmed(&service, &slot).await);
        // How far a busy machine falls behind while it is written is not the reader's doing.
        until("no more than the budget is held", async || unconfirmed(&service, &slot).await <= 64 << 20).await;
    }
    assert!(most >= 16 << 20, "no more than {most} bytes were held at any time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_being_made_holds_no_more_log_than_the_hard_cap() {
    let service = Fixture::on(Cluster::start("")).await;
    let name = slot();
    let open = service.database.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't', '1'::json); PREPARE TRANSACTION 'left before'")
        .await
        .unwrap();
    let source = service.open(WalSettings::new().slot(&name).hard_cap(40 << 20)).await.unwrap();
    let mut route = Route::new();
    route.read(&source).await;
    until("the server keeps log for it, and that is told", async || {
        service.sql("INSERT INTO outbox.entries (type) SELECT 't' FROM generate_series(1, 1000)").await;
        source.status().held_bytes > 0
    })
    .await;
    until("it is given up, and who is to blame is named", async || {
        service.sql("INSERT INTO outbox.entries (type) SELECT 't' FROM generate_series(1, 10000)").await;
        source.status().polling.is_some_and(|reason| reason.contains("left before") && reason.contains("hard cap"))
    })
    .await;
    until("nothing is held any more", async || {
        service.text("SELECT count(*) FROM pg_replication_slots").await.as_deref() == Some("0")
    })
    .await;
    service.sql("COMMIT PREPARED 'left before'").await;
    streams(&source).await;
    let written = service.text("SELECT count(*) FROM outbox.entries").await.unwrap().parse().unwrap();
    route.page = Limit { events: 1_000, bytes: 8 << 20 };
    route.until(&source, written).await;
    route.is_exact(written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_is_named_and_past_the_hard_cap_the_slot_is_dropped() {
    let service = Fixture::on(Cluster::start("")).await;
    let name = slot();
    let source = service.open(WalSettings::new().slot(&name).budget(1 << 20).hard_cap(40 << 20)).await.unwrap();
    streams(&source).await;
    let open = service.database.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't', '1'::json); PREPARE TRANSACTION 'left behind'")
        .await
        .unwrap();
    let mut route = Route::new();
    let mut written = 0;
    until("the slot is dropped, and who is to blame is named", async || {
        let sql = "INSERT INTO outbox.entries (type, event_id, data) SELECT 't', gen_random_uuid()::text, repeat(md5(n::text), 64) FROM generate_series(1, 1000) AS n; CHECKPOINT";
        service.sql(sql).await;
        source.status().polling.is_some_and(|reason| reason.contains("left behind") && reason.contains("hard cap"))
    })
    .await;
    until("it is gone", async || {
        service.text(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}'")).await.as_deref()
            == Some("0")
    })
    .await;
    written += service.text("SELECT count(*) FROM outbox.entries").await.unwrap().parse::<usize>().unwrap();
    route.page = Limit { events: 1_000, bytes: 8 << 20 };
    route.until(&source, written).await;
    open.batch_execute("COMMIT PREPARED 'left behind'").await.unwrap();
    streams(&source).await;
    service.write("then").await;
    route.until(&source, written + 2).await;
    route.is_exact(written + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_the_server_let_go_of_is_made_anew_and_the_table_has_what_was_missed() {
    let service =
        Fixture::on(Cluster::start("-c max_slot_wal_keep_size=1MB -c min_wal_size=32MB -c max_wal_size=32MB")).await;
    let name = slot();
    let source = service.open(WalSettings::new().slot(&name)).await.unwrap();
    streams(&source).await;
    service.write("first").await;
    let mut route = Route::new();
    route.until(&source, 1).await;
    drop(source);
    until("the server has thrown away the slot's log", async || {
        service.sql("CREATE TABLE IF NOT EXISTS other (data text); INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 20000); SELECT pg_switch_wal(); CHECKPOINT").await;
        let status = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{name}'");
        service.text(&status).await.as_deref() == Some("lost")
    })
    .await;
    service.write("missed").await;
    let source = service.open(WalSettings::new().slot(&name)).await.unwrap();
    streams(&source).await;
    service.write("then").await;
    route.until(&source, 3).await;
    assert_eq!(route.keys(), ["first", "missed", "then"]);
    assert_eq!(source.status().polling, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_received_for_a_while_is_kept_alive() {
    let service = Fixture::on(Cluster::start("-c wal_sender_timeout=4s")).await;
    let source = service.open(WalSettings::new().slot(slot()).budget(1 << 40)).await.unwrap();
    streams(&source).await;
    let sql = "INSERT INTO outbox.entries (type, event_id, data) SELECT 't', n::text, repeat(md5(n::text), 64) FROM generate_series(1, 20000) AS n";
    service.sql(sql).await;
    let since = std::time::Duration::from_secs(10);
    let senders = "SELECT string_agg(pid::text, ',') FROM pg_stat_replication";
    let before = service.text(senders).await;
    // As long as two of the server's timeouts, which is what this is about.
    tokio::time::sleep(since).await;
    assert_eq!(service.text(senders).await, before, "the same session streams still");
    let mut route = Route::new();
    route.page = Limit { events: 1_000, bytes: 8 << 20 };
    route.until(&source, 20_000).await;
    route.is_exact(20_000);
}
