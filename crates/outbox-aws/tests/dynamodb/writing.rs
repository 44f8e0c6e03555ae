//! The caller's own actions beside the events: one transaction, whose failures are told apart.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use jiff::Timestamp;
use outbox::{Clock as _, CommitId, Key, NewEvent, Place, WriteError, memory::ManualClock};
use outbox_aws::dynamodb::CommitError;

use crate::fixture::{Store, event};

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// Puts a cart on the condition that there is none yet.
pub(crate) fn create(store: &Store, id: &str) -> TransactWriteItem {
    let put = Put::builder().table_name(&store.carts).item("id", text(id)).item("state", text("open"));
    let put = put.condition_expression("attribute_not_exists(id)");
    let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    TransactWriteItem::builder().put(put.build().unwrap()).build()
}

/// Moves a cart whose last event was at `after` on to `next`.
fn advance(store: &Store, id: &str, after: Place, next: Place) -> TransactWriteItem {
    let update = Update::builder().table_name(&store.carts).key("id", text(id));
    let update = update.update_expression("SET #place = :next").expression_attribute_names("#place", "place");
    let update = update.expression_attribute_values(":next", text(&next.to_string()));
    let update = if after == Place::ORIGIN {
        update.condition_expression("attribute_not_exists(#place)")
    } else {
        let seen = text(&after.to_string());
        update.condition_expression("#place = :seen").expression_attribute_values(":seen", seen)
    };
    TransactWriteItem::builder().update(update.build().unwrap()).build()
}

