//! Behind a synchronous standby the log tells of commits that nobody can see yet.

use outbox::{Source as _, source::Limit};

use crate::{
    cluster::Cluster,
    fixture::{Fixture, Route, until, write},
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
