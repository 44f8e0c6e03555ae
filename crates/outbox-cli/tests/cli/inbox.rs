//! A consumer's inbox on PostgreSQL: the same commands, with its URL.

use outbox::{
    Event, NewEvent, Place as Position, Placing,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{Answer, InboxLayer, Incoming},
};
use outbox_sql::postgres::{ConnectOptions, PostgresInbox, handler_fn};
use tokio_postgres::Transaction;
use tower::Layer;

use crate::{
    place::{Place, Ran},
    server::Database,
};

/// Order `sequence` of a customer.
fn order(customer: u32, sequence: u64) -> Event {
    let after = if sequence > 1 { Position::new(1, sequence - 1, 0) } else { Position::ORIGIN };
    let placing = Some(Placing { place: Position::new(1, sequence, 0), count: 1, after });
    let placed = NewEvent::builder("order.placed").key(format!("customer/{customer}"));
    let placed = placed.json(&serde_json::json!({ "number": sequence })).build().unwrap();
    let identity = Identity { source: &"/orders".into(), placing, recorded: None, fallback_id: "" };
    let event = Event::from_new(placed, identity).unwrap();
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
}

/// An inbox in which customer 3's first order is a dead letter, and the two behind it are parked.
async fn consumed() -> Database {
    let database = Database::new().await;
    let options = ConnectOptions::parse(database.url()).unwrap();
    PostgresInbox::init(&options, "ledger").await.unwrap();
    let inbox = InboxLayer::in_order(PostgresInbox::open(options, "ledger").unwrap());
    let handler = handler_fn(async |_: &Transaction<'_>, event: &Event| {
        if event.key().is_some_and(|key| key.as_str() == "customer/3") {
            return Answer::give_up("customer 3 is not known");
        }
        Answer::Done
    });
    let events = (1..=4).flat_map(|customer| (1..=3).map(move |sequence| order(customer, sequence)));
    inbox.layer(handler).apply(events.map(Incoming::Event).collect()).await.unwrap();
    database
}

fn inbox<'a>(command: &[&'a str], url: &'a str) -> Vec<&'a str> {
    [&["inbox"], command, &["--db", url]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_on_a_server_is_looked_at_and_mended() {
    let (database, place) = (consumed().await, Place::new());
    let url = database.url();
    let status = place.json(&inbox(&["status"], url));
    assert_eq!((&status["counts"]["applied"], &status["dead"], &status["parked"]), (&9.into(), &1.into(), &2.into()));
    assert!(place.run(&inbox(&["status"], url)).out.contains("dead letters"));

    let list = place.json(&inbox(&["dead-letters", "list"], url));
    let letter = &list["dead_letters"][0];
    assert_eq!((&letter["key"], &letter["parked"]), (&"customer/3".into(), &2.into()));
    let id = letter["id"].to_string();
    let shown = place.run(&inbox(&["dead-letters", "show", &id, "--payload"], url));
    assert!(shown.out.contains("customer 3 is not known") && shown.out.contains("number"), "{}", shown.out);
    assert_eq!(place.json(&inbox(&["dead-letters", "redrive", &id], url))["redriven"], 1);

    let rewind = inbox(&["rewind", "--producer", "/orders"], url);
    let one = [&rewind[..], &["--key", "customer/1", "--to", "1.1.0"]].concat();
    assert_eq!(place.json(&one)["mark"], "1.1.0");
    assert_eq!(place.run(&rewind).code, 2, "all of it needs --yes");
    assert_eq!(place.json(&[&rewind[..], &["--yes"]].concat())["forgotten"], 3, "customer 3 had no mark yet");

    let skip = inbox(&["skip", "--producer", "/orders", "--key", "customer/1"], url);
    let nothing = place.run(&skip);
    assert_eq!(nothing.code, 3, "nothing is parked for that key: {}", nothing.err);
    assert_eq!(place.json(&[&skip[..], &["--to", "1.3.0"]].concat())["mark"], "1.3.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_of_one_consumer_is_found_among_several() {
    let (database, place) = (consumed().await, Place::new());
    let status = inbox(&["status"], database.url());
    let of = |consumer| place.run(&[&status[..], &["--consumer", consumer]].concat());
    let unknown = of("nobody");
    assert_eq!(unknown.code, 3, "{}", unknown.err);
    assert!(unknown.err.contains("ledger"), "{}", unknown.err);
    PostgresInbox::init(&ConnectOptions::parse(database.url()).unwrap(), "mails").await.unwrap();
    let which = place.run(&status);
    assert_eq!(which.code, 2, "{}", which.err);
    assert!(which.err.contains("ledger") && which.err.contains("mails"), "{}", which.err);
    assert_eq!(of("ledger").code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_an_inbox_and_a_server_that_is_gone_are_named_without_a_password() {
    let (database, place) = (Database::new().await, Place::new());
    let none = place.run(&inbox(&["status"], database.url()));
    assert_eq!(none.code, 3, "{}", none.err);
    assert!(none.err.contains("has no inbox yet"), "{}", none.err);
    let refused = |url: &str, code| {
        let ran: Ran = place.run(&inbox(&["status"], url));
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(!ran.err.contains("hush"), "{}", ran.err);
        ran.err
    };
    let gone = refused("postgres://ledger:hush-hush@127.0.0.1:1/ledger", 1);
    assert!(gone.contains("postgres://ledger@127.0.0.1:1/ledger"), "{gone}");
    let unreadable = refused("postgres://ledger:hush-hush@127.0.0.1/ledger?sslmode=maybe", 2);
    assert!(unreadable.contains("--db") && unreadable.contains("sslmode"), "{unreadable}");
}
