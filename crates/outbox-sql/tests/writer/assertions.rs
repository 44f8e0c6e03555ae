//! What the assertion for users' tests says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use outbox::NewEvent;
use outbox_sql::sqlite::{
    assertion::{Since, assert_written},
    write,
};

use crate::fixture::{Fixture, event, keyless};

fn numbered(key: &str, number: u32) -> NewEvent {
    NewEvent::builder(format!("t{number}")).key(key).json(&number).build().unwrap()
}

/// The message with which the assertion fails for what was `written`.
fn failure(written: &[NewEvent], expected: &[NewEvent]) -> String {
    let mut fixture = Fixture::new();
    let since = Since::now(&fixture.connection).unwrap();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, written.to_vec()).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| assert_written(&transaction, since, expected))).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn it_passes_before_and_after_the_commit_and_sees_only_what_came_since() {
    let mut fixture = Fixture::new();
    fixture.sql("INSERT INTO outbox (key, type) VALUES ('a', 'before')");
    let since = Since::now(&fixture.connection).unwrap();
    assert_written(&fixture.connection, since, &[]);
    let written = [numbered("b", 1), keyless(), numbered("a", 2), numbered("b", 3)];
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, written.clone()).unwrap();
    assert_written(&transaction, since, &written);
    transaction.commit().unwrap();
    assert_written(&fixture.connection, since, &written);
}

#[test]
fn keys_and_events_without_a_key_have_no_order_among_each_other() {
    let mut fixture = Fixture::new();
    let since = Since::now(&fixture.connection).unwrap();
    let transaction = fixture.connection.transaction().unwrap();
    let other = NewEvent::builder("other").build().unwrap();
    write(&transaction, [keyless(), other.clone(), event("b"), event("a")]).unwrap();
    assert_written(&transaction, since, &[event("a"), other, event("b"), keyless()]);
}

#[test]
fn json_is_compared_by_its_value() {
    let mut fixture = Fixture::new();
    let since = Since::now(&fixture.connection).unwrap();
    let json = |text: &'static str| NewEvent::builder("t").key("k").bytes("application/json", text).build().unwrap();
    let transaction = fixture.connection.transaction().unwrap();
    write(&transaction, [json(r#"{"a":1,"b":[]}"#)]).unwrap();
    assert_written(&transaction, since, &[json(r#"{ "b": [], "a": 1 }"#)]);
}

#[test]
fn a_missing_event_is_shown_in_its_place_and_the_others_as_equal() {
    let message =
        failure(&[numbered("a", 1), numbered("a", 3)], &[numbered("a", 1), numbered("a", 2), numbered("a", 3)]);
    let lines: Vec<_> = message.lines().skip(1).collect();
    assert_eq!(lines, ["key `a`:", "    t1 1", "  - t2 2", "    t3 3"]);
}

#[test]
fn an_unexpected_event_is_shown_with_its_payload_and_id() {
    let message = failure(&[numbered("a", 1), numbered("b", 2)], &[numbered("a", 1)]);
    assert!(message.contains("key `b`:\n  + t2 2 id=b@1.1.0"), "{message}");
    assert!(!message.contains("key `a`"), "{message}");
}

#[test]
fn another_payload_attribute_or_order_is_a_difference() {
    let tenant = |tenant: &str| NewEvent::builder("t").key("k").extension("tenant", tenant).build().unwrap();
    assert!(failure(&[tenant("a")], &[tenant("b")]).contains("- t (no payload) tenant=b"));
    assert!(failure(&[numbered("a", 1), numbered("a", 2)], &[numbered("a", 2), numbered("a", 1)]).contains('-'));
    let id = |id: &str| NewEvent::builder("t").key("k").id(id).build().unwrap();
    assert!(failure(&[id("a")], &[id("b")]).contains("id=b"));
    assert!(failure(&[], &[event("a")]).contains("- order.placed {\"units\":3}"));
    assert!(failure(&[keyless(), keyless()], &[keyless()]).contains("without a key:"));
}

#[test]
fn a_row_that_is_no_entry_is_a_difference() {
    let fixture = Fixture::new();
    let since = Since::now(&fixture.connection).unwrap();
    fixture.sql("INSERT INTO outbox_entries (key, type) VALUES ('a', 't')");
    let panic = catch_unwind(AssertUnwindSafe(|| assert_written(&fixture.connection, since, &[]))).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("row 1 of outbox_entries"));
}
