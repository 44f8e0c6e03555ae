//! A connection that breaks around the COMMIT, with the answer still to come.

use crate::{
    cutter::{Cut, Cutter},
    fixture::Service,
    language::Language,
};

const COMMIT: &str = "00112233-4455-6677-8899-aabbccddeeff";
const OTHER: &str = "ffeeddcc-bbaa-9988-7766-554433221100";

/// The ids of the orders that exist, and of the events.
async fn orders_and_events(service: &Service) -> (Vec<String>, Vec<String>) {
    let ids = service.events().await.iter().map(|event| event.id().to_owned()).collect();
    (service.rows("SELECT id FROM orders").await, ids)
}

async fn places_once(language: Language, cut: Cut) {
    let service = Service::new().await;
    let cutter = Cutter::start(&service.address(), cut).await;
    let url = service.url_by_way_of(&cutter.address());
    let told = language.run(&url, &["once", "o-1", "0", COMMIT]).await;
    assert!(cutter.has_cut(), "{language:?} {cut:?}");
    assert_eq!(told, "placed", "{language:?} {cut:?}");
    let expected = (vec![r#"{"id":"o-1"}"#.to_owned()], vec!["customer/42@1.1.0".to_owned()]);
    assert_eq!(orders_and_events(&service).await, expected, "{language:?} {cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_commit_answer_was_lost_is_not_placed_twice() {
    for language in Language::ALL {
        places_once(language, Cut::Behind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_commit_never_arrived_is_placed_by_the_next_attempt() {
    for language in Language::ALL {
        places_once(language, Cut::Before).await;
    }
}

#[tokio::test]
async fn a_repetition_is_told_from_somebody_elses_commit() {
    for language in Language::ALL {
        let service = Service::new().await;
        let place = async |order, seen, commit| language.run(&service.url(), &["once", order, seen, commit]).await;
        assert_eq!(place("o-1", "0", COMMIT).await, "placed");
        assert_eq!(place("o-2", "1", OTHER).await, "placed");
        assert_eq!(place("o-1", "0", COMMIT).await, "placed", "it was before");
        assert_eq!(place("o-3", "1", COMMIT).await, "conflict");
        let (orders, events) = orders_and_events(&service).await;
        assert_eq!((orders.len(), events.len()), (2, 2), "{language:?}");
    }
}

#[tokio::test]
async fn a_repetition_that_comes_behind_the_retention_is_not_taken_for_a_conflict() {
    for language in Language::ALL {
        let service = Service::new().await;
        let place = async || language.run(&service.url(), &["once", "o-1", "0", COMMIT]).await;
        assert_eq!(place().await, "placed");
        service.session().await.batch_execute("DELETE FROM outbox.entries").await.unwrap();
        assert_eq!(place().await, "unknown", "{language:?}");
    }
}
