//! The business store, where it is DynamoDB's own: what expires, what is looked at and told by `check`.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use outbox::{
    BusinessStore, Clock as _, CommitId, ErrorKind, Key, Place, Position, RouteName, Start, System,
    filter::Filter,
    memory::ManualClock,
    store::{Agreement, Claim, Registration, Retention, Witness},
};
use outbox_aws::dynamodb::{DynamoStore, StoreOptions, Tables};

use crate::{
    fixture::{Store, event, unused_prefix},
    proxy::{Fault, Proxy},
    server,
};

async fn opened(store: &Store) -> DynamoStore {
    DynamoStore::open(&store.client, &store.tables, StoreOptions::default()).await.unwrap()
}

/// Opened through `proxy`.
async fn opened_behind(store: &Store, proxy: &Proxy) -> DynamoStore {
    let client = server::client_at(Some(proxy.url())).await;
    DynamoStore::open(&client, &store.tables, StoreOptions::default()).await.unwrap()
}

async fn proxy() -> Proxy {
    Proxy::before(server::emulator().unwrap()).await
}

/// Writes an entry of cart 1 and gives the witness of having read it.
async fn written_and_read(store: &Store) -> Witness {
    let mut transaction = store.writer().transaction();
    transaction.write([event("cart/1")]);
    transaction.commit().await.unwrap();
    let record = store.source().all().await.last().unwrap().clone();
    Witness { position: record.position.clone(), commit: record.commit }
}

