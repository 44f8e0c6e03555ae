//! Connections that break.

use std::{sync::Arc, time::Duration};

use outbox::{
    ErrorKind,
    inbox::{Applied, InboxLayer},
    testing::conformance::inbox::InboxUnderTest,
};
use outbox_sql::postgres::{ConnectOptions, PostgresInbox};
use tower::Layer;

use crate::{
    fixture::{Bench, event, take, writing},
    proxy::{Proxy, host_and_port},
};

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_uncertain_and_what_comes_again_is_a_duplicate() {
    let bench = Bench::new();
    let proxy = Proxy::start(&host_and_port(bench.0.url())).await;
    let options = ConnectOptions::parse(&proxy.before(bench.0.url())).unwrap();
    let service = Arc::new(InboxLayer::in_order(PostgresInbox::open(options, "tests").unwrap()).layer(writing()));
    assert_eq!(take(&service, vec![event("a", 1)]).await.unwrap(), [Applied::Applied]);
    let link = proxy.links().pop().unwrap();
    // As the query itself: the beginning names the level READ COMMITTED.
    link.lose_answers_from(b"COMMIT\0");
    let taking = tokio::spawn({
        let service = service.clone();
        async move { take(&service, vec![event("a", 2), event("b", 1)]).await }
    });
    until("the effects are committed", || bench.effects().len() == 3).await;
    link.cut();
    let error = taking.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Unavailable, true), "{error}");
    let again = take(&service, vec![event("a", 2), event("b", 1), event("b", 2)]).await.unwrap();
    assert_eq!(again, [Applied::Duplicate, Applied::Duplicate, Applied::Applied]);
    assert_eq!(bench.effects(), ["a@1.1.0", "a@1.2.0", "b@1.1.0", "b@1.2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_come_to_its_commit_leaves_nothing_and_is_certain() {
    let bench = Bench::new();
    let proxy = Proxy::start(&host_and_port(bench.0.url())).await;
    let options = ConnectOptions::parse(&proxy.before(bench.0.url())).unwrap();
    let service = Arc::new(InboxLayer::in_order(PostgresInbox::open(options, "tests").unwrap()).layer(writing()));
    assert_eq!(take(&service, vec![event("a", 1)]).await.unwrap(), [Applied::Applied]);
    let link = proxy.links().pop().unwrap();
    let asked = link.asked();
    link.hold_requests();
    let taking = tokio::spawn({
        let service = service.clone();
        async move { take(&service, vec![event("a", 2)]).await }
    });
    until("the transaction is on its way", || link.asked() > asked).await;
    link.cut();
    let error = taking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    link.let_requests_go();
    link.ended().await;
    assert_eq!(bench.effects(), ["a@1.1.0"]);
    assert_eq!(take(&service, vec![event("a", 2)]).await.unwrap(), [Applied::Applied]);
}
