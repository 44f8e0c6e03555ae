//! Consumers that are slow, and consumers that remember much.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use outbox::{
    Event, NewEvent, Place, Placing,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{Answer, Applied, InboxLayer},
    memory::ManualClock,
};
use outbox_sql::sqlite::{InboxOptions, SqliteInbox, handler_fn};
use rusqlite::{Connection, Transaction};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tower::Layer as _;

const PATIENCE: Duration = Duration::from_secs(60);

fn inbox(folder: &TempDir) -> SqliteInbox {
    let tables = "CREATE TABLE IF NOT EXISTS effects (id TEXT NOT NULL)";
    let options = InboxOptions::new("ledger").tables(move |connection| connection.execute_batch(tables));
    SqliteInbox::open(folder.path().join("ledger.db"), options).unwrap()
}

fn effects(folder: &TempDir) -> Vec<String> {
    let connection = Connection::open(folder.path().join("ledger.db")).unwrap();
    let mut select = connection.prepare("SELECT id FROM effects ORDER BY rowid").unwrap();
    select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn take_effect(transaction: &Transaction<'_>, event: &Event) -> Answer {
    transaction.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()]).unwrap();
    Answer::Done
}

fn event(id: &str) -> Event {
    let new = NewEvent::builder("order.placed").id(id).json(&1).build().unwrap();
    let identity = Identity { source: &"/orders".into(), placing: None, recorded: None, fallback_id: "" };
    Event::from_new(new, identity).unwrap()
}

/// Event `sequence` of a key, as it comes from a gapless route.
fn placed(key: &str, sequence: u64) -> Event {
    let new = NewEvent::builder("order.placed").key(key).json(&1).build().unwrap();
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    let placing = Some(Placing { place: Place::new(1, sequence, 0), count: 1, after });
    let identity = Identity { source: &"/orders".into(), placing, recorded: None, fallback_id: "" };
    let event = Event::from_new(new, identity).unwrap();
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_parked_by_one_process_while_another_applies_its_predecessor_is_not_stranded() {
    const ROUNDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    // Each has a thread and a connection of its own, as two processes have.
    let [one, other] = [(); 2].map(|()| InboxLayer::in_order(inbox(&folder)).layer(handler_fn(take_effect)));
    for round in 0..ROUNDS {
        let key = format!("order/{round}");
        let (first, second) = (one.apply(vec![placed(&key, 1).into()]), other.apply(vec![placed(&key, 2).into()]));
        let (first, second) = tokio::join!(first, second);
        assert!(first.unwrap()[0].may_be_acknowledged() && second.unwrap()[0].may_be_acknowledged());
    }
    let effects = effects(&folder);
    let wanted: Vec<_> = (0..ROUNDS).flat_map(|round| [1, 2].map(|n| format!("order/{round}@1.{n}.0"))).collect();
    assert_eq!(effects, wanted, "each successor behind its predecessor, without a sweep");
    assert_eq!(one.operator().totals().await.unwrap().lanes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_two_processes_get_at_the_same_time_has_one_effect() {
    const ROUNDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| InboxLayer::in_order(inbox(&folder)).layer(handler_fn(take_effect)));
    for round in 0..ROUNDS {
        let key = format!("order/{round}");
        let both = (one.apply(vec![placed(&key, 1).into()]), other.apply(vec![placed(&key, 1).into()]));
        let (left, right) = tokio::join!(both.0, both.1);
        let mut applied = [left.unwrap().remove(0), right.unwrap().remove(0)];
        applied.sort_by_key(|applied| *applied != Applied::Applied);
        assert_eq!(applied, [Applied::Applied, Applied::Duplicate]);
    }
    assert_eq!(effects(&folder).len(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_outlasts_its_senders_patience_is_not_applied_again_when_it_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (entered, was_entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let slow = handler_fn(move |transaction: &Transaction<'_>, event: &Event| {
        entered.send(()).unwrap();
        // Whoever sent it has gone by then.
        may_go_on.lock().unwrap().recv().unwrap();
        take_effect(transaction, event)
    });
    let service = InboxLayer::once(inbox(&folder)).layer(slow);
    let first = tokio::spawn({
        let service = service.clone();
        async move { service.apply(vec![event("a").into()]).await }
    });
    was_entered.recv_timeout(PATIENCE).unwrap();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // It is sent again while the first attempt is still at work.
    let second = tokio::spawn(async move { service.apply(vec![event("a").into()]).await });
    go_on.send(()).unwrap();
    // A handler that is called a second time finds nobody to wait for, and panics.
    drop(go_on);
    assert_eq!(timeout(PATIENCE, second).await.unwrap().unwrap().unwrap(), [Applied::Duplicate]);
    assert_eq!(effects(&folder), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn millions_of_expired_ids_are_forgotten_a_few_at_a_time_and_never_hold_up_an_effect() {
    const OLD: i64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let service = InboxLayer::once(inbox(&folder)).clock(clock.clone()).layer(handler_fn(take_effect));
    service.apply(vec![event("first").into()]).await.unwrap();
    let connection = Connection::open(folder.path().join("ledger.db")).unwrap();
    connection
        .execute(
            "INSERT INTO outbox_inbox_ids (producer, id, expires, done) \
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
             SELECT (SELECT id FROM outbox_inbox_producers), n, 0, 1 FROM n",
            [OLD],
        )
        .unwrap();
    let left =
        || connection.query_row("SELECT count(*) FROM outbox_inbox_ids", [], |row| row.get::<_, i64>(0)).unwrap();
    let sweep = tokio::spawn({
        let service = service.clone();
        async move { service.sweep().await }
    });
    let begun = async {
        while left() > OLD {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, begun).await.expect("the sweep begins");
    let applied = service.apply(vec![event("meanwhile").into()]).await.unwrap();
    assert_eq!(applied, [Applied::Applied]);
    assert!(left() > OLD / 2, "the effect waited for {} ids to be forgotten", OLD - left());
    timeout(PATIENCE, sweep).await.unwrap().unwrap().unwrap();
    assert_eq!(left(), 2, "those that have not expired");
}