async fn count(store: &Store) -> usize {
    store.source().all().await.iter().map(|record| record.events().len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn item_and_event_commit_together() {
    let store = Store::new().await;
    let mut transaction = store.writer().transaction();
    transaction.action(create(&store, "1"));
    transaction.write([event("cart/1")]);
    let receipts = transaction.commit().await.unwrap();
    assert_eq!(receipts[0].first, Some(Place::new(1, 1, 0)));
    assert!(store.cart("1").await.is_some());
    assert_eq!(count(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_the_callers_that_fails_is_named_and_nothing_is_written() {
    let store = Store::new().await;
    let writer = store.writer();
    for round in 0..2 {
        let mut transaction = writer.transaction();
        transaction.action(create(&store, if round == 0 { "1" } else { "2" }));
        let second = transaction.action(create(&store, if round == 0 { "x" } else { "1" }));
        transaction.write([event("cart/1")]);
        match (round, transaction.commit().await) {
            (0, committed) => drop(committed.unwrap()),
            (_, Err(CommitError::Condition { action, item })) => {
                assert_eq!(action, second);
                assert_eq!(item.unwrap()["state"], text("open"), "as it asked for");
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    assert!(store.cart("2").await.is_none());
    assert_eq!(count(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writer_that_was_first_is_a_conflict_only_where_a_version_is_expected() {
    let store = Store::new().await;
    let (one, other) = (store.writer(), store.writer());
    let mut expecting = one.transaction();
    expecting.expecting(key("cart/1"), 0).write([event("cart/1")]);
    let mut any = one.transaction();
    any.write([event("cart/1")]);
    let (expecting, any) = (expecting.prepare().await.unwrap(), any.prepare().await.unwrap());
    let mut first = other.transaction();
    first.write([event("cart/1"), event("cart/1")]);
    first.commit().await.unwrap();
    match expecting.commit().await {
        Err(CommitError::Write(WriteError::Conflict { key: of, expected: 0, actual: 1 })) => {
            assert_eq!(of, key("cart/1"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(any.receipts()[0].first, Some(Place::new(1, 1, 0)), "(it was prepared before)");
    let committed = any.commit().await.unwrap();
    assert_eq!(committed[0].first, Some(Place::new(1, 2, 0)), "it is numbered anew");
    let after: Vec<_> =
        store.source().all().await.iter().map(|record| record.events()[0].placing().unwrap().after).collect();
    assert_eq!(after, [Place::ORIGIN, Place::new(1, 1, 1)], "and names its new predecessor");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expected_version_of_a_key_without_events_is_held_to() {
    let store = Store::new().await;
    let writer = store.writer();
    let mut first = writer.transaction();
    first.write([event("guard")]);
    first.commit().await.unwrap();
    for (sequence, taken) in [(0, false), (1, true)] {
        let mut transaction = store.writer().transaction();
        transaction.expecting(key("guard"), sequence).write([event("cart/1")]);
        assert_eq!(transaction.commit().await.is_ok(), taken, "{sequence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_aggregate_is_the_head_and_no_other_is_kept() {
    let store = Store::new().await;
    let writer = store.writer();
    let mut after = Place::ORIGIN;
    for events in [2_u32, 1, 3] {
        let next = writer.place_behind(after, events).await.unwrap();
        let mut transaction = writer.transaction();
        let action = transaction.action(advance(&store, "1", after, next));
        transaction.head_at(key("cart/1"), action, after).write((0..events).map(|_| event("cart/1")));
        let receipts = transaction.commit().await.unwrap();
        assert_eq!(receipts[0].first, Some(Place::new(1, after.sequence + 1, 0)));
        after = next;
    }
    let heads = store.client.scan().table_name(store.tables.heads()).send().await.unwrap();
    assert_eq!(heads.count, 1, "only the store's identity");
    let placings: Vec<_> =
        store.source().all().await.iter().map(|record| *record.events()[0].placing().unwrap()).collect();
    assert_eq!(
        placings.iter().map(|placing| placing.after).collect::<Vec<_>>(),
        [Place::ORIGIN, Place::new(1, 1, 1), Place::new(1, 2, 0)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_for_the_callers_aggregate_is_a_conflict_of_its_key() {
    let store = Store::new().await;
    let writer = store.writer();
    let next = writer.place_behind(Place::ORIGIN, 1).await.unwrap();
    for round in 0..2 {
        let mut transaction = writer.transaction();
        let action = transaction.action(advance(&store, "1", Place::ORIGIN, next));
        transaction.head_at(key("cart/1"), action, Place::ORIGIN).write([event("cart/1")]);
        match (round, transaction.commit().await) {
            (0, committed) => drop(committed.unwrap()),
            (_, Err(CommitError::Write(WriteError::Conflict { expected: 0, actual: 1, .. }))) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!(count(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_updates_of_one_aggregate_lose_none() {
    let store = Store::new().await;
    let store = std::sync::Arc::new(store);
    let racers = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let writer = store.writer();
            let mut done = 0;
            while done < 5 {
                let cart = store.cart("1").await;
                let place = cart
                    .as_ref()
                    .and_then(|cart| cart.get("place"))
                    .map(|place| place.as_s().unwrap().parse().unwrap());
                let after = place.unwrap_or(Place::ORIGIN);
                let next = writer.place_behind(after, 1).await.unwrap();
                let mut transaction = writer.transaction();
                let action = transaction.action(advance(&store, "1", after, next));
                transaction.head_at(key("cart/1"), action, after).write([event("cart/1")]);
                match transaction.commit().await {
                    Ok(_) => done += 1,
                    Err(CommitError::Write(WriteError::Conflict { .. })) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
    let sequences: Vec<_> =
        store.source().all().await.iter().map(|record| record.events()[0].placing().unwrap().place.sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_commit_of_another_process_is_recognised() {
    let store = Store::new().await;
    let commit = CommitId([9; 16]);
    let mut receipts = Vec::new();
    // A writer of its own each time: nothing but the entry remembers the first one.
    for _ in 0..3 {
        let mut transaction = store.writer().transaction();
        transaction.commit_id(commit).expecting(key("cart/1"), 0).action(create(&store, "1"));
        transaction.write([event("cart/1")]);
        receipts.push(transaction.commit().await.unwrap());
    }
    assert!(receipts.windows(2).all(|pair| pair[0] == pair[1]), "{receipts:?}");
    assert_eq!(count(&store).await, 1);
    let mut another = store.writer().transaction();
    another.commit_id(CommitId([8; 16])).expecting(key("cart/1"), 0).write([event("cart/1")]);
    assert!(matches!(another.commit().await, Err(CommitError::Write(WriteError::Conflict { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_checked_before_anything_is_sent() {
    let store = Store::new().await;
    let writer = store.writer();
    let sized = |key: &str, size: usize| {
        NewEvent::builder("t").key(key).bytes("application/octet-stream", vec![0xff; size]).build().unwrap()
    };
    let mut large = writer.transaction();
    large.write([sized("cart/1", 300_000), sized("cart/1", 120_000)]);
    let error = large.commit().await.unwrap_err().to_string();
    assert!(error.starts_with("the entry of `cart/1` has 420") && error.contains("write a reference"), "{error}");
    let mut many = writer.transaction();
    many.write((0..51).map(|number| event(&format!("cart/{number}"))));
    let error = many.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::TooManyActions { actions: 102, own: 102 }), "{error}");
    let mut heavy = writer.transaction();
    heavy.write((0..12).map(|number| sized(&format!("cart/{number}"), 390_000)));
    assert!(matches!(heavy.commit().await, Err(CommitError::TooLargeTogether { .. })));
    let mut twice = writer.transaction();
    twice.action(create(&store, "1"));
    let check = ConditionCheck::builder()
        .table_name(&store.carts)
        .key("id", text("1"))
        .condition_expression("attribute_exists(id)");
    twice.action(TransactWriteItem::builder().condition_check(check.build().unwrap()).build());
    twice.write([event("cart/1")]);
    let error = twice.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::TwoActionsOnOneItem { first: 0, second: 1, .. }), "{error}");
    assert_eq!(count(&store).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_the_routes_take_is_refused() {
    let store = Store::new().await;
    let update = store.client.update_item().table_name(store.tables.heads()).key("id", text("store"));
    let update = update.update_expression("SET max_event_bytes = :limit");
    let limit = AttributeValue::N("100".to_owned());
    update.expression_attribute_values(":limit", limit).send().await.unwrap();
    let mut transaction = store.writer().transaction();
    let large = NewEvent::builder("t").key("cart/1").bytes("text/plain", "x".repeat(101)).build().unwrap();
    transaction.write([event("cart/1"), large]);
    match transaction.commit().await {
        Err(CommitError::Write(WriteError::TooLarge { index: 1, limit: 100, .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_stands_before_its_head_is_said() {
    let store = Store::new().await;
    let mut first = store.writer().transaction();
    first.write([event("cart/1")]);
    first.commit().await.unwrap();
    let removed = store.client.delete_item().table_name(store.tables.heads()).key("id", text("k:cart/1"));
    removed.send().await.unwrap();
    let mut second = store.writer().transaction();
    second.write([event("cart/1")]);
    let error = second.commit().await.unwrap_err().to_string();
    assert!(error.contains("has an entry 1 already") && error.contains("set the head"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_at_an_action_that_is_not_there_is_refused() {
    let store = Store::new().await;
    let mut transaction = store.writer().transaction();
    transaction.head_at(key("cart/1"), 3, Place::ORIGIN).write([event("cart/1")]);
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::NoSuchAction { action: 3, actions: 0, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patience_longer_than_a_recovery_looks_back_is_refused() {
    let store = Store::new().await;
    for (minutes, taken) in [(30, true), (31, false)] {
        let mut transaction = store.writer().patience(Duration::from_mins(minutes)).transaction();
        transaction.write([event("cart/1")]);
        let error = transaction.commit().await.err().map(|error| error.to_string());
        assert_eq!(error.is_none(), taken, "{error:?}");
        assert!(error.is_none_or(|error| error.contains("`patience`")));
    }
    assert_eq!(count(&store).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_prepared_long_ago_is_recorded_when_it_is_sent() {
    let (store, clock) = (Store::new().await, Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
    let mut transaction = store.writer().clock(clock.clone()).transaction();
    transaction.write([event("cart/1")]);
    let prepared = transaction.prepare().await.unwrap();
    clock.advance(Duration::from_hours(2));
    prepared.commit().await.unwrap();
    assert_eq!(store.source().all().await[0].recorded, clock.wall());
}

/// What is in the table is what the layout's page says, attribute by attribute.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_stored_as_documented() {
    let store = Store::new().await;
    let mut transaction = store.writer().transaction();
    transaction.write([event("cart/1"), event("cart/1")]);
    transaction.commit().await.unwrap();
    let scanned = store.client.scan().table_name(store.tables.entries()).send().await.unwrap();
    let item: &HashMap<_, _> = &scanned.items()[0];
    let mut names: Vec<_> = item.keys().map(String::as_str).collect();
    names.sort_unstable();
    let documented =
        ["after", "commit_id", "count", "events", "expires_at", "incarnation", "key", "recorded_at", "sequence"];
    assert_eq!(names, documented);
    let number = |name: &str| item[name].as_n().unwrap().parse::<i64>().unwrap();
    assert_eq!((number("sequence"), number("count"), number("incarnation")), (1, 2, 1));
    assert_eq!(number("expires_at"), number("recorded_at") / 1000 + 30 * 24 * 3600, "expiry is in seconds");
}
