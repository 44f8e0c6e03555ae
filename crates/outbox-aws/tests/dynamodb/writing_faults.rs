//! What goes wrong on the way: conflicts, throttles, lost answers. No emulator does these: a proxy before it does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

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
        let endpoint = server::emulator().unwrap();
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
    let Some(_) = server::emulator() else { return };
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
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::LoseAnswer, Fault::LoseAnswer]);
    let receipts = scene.commit().await.unwrap();
    assert_eq!(scene.store.source().all().await.len(), 1);
    assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), Settled::Committed);
}

/// Past ten minutes the service has forgotten the token, and says that the conditions fail: by our own commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_recognised_when_the_token_is_forgotten() {
    let Some(_) = server::emulator() else { return };
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
    let Some(_) = server::emulator() else { return };
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
    let Some(_) = server::emulator() else { return };
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

/// The request is still on its way when its caller has given up and asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_settled_as_not_committed_cannot_come_any_more() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    let write = async |writer: &Writer| {
        let mut transaction = writer.transaction();
        transaction.write([event("cart/1")]);
        transaction.commit().await
    };
    write(&scene.writer).await.unwrap();
    let held = scene.proxy.hold(TRANSACT);
    let impatient = scene.writer.clone().patience(Duration::from_millis(200));
    let Err(CommitError::Unsettled { receipts, .. }) = write(&impatient).await else { panic!("it was answered") };
    held.arrived().await;
    assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), Settled::NotCommitted);
    held.release();
    held.answered().await;
    assert_eq!(scene.store.source().all().await.len(), 1);
    let again = write(&scene.writer).await.unwrap();
    assert_eq!(again[0].first.unwrap().sequence, 2);
    assert_eq!(scene.store.source().all().await.len(), 2);
    assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), Settled::NotCommitted, "another has its number");
}

/// The attempt before may still be on its way, and the caller's item may be as it was when it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_caller_s_own_behind_a_lost_answer_calls_no_commit_off() {
    let Some(_) = server::emulator() else { return };
    for own in ["ConditionalCheckFailed", "ValidationError"] {
        let scene = Scene::set().await;
        scene.proxy.script(TRANSACT, [Fault::error("InternalServerError"), Fault::cancelled(&[own, "None", "None"])]);
        let error = scene.commit().await.unwrap_err();
        let CommitError::Unsettled { receipts, .. } = error else { panic!("{own}: {error}") };
        assert_eq!(receipts[0].first.unwrap().sequence, 1);
    }
}

/// Another writer has the number, for ever: no attempt can come any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_the_caller_s_own_that_fails_with_the_head_s_is_for_the_caller_to_judge() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    let failed = ["ConditionalCheckFailed", "None", "ConditionalCheckFailed"];
    scene.proxy.script(TRANSACT, [Fault::error("InternalServerError"), Fault::cancelled(&failed)]);
    let error = scene.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Condition { action: 0, .. }), "{error}");
}

/// Where there is no head to be changed, nothing can keep a request that is on its way from taking effect.
#[tokio::test(flavor = "multi_thread")]
async fn whether_the_first_entry_of_a_key_may_yet_come_is_not_guessed() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::error("InternalServerError")]);
    let Err(CommitError::Unsettled { receipts, .. }) = impatient(&scene, "cart/1").await else { panic!("answered") };
    assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), Settled::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_looked_for_is_not_called_off() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    scene.commit().await.unwrap();
    let mut transaction = scene.writer.transaction();
    transaction.write([event("cart/1")]);
    scene.proxy.script(TRANSACT, [Fault::LoseAnswer, Fault::cancelled(&["ConditionalCheckFailed"; 2])]);
    scene.proxy.script("GetItem", [Fault::error("AccessDeniedException")]);
    let error = transaction.commit().await.unwrap_err();
    let CommitError::Unsettled { receipts, .. } = error else { panic!("{error}") };
    assert_eq!(scene.writer.settle(&receipts[0]).await.unwrap(), Settled::Committed);
}

/// Commits with a clock that leaps: time is up after the first attempt.
async fn impatient(scene: &Scene, name: &str) -> Result<Vec<outbox::Receipt>, CommitError> {
    let clock = Arc::new(Leaping::by(Duration::from_mins(1)));
    let mut transaction = scene.writer.clone().clock(clock).transaction();
    transaction.write([event(name)]);
    transaction.commit().await
}

/// A clock on which time passes at every look, and at no other time.
struct Leaping {
    by: Duration,
    looks: AtomicU32,
}

impl Leaping {
    fn by(by: Duration) -> Self {
        Self { by, looks: AtomicU32::new(0) }
    }

    fn passed(&self) -> Duration {
        self.by * self.looks.load(Ordering::Relaxed)
    }
}

impl Clock for Leaping {
    fn moment(&self) -> Moment {
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        Moment::from_zero(self.by * looks)
    }

    fn wall(&self) -> jiff::Timestamp {
        System.wall()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbering_anew_does_not_prolong_a_commits_patience() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    let clock = Arc::new(Leaping::by(Duration::from_secs(1)));
    scene.proxy.script(TRANSACT, [Fault::cancelled(&["None", "ConditionalCheckFailed"])]);
    scene.proxy.rule(TRANSACT, |_| Fault::error("ThrottlingException"));
    let mut transaction = scene.writer.clone().clock(clock.clone()).patience(Duration::from_secs(10)).transaction();
    transaction.write([event("cart/1")]);
    transaction.commit().await.unwrap_err();
    assert!(clock.passed() <= Duration::from_secs(12), "{:?}", clock.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_past_the_deadline_say_that_nothing_was_written() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::error("ThrottlingException")]);
    let error = impatient(&scene, "cart/1").await.unwrap_err();
    assert!(matches!(error, CommitError::Write(outbox::WriteError::RetryTransaction { .. })), "{error}");
    assert_eq!(scene.store.source().all().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_is_refused_for_what_it_is_is_named_and_not_tried_again() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::cancelled(&["None", "ValidationError", "TransactionConflict"])]);
    let error = scene.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Refused { action: 1, .. }), "{error}");
    assert_eq!(scene.proxy.calls(TRANSACT).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_stop_at_once_and_name_the_remedy() {
    let Some(_) = server::emulator() else { return };
    let scene = Scene::set().await;
    scene.proxy.script(TRANSACT, [Fault::error("AccessDeniedException")]);
    let error = scene.commit().await.unwrap_err().to_string();
    assert!(error.contains("grant this role"), "{error}");
    assert_eq!(scene.proxy.calls(TRANSACT).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_remembers_a_head_reads_none() {
    let Some(_) = server::emulator() else { return };
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
