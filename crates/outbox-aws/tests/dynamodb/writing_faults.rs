//! What goes wrong on the way: conflicts, throttles, lost answers. No emulator does these: a proxy before it does.

use std::{sync::Arc, time::Duration};

use outbox::{Clock, Moment, System, writer::Settled};
use outbox_aws::dynamodb::{CommitError, Writer};

use crate::{
    fixture::{Store, event},
    proxy::{Fault, Proxy},
    server,
    writing::{create, key},
};

const TRANSACT: &str = "TransactWriteItems";

struct Scene {
    store: Store,
    proxy: Proxy,
    writer: Writer,
}

impl Scene {
    async fn set() -> Self {
        let endpoint = server::endpoint().expect("faults are scripted before an emulator: name one by OUTBOX_TEST_AWS");
        let store = Store::new().await;
        let proxy = Proxy::before(endpoint).await;
        let client = server::client_at(Some(proxy.url())).await;
        let writer = Writer::new(&client, store.tables.clone());
        Self { store, proxy, writer }
    }

    /// Creates cart 1 and writes an event about it.
    async fn commit(&self) -> Result<Vec<outbox::Receipt>, CommitError> {
        let mut transaction = self.writer.transaction();
        transaction.action(create(&self.store, "1"));
        transaction.expecting(key("cart/1"), 0).write([event("cart/1")]);
        transaction.commit().await
    }

    fn tokens(&self) -> Vec<String> {
        let token = |call: &crate::proxy::Call| call.body["ClientRequestToken"].as_str().unwrap().to_owned();
        self.proxy.calls(TRANSACT).iter().map(token).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_throttles_are_tried_again_under_one_token() {
    let scene = Scene::set().await;
    scene.proxy.script(
        TRANSACT,
        [
            Fault::cancelled(&["None", "TransactionConflict", "None"]),
            Fault::cancelled(&["ThrottlingError", "None", "ProvisionedThroughputExceeded"]),
            Fault::error("ThrottlingException"),
            Fault::error("ProvisionedThroughputExceededException"),
            Fault::error("RequestLimitExceeded"),
            Fault::error("InternalServerError"),
            Fault::error("TransactionInProgressException"),
        ],
    );
    scene.commit().await.unwrap();
    let tokens = scene.tokens();
    assert_eq!(tokens.len(), 8);
    assert!(tokens.iter().all(|token| *token == tokens[0] && token.len() <= 36), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_and_commits_once() {
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::LoseAnswer, Fault::LoseAnswer]);
    let receipts = scene.commit().await.unwrap();
    assert_eq!(scene.store.source().all().await.len(), 1);
    assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), Settled::Committed);
}

/// Past ten minutes the service has forgotten the token, and says that the conditions fail: by our own commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_recognised_when_the_token_is_forgotten() {
    let scene = Scene::set().await;
    let failed = ["ConditionalCheckFailed", "ConditionalCheckFailed", "ConditionalCheckFailed"];
    scene.proxy.script(TRANSACT, [Fault::LoseAnswer, Fault::cancelled(&failed)]);
    let receipts = scene.commit().await.unwrap();
    assert_eq!(receipts[0].first.unwrap().sequence, 1);
    assert_eq!(scene.store.source().all().await.len(), 1, "and nothing was written twice");
}

/// The same, where the version is whatever it is: the writer does not take its own commit for another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_lost_its_answer_is_not_numbered_anew() {
    let scene = Scene::set().await;
    let mut transaction = scene.writer.transaction();
    transaction.write([event("cart/1"), event("cart/2")]);
    let failed = ["ConditionalCheckFailed"; 4];
    scene.proxy.script(TRANSACT, [Fault::LoseAnswer, Fault::cancelled(&failed)]);
    let receipts = transaction.commit().await.unwrap();
    let sequences: Vec<_> = receipts.iter().map(|receipt| receipt.first.unwrap().sequence).collect();
    assert_eq!(sequences, [1, 1]);
    assert_eq!(scene.store.source().all().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_for_good_can_be_settled() {
    let scene = Scene::set().await;
    for (fault, settled) in
        [(Fault::LoseAnswer, Settled::Committed), (Fault::error("InternalServerError"), Settled::NotCommitted)]
    {
        // The first attempt is lost, and then time is up.
        scene.proxy.script(TRANSACT, [fault]);
        let receipts = match impatient(&scene, "cart/1").await {
            Err(CommitError::Unsettled { receipts, .. }) => receipts,
            other => panic!("{other:?}"),
        };
        assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), settled);
    }
}

/// Commits with a clock that leaps: time is up after the first attempt.
async fn impatient(scene: &Scene, name: &str) -> Result<Vec<outbox::Receipt>, CommitError> {
    let mut transaction = scene.writer.clone().clock(Arc::new(Leaping::default())).transaction();
    transaction.write([event(name)]);
    transaction.commit().await
}

/// A clock on which a minute passes at every look.
#[derive(Default)]
struct Leaping(std::sync::atomic::AtomicU64);

impl Clock for Leaping {
    fn moment(&self) -> Moment {
        let minutes = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Moment::from_zero(Duration::from_secs(60 * minutes))
    }

    fn wall(&self) -> jiff::Timestamp {
        System.wall()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_past_the_deadline_say_that_nothing_was_written() {
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::error("ThrottlingException")]);
    let error = impatient(&scene, "cart/1").await.unwrap_err();
    assert!(matches!(error, CommitError::Write(outbox::WriteError::RetryTransaction { .. })), "{error}");
    assert_eq!(scene.store.source().all().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_refused_for_what_it_is_is_named_and_not_tried_again() {
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::cancelled(&["None", "ValidationError", "TransactionConflict"])]);
    let error = scene.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Refused { action: 1, .. }), "{error}");
    assert_eq!(scene.proxy.calls(TRANSACT).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_stop_at_once_and_name_the_remedy() {
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::error("AccessDeniedException")]);
    let error = scene.commit().await.unwrap_err().to_string();
    assert!(error.contains("grant this role"), "{error}");
    assert_eq!(scene.proxy.calls(TRANSACT).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_remembers_a_head_reads_none() {
    let scene = Scene::set().await;
    for _ in 0..5 {
        let mut transaction = scene.writer.transaction();
        transaction.write([event("cart/1")]);
        transaction.commit().await.unwrap();
    }
    let reads: Vec<_> =
        scene.proxy.calls("GetItem").iter().map(|call| call.body["Key"]["id"]["S"].to_string()).collect();
    assert_eq!(reads, ["\"store\"", "\"k:cart/1\""], "the identity and the head, once each");
}
