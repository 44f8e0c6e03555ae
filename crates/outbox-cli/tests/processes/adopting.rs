//! Databases whose history went backwards, and a consumer that takes everything in its order.

use std::net::SocketAddr;

use outbox::{
    Event,
    inbox::{
        Answer, InboxLayer,
        receiver::{ReceiverSettings, router},
    },
};
use outbox_sql::sqlite::{InboxOptions, SqliteInbox, handler_fn};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tower::Layer as _;

use crate::rig::{Ran, Rig};

/// A service with an inbox in mode `in_order`, that notes what it applies.
struct Consumer {
    address: SocketAddr,
    database: std::path::PathBuf,
    _folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Consumer {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("consumer.db");
        let options = InboxOptions::new("ledger").tables(|connection| {
            connection.execute_batch("CREATE TABLE applied (number INTEGER PRIMARY KEY, id TEXT)")
        });
        let store = SqliteInbox::open(&database, options).unwrap();
        let inbox =
            InboxLayer::in_order(store).layer(handler_fn(|transaction: &rusqlite::Transaction<'_>, event: &Event| {
                Answer::from(transaction.execute("INSERT INTO applied (id) VALUES (?1)", [event.id()]).map(drop))
            }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router(inbox, ReceiverSettings::default())).await });
        Self { address, database, _folder: folder, _runtime: runtime }
    }

    fn route(&self) -> String {
        format!("[[route]]\nname = 'main'\nwebhook = {{ url = 'http://{}/events' }}\n", self.address)
    }

    /// Ids of what was applied, in its order.
    fn applied(&self) -> Vec<String> {
        let connection = Connection::open(&self.database).unwrap();
        let mut statement = connection.prepare("SELECT id FROM applied ORDER BY number").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Checks that nothing waits and nothing was given up.
    fn assert_nothing_waits(&self, rig: &Rig) {
        let database = self.database.to_str().unwrap();
        let status = rig.json(&["inbox", "status", "--db", database]);
        assert_eq!((&status["parked"], &status["dead"]), (&0.into(), &0.into()), "{status:#}");
    }
}

/// Ten events of five keys published, a copy made, five more published; the consumer has them all.
fn with_history(consumer: &Consumer) -> Rig {
    let rig = Rig::new(&consumer.route());
    rig.write(0..10, 5, 5);
    rig.publish_all();
    rig.back_up("backup.db");
    rig.write(10..15, 5, 5);
    rig.publish_all();
    assert_eq!(consumer.applied().len(), 15);
    rig
}

fn assert_names_adopt(ran: &Ran) {
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.said().contains("older copy") || ran.said().contains("restored"), "{ran:?}");
    assert!(ran.said().contains("outbox adopt"), "{ran:?}");
}

/// The whole way out: look, decide, do, go on.
fn adopt(rig: &Rig, consumer: &Consumer) {
    let dry = rig.json(&["adopt"]);
    assert_eq!(dry["done"], false, "{dry:#}");
    assert!(dry["found"].to_string().contains("older copy"), "{dry:#}");
    assert_eq!(rig.status()["store"]["incarnation"], 1, "a dry run changes nothing");
    let done = rig.json(&["adopt", "--yes", "--entries", "keep"]);
    assert_eq!(done["done"], true, "{done:#}");
    assert_eq!(rig.status()["store"]["incarnation"], 2);

    let before = consumer.applied().len();
    let relay = rig.relay();
    rig.write(15..25, 5, 5);
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    let applied = consumer.applied().split_off(before);
    assert_eq!(applied.len(), 10, "what was written since, and nothing twice: {applied:?}");
    assert!(applied.iter().all(|id| id.contains("@2.")), "of the raised incarnation: {applied:?}");
    consumer.assert_nothing_waits(rig);
}

#[test]
fn an_older_copy_put_in_place_while_the_relay_is_stopped_is_adopted_and_consumers_go_on() {
    let consumer = Consumer::new();
    let rig = with_history(&consumer);
    rig.restore("backup.db");
    assert_names_adopt(&rig.relay().end());
    assert_eq!(consumer.applied().len(), 15, "it publishes nothing of another history");
    adopt(&rig, &consumer);
}

#[test]
fn an_older_copy_put_in_place_while_the_relay_runs_stops_it_and_is_adopted() {
    let consumer = Consumer::new();
    let rig = with_history(&consumer);
    let relay = rig.relay();
    rig.wait_status("the relay runs", |status| status["relay"]["released"] == false);
    rig.restore("backup.db");
    assert_names_adopt(&relay.end());
    adopt(&rig, &consumer);
}

#[test]
fn an_older_copy_that_was_written_to_since_is_renumbered_and_consumers_take_what_is_new() {
    let consumer = Consumer::new();
    let rig = with_history(&consumer);
    rig.restore("backup.db");
    // These get numbers that the consumer knows, of events that are lost.
    rig.write_events((0..5).map(|key| (format!("key/{key}"), "\"new\"".to_owned())), 5);
    assert_names_adopt(&rig.relay().end());
    let undecided = rig.outbox(&["adopt", "--yes"]);
    assert_eq!(undecided.code, 2, "{undecided:?}");
    assert!(undecided.said().contains("--entries keep") && undecided.said().contains("--entries renumber"));
    assert_eq!(rig.json(&["adopt", "--yes", "--entries", "renumber"])["done"], true);
    let before = consumer.applied().len();
    rig.publish_all();
    let applied = consumer.applied().split_off(before);
    assert!((0..5).all(|key| applied.iter().any(|id| id.starts_with(&format!("key/{key}@2.3.")))), "{applied:?}");
    consumer.assert_nothing_waits(&rig);
}

#[test]
fn another_database_in_the_place_of_the_one_that_was_read_is_refused() {
    let consumer = Consumer::new();
    let rig = with_history(&consumer);
    let other = Rig::new(&consumer.route());
    other.write(0..20, 5, 5);
    other.back_up("other.db");
    std::fs::copy(other.path("other.db"), rig.path("other.db")).unwrap();
    rig.restore("other.db");
    let ran = rig.relay().end();
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.said().contains("outbox adopt"), "{ran:?}");
    assert_eq!(consumer.applied().len(), 15);
}
