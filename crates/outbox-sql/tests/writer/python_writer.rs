//! A service in another language: Python's standard library writes, Rust reads.

use std::{path::Path, process::Command};

use outbox::{Event, NewEvent, Place};
use outbox_sql::sqlite::{
    assertion::{Since, assert_written},
    settle, statement,
};

use crate::fixture::{Fixture, event};

fn python_writes(database: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/write.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(database)
        .output()
        .expect("python3 is needed for this test: install it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_python_writes_is_read_as_events() {
    let fixture = Fixture::new();
    let since = Since::now(&fixture.connection).unwrap();
    python_writes(&fixture.path());
    let new = |kind: &str| NewEvent::builder(kind).key("customer/42");
    let json = serde_json::json!({ "id": "o-1", "customer": "42", "units": 3 });
    let expected = [
        new("order.placed").json(&json),
        new("order.cancelled").json(&serde_json::json!({ "order": "o-1" })).subject("o-1").correlation_id("request-7"),
        new("payment.refunded").json(&serde_json::json!({ "order": "o-1" })).extension("tenant", "north"),
        new("label.voided").bytes("image/png", vec![0x89, b'P', b'N', b'G']),
        new("scan.stored").bytes("image/png", vec![0x89, b'P', b'N', b'G', 0, 0xff]),
        new("account.closed"),
        NewEvent::builder("lost.answer").key("customer/7"),
    ];
    let expected = expected.map(|builder| builder.build().unwrap());
    assert_written(&fixture.connection, since, &expected);
    let events: Vec<Event> = since.events(&fixture.connection).unwrap().into_iter().map(Result::unwrap).collect();
    let places: Vec<_> = events.iter().map(|event| event.placing().unwrap().place).collect();
    let customer = [(1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (4, 0)].map(|(entry, index)| Place::new(1, entry, index));
    assert_eq!(places[..6], customer);
    assert!(events.iter().all(|event| event.source() == "/orders"));
}

#[test]
fn python_and_rust_write_to_one_key_in_turn() {
    let mut fixture = Fixture::new();
    python_writes(&fixture.path());
    let transaction = fixture.connection.transaction().unwrap();
    let receipts = outbox_sql::sqlite::write(&transaction, [event("customer/42")]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(receipts[0].first, Some(Place::new(1, 5, 0)));
    assert_eq!(settle(&fixture.connection, &receipts[0]).unwrap(), outbox::writer::Settled::Committed);
}

#[test]
fn the_documentation_shows_what_is_tested() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (page, script) = (read("../../docs/table-layout.md"), read("tests/python/write.py"));
    let blocks: Vec<_> = page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for block in blocks {
        assert!(script.contains(block.trim_end()), "not in write.py:\n{block}");
    }
    let receipt = outbox::Receipt {
        key: Some(outbox::Key::new("a").unwrap()),
        commit: outbox::CommitId([0; 16]),
        first: Some(Place::new(1, 1, 0)),
        count: 1,
    };
    assert!(script.contains(statement::settle(&receipt).sql));
}
