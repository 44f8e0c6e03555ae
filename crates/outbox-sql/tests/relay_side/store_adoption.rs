//! Finding the last agreement, and raising the incarnation.

use outbox::{
    BusinessStore, CommitId, Position,
    store::{Agreement, Witness},
};
use outbox_sql::sqlite::SqliteStore;

use crate::fixture::{Fixture, events, read};

async fn witnesses(store: &SqliteStore, ids: &[u64]) -> Vec<Witness> {
    let page = read(store, "0").await.unwrap();
    let of = |id: &u64| page.records.iter().find(|record| record.position.as_str() == id.to_string()).unwrap();
    ids.iter().map(of).map(|record| Witness { position: record.position.clone(), commit: record.commit }).collect()
}

fn foreign(id: u64) -> Witness {
    Witness { position: Position::new(id.to_string()), commit: CommitId([9; 16]) }
}

#[tokio::test]
async fn a_store_with_the_latest_witness_agrees_and_so_does_one_without_witnesses() {
    let (fixture, store) = Fixture::new_store();
    assert_eq!(store.agreement(&[]).await.unwrap(), Agreement::Whole);
    fixture.write_many(1, 5);
    let witnesses = witnesses(&store, &[5, 3]).await;
    assert_eq!(store.agreement(&witnesses).await.unwrap(), Agreement::Whole);
}

#[tokio::test]
async fn the_last_agreement_lies_between_two_witnesses() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 10);
    let mut known = vec![foreign(20), foreign(8), foreign(6)];
    known.extend(witnesses(&store, &[4, 2]).await);
    let agreement = store.agreement(&known).await.unwrap();
    let position = |id: &str| Position::new(id);
    assert_eq!(agreement, Agreement::Lost { agreed: Some(position("4")), lost: position("6"), behind: 6 });
}

#[tokio::test]
async fn witnesses_of_a_slow_route_do_not_hide_the_loss_of_a_fast_one() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 10);
    let mut known = witnesses(&store, &[3]).await;
    known.push(foreign(12));
    let agreement = store.agreement(&known).await.unwrap();
    assert!(matches!(agreement, Agreement::Lost { agreed: Some(agreed), .. } if agreed.as_str() == "3"));
}

#[tokio::test]
async fn purged_witnesses_say_nothing() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 10);
    let mut known = witnesses(&store, &[2]).await;
    fixture.sql("DELETE FROM outbox_entries WHERE id < 5");
    assert_eq!(
        store.agreement(&[foreign(8), known.remove(0)]).await.unwrap(),
        Agreement::Lost { agreed: None, lost: Position::new("8"), behind: 6 }
    );
}

#[tokio::test]
async fn what_is_written_after_the_raise_is_of_the_new_incarnation() {
    let (fixture, store) = Fixture::new_store();
    fixture.write("a");
    assert_eq!(store.raise_incarnation(Some(&Position::new("1")), false).await.unwrap(), 2);
    assert_eq!(store.identity().await.unwrap().incarnation, 2);
    fixture.write("a");
    fixture.write("b");
    let placings: Vec<_> = events(&read(&store, "0").await.unwrap())
        .iter()
        .map(|event| format!("{} {}", event.id(), event.placing().unwrap().after))
        .collect();
    assert_eq!(placings, ["a@1.1.0 0.0.0", "a@2.2.0 1.1.0", "b@2.1.0 0.0.0"]);
}

#[tokio::test]
async fn restamping_moves_what_lies_behind_the_agreement_with_its_predecessors_and_heads() {
    let (fixture, store) = Fixture::new_store();
    for key in ["a", "b", "a", "a", "b"] {
        fixture.write(key);
    }
    store.raise_incarnation(Some(&Position::new("2")), true).await.unwrap();
    fixture.write("a");
    let placings: Vec<_> = events(&read(&store, "0").await.unwrap())
        .iter()
        .map(|event| format!("{} {}", event.id(), event.placing().unwrap().after))
        .collect();
    assert_eq!(
        placings,
        ["a@1.1.0 0.0.0", "b@1.1.0 0.0.0", "a@2.2.0 1.1.0", "a@2.3.0 2.2.0", "b@2.2.0 1.1.0", "a@2.4.0 2.3.0"]
    );
}
