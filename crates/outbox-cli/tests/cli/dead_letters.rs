//! What is done with events that nobody takes, on the sending and on the receiving side.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use outbox::{
    Event,
    inbox::{Answer, InboxLayer, InboxSettings, Mode},
};
use outbox_sql::sqlite::{InboxOptions, SqliteInbox, handler_fn};
use tower::Layer as _;

use crate::place::Place;

/// A webhook that refuses everything of customer 3 until it is mended.
struct Target {
    address: SocketAddr,
    mended: Arc<AtomicBool>,
}

impl Target {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Self { address: listener.local_addr().unwrap(), mended: Arc::default() };
        let mended = target.mended.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mended = mended.clone();
                std::thread::spawn(move || while answer(&stream, &mended).is_some() {});
            }
        });
        target
    }
}

/// Answers one request; `None` at the end of the connection.
fn answer(mut stream: &std::net::TcpStream, mended: &AtomicBool) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let refused = !mended.load(Ordering::SeqCst) && String::from_utf8_lossy(&body).contains("\"customer/3\"");
    let status = if refused { "422 Unprocessable Entity" } else { "204 No Content" };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok()
}

fn place_with_target(target: &Target) -> Place {
    let place = Place::new();
    place.write(
        "outbox.toml",
        &format!(
            "[store]\nsqlite = 'orders.db'\nproducer = '/orders'\n[relay]\nfailover = '1s'\n\
             [[route]]\nname = 'ledger'\nwebhook = {{ url = 'http://{}/events' }}\n",
            target.address
        ),
    );
    assert_eq!(place.run(&["init"]).code, 0);
    place
}

