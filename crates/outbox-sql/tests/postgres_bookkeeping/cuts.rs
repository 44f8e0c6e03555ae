//! A connection that breaks with an answer still to come.

use std::sync::Arc;

use outbox::{
    Bookkeeping, ErrorKind, Key, Lane, Position, StoreError,
    bookkeeping::{Front, FrontState, Keep, KeepOutcome, KeptContent, Lease, SettleOutcome, Settlement},
    entry::Undecodable,
};
use outbox_sql::postgres::{ConnectOptions, PostgresBookkeeping};

use crate::{
    fixture::{Fresh, checkpoint, entries, ledger, position, take, until, witness},
    proxy::{Link, Proxy, host_and_port},
    server::Database,
};

/// A relay behind a proxy, its writer connected and its lease taken, and an observer who is not.
struct Scene {
    relay: PostgresBookkeeping,
    observer: PostgresBookkeeping,
    _database: Database,
    lease: Lease,
    writer: Arc<Link>,
}

impl Scene {
    async fn set() -> Self {
        let fresh = Fresh::new().await;
        let proxy = Proxy::start(&host_and_port(fresh.database.url())).await;
        let relay = fresh.open_with(ConnectOptions::parse(&proxy.before(fresh.database.url())).unwrap()).await;
        let lease = take(&relay).await;
        let before = proxy.links().len();
        relay.checkpoint(&lease, &ledger(), &checkpoint(1), Some(&witness(1))).await.unwrap();
        let links = proxy.links();
        assert_eq!(links.len(), before + 1, "writes have a connection of their own");
        Self { relay, observer: fresh.open().await, _database: fresh.database, lease, writer: links[before].clone() }
    }
}

fn expect_uncertain(error: &StoreError) {
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Unavailable, true), "{error}");
}

fn lane() -> Lane {
    Lane::Key(Key::new("a").unwrap())
}

fn keep(front: Option<FrontState>, rows: std::ops::RangeInclusive<u64>) -> Keep {
    let front = front.map(|state| Front {
        state,
        attempts: 1,
        failed_since: jiff::Timestamp::UNIX_EPOCH,
        reason: "said no".to_owned(),
    });
    let row = |number: u64| {
        let (id, key) = (format!("row/{number}").into(), Some(Key::new("a").unwrap()));
        let row = Undecodable { id, key, reason: "r".to_owned(), raw: b"raw"[..].into() };
        (KeptContent::Undecodable(row), Position::new(number.to_string()))
    };
    Keep { lane: lane(), front, events: rows.map(row).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_was_lost_is_uncertain_and_can_be_repeated() {
    let Scene { relay, observer, lease, writer, _database } = Scene::set().await;
    writer.lose_answers();
    let storing = tokio::spawn({
        let (relay, lease) = (relay.clone(), lease.clone());
        async move { relay.checkpoint(&lease, &ledger(), &checkpoint(2), Some(&witness(2))).await }
    });
    until("the checkpoint is committed", async || position(&observer).await == Some(2)).await;
    writer.cut();
    expect_uncertain(&storing.await.unwrap().unwrap_err());
    relay.checkpoint(&lease, &ledger(), &checkpoint(2), Some(&witness(2))).await.unwrap();
    assert_eq!(position(&observer).await, Some(2));
    assert_eq!(observer.witnesses(&entries()).await.unwrap(), [witness(2), witness(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_over_a_broken_connection_does_not_land_behind_a_later_write() {
    let Scene { relay, observer, lease, writer, _database } = Scene::set().await;
    let (asked, answered) = (writer.asked(), writer.answered());
    writer.hold_requests();
    let storing = tokio::spawn({
        let (relay, lease) = (relay.clone(), lease.clone());
        async move { relay.checkpoint(&lease, &ledger(), &checkpoint(2), Some(&witness(2))).await }
    });
    until("the checkpoint is on its way", async || writer.asked() > asked).await;
    writer.cut();
    expect_uncertain(&storing.await.unwrap().unwrap_err());
    relay.checkpoint(&lease, &ledger(), &checkpoint(3), Some(&witness(3))).await.unwrap();
    writer.let_requests_go();
    writer.ended().await;
    assert!(writer.answered() > answered, "it reached the server after all");
    assert_eq!(position(&observer).await, Some(3));
    assert_eq!(observer.witnesses(&entries()).await.unwrap(), [witness(3), witness(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_that_comes_late_does_not_bring_back_what_was_settled_since() {
    let Scene { relay, observer, lease, writer, _database } = Scene::set().await;
    let asked = writer.asked();
    writer.hold_requests();
    let dead = || keep(Some(FrontState::Dead), 1..=2);
    let keeping = tokio::spawn({
        let (relay, lease) = (relay.clone(), lease.clone());
        async move { relay.keep(&lease, &ledger(), &entries(), &dead()).await }
    });
    until("the events are on their way", async || writer.asked() > asked).await;
    writer.cut();
    expect_uncertain(&keeping.await.unwrap().unwrap_err());
    let KeepOutcome::Stored { generation } = relay.keep(&lease, &ledger(), &entries(), &dead()).await.unwrap() else {
        panic!("the front opens a trouble")
    };
    let kept = relay.kept(&ledger(), &lane(), 10).await.unwrap();
    let remove = kept.iter().map(|kept| kept.id).collect();
    let settlement = Settlement { lane: lane(), generation, remove, apart: None, discarded: false, front: None };
    assert_eq!(relay.settle(&lease, &ledger(), &settlement).await.unwrap(), SettleOutcome::Released);
    writer.let_requests_go();
    writer.ended().await;
    assert_eq!(observer.trouble(&ledger(), &lane()).await.unwrap(), None);
    assert!(observer.kept(&ledger(), &lane(), 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_whose_answer_was_lost_removes_nothing_more_when_it_is_repeated() {
    let Scene { relay, observer, lease, writer, _database } = Scene::set().await;
    let stored = relay.keep(&lease, &ledger(), &entries(), &keep(Some(FrontState::Dead), 1..=3)).await.unwrap();
    let KeepOutcome::Stored { generation } = stored else { panic!("the front opens a trouble") };
    let front = relay.kept(&ledger(), &lane(), 1).await.unwrap().remove(0).id;
    let settlement =
        Settlement { lane: lane(), generation, remove: vec![front], apart: None, discarded: true, front: None };
    writer.lose_answers();
    let settling = tokio::spawn({
        let (relay, lease, settlement) = (relay.clone(), lease.clone(), settlement.clone());
        async move { relay.settle(&lease, &ledger(), &settlement).await }
    });
    let left = async || observer.kept(&ledger(), &lane(), 10).await.unwrap().len();
    until("the settlement is committed", async || left().await == 2).await;
    writer.cut();
    expect_uncertain(&settling.await.unwrap().unwrap_err());
    let again = relay.settle(&lease, &ledger(), &settlement).await.unwrap();
    assert_eq!((again, left().await), (SettleOutcome::Left(2), 2));
    assert_eq!(observer.tombstones(&ledger()).await.unwrap().len(), 1);
}
