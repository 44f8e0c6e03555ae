//! Behind a synchronous standby the log tells of commits that nobody can see yet. Who reads the log is none.

use outbox::{Source as _, source::Limit};
use outbox_sql::postgres::{Layout, Mapping, wal::WalSettings};

use crate::{
    cluster::Cluster,
    fixture::{Fixture, Route, slot, streams, until, write},
    foreign::{DEBEZIUM, Foreign, kinds, page},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_standby_is_not_given_out_before_it_can_be_seen() {
    let service = Fixture::on(Cluster::start("")).await;
    service.write("before").await;
    // There is no such standby, so every commit waits for it.
    service.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    service.sql("SELECT pg_reload_conf()").await;
    until("commits wait for the standby", async || {
        service.text("SELECT current_setting('synchronous_standby_names')").await.as_deref() == Some("nobody")
    })
    .await;
    let source = service.streaming().await;
    let mut route = Route::new();
    route.until(&source, 1).await;
    let mut client = service.database.session().await;
    let waiting = tokio::spawn(async move { write(&mut client, &["waits"]).await });
    until("the commit waits", async || {
        service.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await.as_deref() == Some("1")
    })
    .await;
    // Ahead of the commit of one that waits for nothing, so that the stream has come past it.
    service.sql("SET synchronous_commit = local; SELECT outbox.write('own way', 't', '1'::json)").await;
    for _ in 0..5 {
        route.read(&source).await;
    }
    assert_eq!(route.keys(), ["before"], "what nobody can see is not given out, nor what comes behind it");
    assert!(!waiting.is_finished());
    service.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
    service.sql("SELECT pg_reload_conf()").await;
    waiting.await.unwrap();
    route.page = Limit { events: 10, bytes: 1 << 20 };
    route.until(&source, 3).await;
    route.is_exact(3);
    assert_eq!(source.key_order(), outbox::KeyOrder::Promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_waits_for_the_relay_as_for_a_standby() {
    let service = Fixture::on(Cluster::start("")).await;
    let source = service.streaming().await;
    let set = async |names: &str| {
        service.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await;
        service.sql("SELECT pg_reload_conf()").await;
    };
    set("ANY 1 (somebody, *)").await;
    until("it is polled, and what to do is told", async || {
        source.status().polling.is_some_and(|reason| reason.contains("synchronous_standby_names"))
    })
    .await;
    until("nobody is there that the server could take for one", async || {
        service.text("SELECT count(*) FROM pg_stat_replication").await.as_deref() == Some("0")
    })
    .await;
    let refused = service.open(WalSettings::new().slot(slot())).await.err().expect("it is not begun either");
    assert!(refused.to_string().contains("ALTER SYSTEM SET synchronous_standby_names"), "{refused}");
    set("").await;
    streams(&source).await;
    service.write("then").await;
    let mut route = Route::new();
    route.until(&source, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_waits_for_a_relay_that_reads_the_log_alone() {
    let service = Foreign::on(Cluster::start(""), DEBEZIUM, Mapping::of(Layout::Debezium)).await;
    let (store, start) = service.begun().await;
    page(&store, &start, 10).await.unwrap();
    until("the stream is all that is there", async || {
        service.text("SELECT count(*) FROM pg_stat_replication").await == "1"
    })
    .await;
    let set = async |names: &str| {
        service.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await;
        service.sql("SELECT pg_reload_conf()").await;
    };
    set("*").await;
    until("reading is refused, and what to do is told", async || {
        let refused = page(&store, &start, 10).await.err();
        refused.is_some_and(|error| error.kind().retry() && error.to_string().contains("synchronous_standby_names"))
    })
    .await;
    until("nobody is there that the server could take for one", async || {
        service.text("SELECT count(*) FROM pg_stat_replication").await == "0"
    })
    .await;
    set("").await;
    until("it is read on", async || page(&store, &start, 10).await.is_ok()).await;
    service.write("1", "then").await;
    until("what comes then is read", async || {
        page(&store, &start, 10).await.is_ok_and(|page| kinds(&page.records) == ["then"])
    })
    .await;
}