async fn delete_all_entries(store: &Store) {
    for record in store.source().all().await {
        let sequence = record.events()[0].placing().unwrap().place.sequence;
        let delete = store.client.delete_item().table_name(store.tables.entries());
        let delete = delete.key("key", aws_sdk_dynamodb::types::AttributeValue::S("cart/1".to_owned()));
        let delete = delete.key("sequence", aws_sdk_dynamodb::types::AttributeValue::N(sequence.to_string()));
        delete.send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_expired_says_nothing_of_the_history() {
    let store = Store::new().await;
    let witness = written_and_read(&store).await;
    delete_all_entries(&store).await;
    let month_later = System.wall() + SignedDuration::from_hours(30 * 24);
    let clock = Arc::new(ManualClock::new(month_later));
    let options = StoreOptions { clock, ..StoreOptions::default() };
    let later = DynamoStore::open(&store.client, &store.tables, options).await.unwrap();
    assert_eq!(later.agreement(&[witness]).await.unwrap(), Agreement::Whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_gone_before_its_time_was_lost() {
    let store = Store::new().await;
    let witness = written_and_read(&store).await;
    delete_all_entries(&store).await;
    let agreement = opened(&store).await.agreement(std::slice::from_ref(&witness)).await.unwrap();
    assert_eq!(agreement, Agreement::Lost { agreed: None, lost: witness.position, behind: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn more_witnesses_than_one_call_looks_for_are_all_looked_for() {
    let store = Store::new().await;
    let mut witnesses = Vec::new();
    for _ in 0..105 {
        witnesses.push(written_and_read(&store).await);
    }
    witnesses.reverse();
    let opened = opened(&store).await;
    assert_eq!(opened.agreement(&witnesses).await.unwrap(), Agreement::Whole);
    witnesses[104].commit = CommitId([7; 16]);
    let lost = witnesses[104].position.clone();
    let agreement = opened.agreement(&witnesses).await.unwrap();
    assert_eq!(agreement, Agreement::Lost { agreed: None, lost, behind: 105 });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_purged_for_entries_expire_by_themselves() {
    let store = Store::new().await;
    let witness = written_and_read(&store).await;
    let opened = opened(&store).await;
    let purged = opened.purge(&witness.position, Retention::Newest(0)).await.unwrap();
    assert_eq!((purged.entries, purged.more), (0, false));
    assert_eq!(store.source().all().await.len(), 1);
    assert_eq!(opened.expires_after(), Some(Duration::from_hours(30 * 24)));
}

fn claim(nonce: &str) -> Claim {
    Claim { bookkeeping: "books".to_owned(), epoch: 1, nonce: nonce.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_is_made_once() {
    let Some(_) = server::emulator() else { return };
    let (store, proxy) = (Store::new().await, proxy().await);
    let opened = opened_behind(&store, &proxy).await;
    proxy.script("UpdateItem", [Fault::LoseAnswer]);
    assert!(opened.claim(&claim("x"), None).await.unwrap());
    assert_eq!(proxy.calls("UpdateItem").len(), 2);
    assert!(!opened.claim(&claim("y"), None).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_were_made_anew_are_another_store() {
    let store = Store::new().await;
    let opened = opened(&store).await;
    assert!(opened.claim(&claim("x"), None).await.unwrap());
    let other = aws_sdk_dynamodb::types::AttributeValue::S("another".to_owned());
    let update = store.client.update_item().table_name(store.tables.heads());
    let update = update.key("id", aws_sdk_dynamodb::types::AttributeValue::S("store".to_owned()));
    let update = update.update_expression("SET store_id = :id").expression_attribute_values(":id", other);
    update.send().await.unwrap();
    for error in [
        opened.check_claim().await.unwrap_err(),
        opened.claim(&claim("y"), Some(&claim("x"))).await.unwrap_err(),
        opened.register(registration("a")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::HistoryChanged);
        assert!(error.to_string().contains("outbox adopt"), "{error}");
    }
}

fn registration(name: &str) -> Registration {
    Registration {
        route: RouteName::stored(name),
        filter: Filter::default(),
        start: Start::Beginning,
        start_position: None,
        max_event_bytes: 1_000,
        gapless: true,
        registered: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_whose_answer_is_lost_is_made_once() {
    let Some(_) = server::emulator() else { return };
    let (store, proxy) = (Store::new().await, proxy().await);
    let opened = opened_behind(&store, &proxy).await;
    proxy.script("TransactWriteItems", [Fault::LoseAnswer, Fault::error("ThrottlingException")]);
    assert_eq!(opened.register(registration("a")).await.unwrap(), registration("a"));
    let calls = proxy.calls("TransactWriteItems");
    let tokens: std::collections::HashSet<_> =
        calls.iter().map(|call| call.body["ClientRequestToken"].to_string()).collect();
    assert_eq!((calls.len(), tokens.len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_head_is_the_services_own_is_not_moved() {
    let store = Store::new().await;
    let witness = written_and_read(&store).await;
    let mut transaction = store.writer().transaction();
    let (key, after) = (outbox::Key::new("cart/9").unwrap(), outbox::Place::ORIGIN);
    let put = aws_sdk_dynamodb::types::Put::builder()
        .table_name(&store.carts)
        .item("id", aws_sdk_dynamodb::types::AttributeValue::S("9".to_owned()));
    let put = put.condition_expression("attribute_not_exists(id)").build().unwrap();
    let action = transaction.action(aws_sdk_dynamodb::types::TransactWriteItem::builder().put(put).build());
    transaction.head_at(key, action, after).write([event("cart/9")]);
    transaction.commit().await.unwrap();
    let opened = opened(&store).await;
    let error = opened.raise_incarnation(Some(&witness.position), true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`cart/9`"), "{error}");
    assert_eq!(opened.identity().await.unwrap().incarnation, 1, "nothing was raised");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_behind_an_entry_that_is_not_there_is_refused() {
    let store = Store::new().await;
    let nowhere = Position::new("7/99999999999/cart/1@1");
    let error = opened(&store).await.raise_incarnation(Some(&nowhere), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_store_is_said_with_the_remedy() {
    let client = server::client().await;
    let tables = Tables::with_prefix(&unused_prefix());
    let Err(error) = DynamoStore::open(&client, &tables, StoreOptions::default()).await else { panic!("opened") };
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("outbox init"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_nothing_wrong_and_writes_nothing() {
    let Some(_) = server::emulator() else { return };
    let (store, proxy) = (Store::new().await, proxy().await);
    let opened = opened_behind(&store, &proxy).await;
    let before = opened.identity().await.unwrap();
    opened.check().await.unwrap();
    assert_eq!(opened.identity().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_right_is_named_by_its_action() {
    let Some(_) = server::emulator() else { return };
    let (store, proxy) = (Store::new().await, proxy().await);
    let opened = opened_behind(&store, &proxy).await;
    for action in ["Scan", "Query", "BatchGetItem", "UpdateItem"] {
        proxy.script(action, [Fault::error("AccessDeniedException")]);
        let error = opened.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotPermitted, "{action}");
        let told = error.to_string();
        assert!(told.contains(&format!("dynamodb:{action} ")) && told.contains("outbox iam"), "{told}");
    }
}

/// It remembers the store's identity and the key's head from before.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_looked_before_an_adoption_writes_of_the_new_incarnation() {
    let store = Store::new().await;
    let writer = store.writer();
    let write = async |expected| {
        let mut transaction = writer.transaction();
        transaction.expecting(Key::new("cart/1").unwrap(), expected).write([event("cart/1")]);
        transaction.commit().await.unwrap()[0].first.unwrap()
    };
    assert_eq!(write(0).await, Place::new(1, 1, 0));
    assert_eq!(opened(&store).await.raise_incarnation(None, true).await.unwrap(), 2);
    assert_eq!(write(1).await, Place::new(2, 2, 0));
    assert_eq!(store.source().all().await.len(), 2, "both can be read");
}
