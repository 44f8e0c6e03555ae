//! Leaves are made ahead of need, and emptied behind everybody.

use std::time::Duration;

use outbox::{
    BusinessStore, Source,
    store::{Claim, Retention},
};

use outbox_sql::postgres::{InitOptions, init};

use crate::{fixture::Service, reader::Reader};

async fn leaves(service: &Service) -> i64 {
    let client = service.session().await;
    client.query_one("SELECT count(*) FROM outbox.leaves WHERE emptied_at IS NULL", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn who_has_the_claim_makes_the_next_leaf_ahead_of_need() {
    let service = Service::new().await;
    // As if nearly all ids of the first leaf had been drawn.
    service.session().await.batch_execute("SELECT setval('outbox.entry_ids', 99990)").await.unwrap();
    assert_eq!(leaves(&service).await, 1);
    until_a_leaf_is_made(&service).await;
}

/// Has a relay claim the database.
async fn until_a_leaf_is_made(service: &Service) {
    let store = service.store().await;
    let before = leaves(service).await;
    let claim = Claim { bookkeeping: "books".to_owned(), epoch: 1, nonce: "n".to_owned() };
    assert!(store.claim(&claim, None).await.unwrap());
    let made = async {
        while leaves(service).await <= before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), made).await.expect("a leaf is made");
}

#[tokio::test]
async fn leaves_are_seen_to_and_history_goes_on_whatever_the_database_takes_for_the_usual_isolation() {
    let service = Service::of_small_leaves().await;
    let client = service.session().await;
    let name = service.database.url().rsplit_once('/').unwrap().1;
    for level in ["repeatable read", "serializable"] {
        client
            .batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_isolation TO '{level}'"))
            .await
            .unwrap();
        client.batch_execute("SELECT outbox.write('a', 't'); SELECT outbox.write('a', 't')").await.unwrap();
        let mut reader = Reader::new(service.store().await).await;
        reader.read_all().await;
        let purged = reader.store.purge(&reader.position, Retention::Newest(0)).await.unwrap();
        assert_eq!(purged.entries, 1, "{level}");
        reader.store.raise_incarnation(None, false).await.unwrap();
        init(&mut service.session().await, &InitOptions::new("/orders")).await.unwrap();
    }
    // As if nearly all ids of the last leaf had been drawn.
    client.batch_execute("SELECT setval('outbox.entry_ids', 99990)").await.unwrap();
    until_a_leaf_is_made(&service).await;
}

#[tokio::test]
async fn a_leaf_that_a_writer_has_open_is_passed_over_and_nobody_waits_long() {
    let service = Service::of_small_leaves().await;
    let (open, other) = (service.session().await, service.session().await);
    other.batch_execute("SELECT outbox.write('a', 't'); SELECT outbox.write('a', 't')").await.unwrap();
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    other.batch_execute("SELECT outbox.write('a', 't'); SELECT outbox.write('a', 't')").await.unwrap();
    let mut reader = Reader::new(service.store().await).await;
    reader.read_all().await;
    let mut removed = 0;
    for _ in 0..8 {
        let both = async {
            tokio::join!(
                reader.store.purge(&reader.position, Retention::Newest(0)),
                other.batch_execute("SELECT outbox.write('b', 't')")
            )
        };
        let both = tokio::time::timeout(Duration::from_secs(60), both).await;
        let (purged, written) = both.expect("neither waits for the transaction that is open");
        written.unwrap();
        removed += purged.unwrap().entries;
    }
    assert_eq!(removed, 3, "all but the last that was read");
    open.batch_execute("COMMIT").await.unwrap();
    reader.read_all().await;
    reader.assert_exact();
    assert_eq!(reader.records.len(), 4 + 8 + 1, "the late one was not removed");
}

#[tokio::test]
async fn what_one_route_has_not_read_is_kept_though_another_is_further() {
    let service = Service::of_small_leaves().await;
    let (open, other) = (service.session().await, service.session().await);
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    other.batch_execute("SELECT outbox.write('a', 't'); SELECT outbox.write('a', 't')").await.unwrap();
    // One has read what it could see; the other has begun after the late one had committed, and is in the middle.
    let mut one = Reader::new(service.store().await).await;
    one.read_all().await;
    open.batch_execute("COMMIT").await.unwrap();
    let mut other_route = Reader::new(service.store().await).await;
    other_route.read(outbox::source::Limit { events: 2, bytes: 1 << 20 }).await.unwrap();
    let passed = one.store.passed_by_both(&one.position, &other_route.position);
    while one.store.purge(&passed, Retention::Newest(0)).await.unwrap().more {}
    one.read_all().await;
    other_route.read_all().await;
    for reader in [&one, &other_route] {
        let mut came = reader.came();
        came.sort();
        assert_eq!(came, ["a@1.1.0", "a@1.2.0", "late@1.1.0"]);
    }
}