#[test]
fn a_refused_event_is_listed_shown_and_redriven_with_what_waits_behind_it() {
    let target = Target::start();
    let place = place_with_target(&target);
    place.place_orders(30);
    let relay = place.relay();
    let status = place.wait_until(|status| status["routes"][0]["dead"] == 1 && status["routes"][0]["backlog"] == 0);
    assert_eq!(status["routes"][0]["parked"], 2, "only its key waits");

    let list = place.json(&["dead-letters", "list"]);
    let letter = &list["dead_letters"][0];
    assert_eq!(letter["event"]["key"], "customer/3");
    assert_eq!(letter["parked"], 2);
    assert!(letter["reason"].as_str().unwrap().contains("422"), "{letter}");
    let id = letter["id"].to_string();
    let text = place.run(&["dead-letters", "list"]);
    assert!(text.out.contains("customer/3") && text.out.contains("422"), "{}", text.out);
    assert!(text.out.lines().all(|line| line.chars().count() <= 80), "{}", text.out);

    let shown = place.run(&["dead-letters", "show", &id]);
    assert!(shown.out.contains("order.placed") && !shown.out.contains("\"number\""), "{}", shown.out);
    let payload = place.run(&["dead-letters", "show", &id, "--payload"]);
    assert!(payload.out.contains("{\"number\":3}"), "{}", payload.out);

    assert_eq!(place.run(&["dead-letters", "redrive"]).code, 2, "which ones has to be said");
    target.mended.store(true, Ordering::SeqCst);
    assert_eq!(place.json(&["dead-letters", "redrive", &id])["redriven"], 1);
    place.wait_until(|status| status["routes"][0]["dead"] == 0 && status["routes"][0]["parked"] == 0);
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn more_than_one_needs_consent_and_a_key_can_be_erased() {
    let target = Target::start();
    let place = place_with_target(&target);
    let mut connection = rusqlite::Connection::open(place.path("orders.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    for _ in 0..2 {
        let sql = "INSERT INTO outbox (key, type, data, attributes) VALUES (?1, 'order.placed', '1', ?2)";
        for key in ["a", "b"] {
            transaction.execute(sql, (key, "{\"about\":\"customer/3\"}")).unwrap();
        }
    }
    transaction.commit().unwrap();
    let relay = place.relay();
    place.wait_until(|status| status["routes"][0]["dead"] == 2 && status["routes"][0]["parked"] == 2);
    for which in [vec!["--type", "order.placed"], vec!["--key", "b"], vec!["--all"]] {
        let refused = place.run(&[vec!["dead-letters", "discard"], which].concat());
        assert_eq!(refused.code, 2, "a discard needs --yes");
        assert!(refused.err.contains("nothing was done") && refused.err.contains("--yes"), "{}", refused.err);
    }
    assert_eq!(place.run(&["purge", "--key", "a"]).code, 2, "erasing needs --yes");
    assert_eq!(place.json(&["purge", "--key", "a", "--yes"])["erased"], 2);
    // A marker takes its place, which the target has to take.
    target.mended.store(true, Ordering::SeqCst);
    let discarded = place.json(&["dead-letters", "discard", "--key", "b", "--yes", "--reason", "a test"]);
    assert_eq!(discarded["discarded"], 1);
    place.wait_until(|status| status["routes"][0]["parked"] == 0);
    assert_eq!(relay.stop().code, 0);
}

/// An inbox in which customer 3's first order is a dead letter.
async fn consume(place: &Place) {
    let store = SqliteInbox::open(place.path("ledger.db"), InboxOptions::new("ledger")).unwrap();
    let layer = InboxLayer::of(store, InboxSettings::new(Mode::InOrder));
    let inbox = layer.layer(handler_fn(|_: &rusqlite::Transaction<'_>, event: &Event| {
        if event.key().is_some_and(|key| key.as_str() == "customer/3") {
            return Answer::GiveUp { reason: "customer 3 is not known".to_owned() };
        }
        Answer::Done
    }));
    let lines = place.read("ledger.jsonl");
    let events = lines.lines().map(|line| outbox::cloudevents::json::decode(line.as_bytes()).unwrap().into());
    inbox.apply(events.collect()).await.unwrap();
}

#[test]
fn a_consumers_inbox_is_looked_at_and_mended() {
    let place = Place::initialised();
    place.place_orders(30);
    place.publish_all();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(consume(&place));

    let status = place.json(&["inbox", "status", "--db", "ledger.db"]);
    assert_eq!((&status["counts"]["applied"], &status["dead"], &status["parked"]), (&27.into(), &1.into(), &2.into()));
    let text = place.run(&["inbox", "status", "--db", "ledger.db"]);
    assert!(text.out.contains("dead letters") && text.out.contains("27"), "{}", text.out);

    let list = place.json(&["inbox", "dead-letters", "list", "--db", "ledger.db"]);
    let letter = &list["dead_letters"][0];
    assert_eq!((&letter["key"], &letter["parked"]), (&"customer/3".into(), &2.into()));
    let id = letter["id"].to_string();
    let shown = place.run(&["inbox", "dead-letters", "show", &id, "--db", "ledger.db", "--payload"]);
    assert!(shown.out.contains("customer 3 is not known") && shown.out.contains("{\"number\":3}"), "{}", shown.out);
    assert_eq!(place.json(&["inbox", "dead-letters", "redrive", &id, "--db", "ledger.db"])["redriven"], 1);

    let rewind = ["inbox", "rewind", "--db", "ledger.db", "--producer", "/orders"];
    let mut one = rewind.to_vec();
    one.extend(["--key", "customer/1", "--to", "1.1.0"]);
    assert_eq!(place.json(&one)["mark"], "1.1.0");
    assert_eq!(place.run(&rewind).code, 2, "all of it needs --yes");
    let mut all = rewind.to_vec();
    all.push("--yes");
    assert!(place.json(&all)["forgotten"].as_u64().unwrap() >= 9);

    let skip = ["inbox", "skip", "--db", "ledger.db", "--producer", "/orders", "--key", "customer/1", "--to", "1.3.0"];
    let nothing = place.run(&skip[..skip.len() - 2]);
    assert_eq!(nothing.code, 3, "nothing is parked for that key: {}", nothing.err);
    assert_eq!(place.json(&skip)["mark"], "1.3.0");
    assert_eq!(place.run(&["inbox", "status", "--db", "nowhere.db"]).code, 3);
    assert_eq!(place.run(&["inbox", "status", "--db", "orders.db"]).code, 3, "a database without an inbox");
    assert_eq!(place.run(&["inbox", "status", "--db", "ledger.db", "--consumer", "nobody"]).code, 3);
}
