//! Registered routes.

use jiff::Timestamp;
use outbox::{BusinessStore, ErrorKind, Filter, RouteName, Source, Start, store::Registration};

use crate::fixture::{Fixture, entries, positions, read};

fn registration(name: &str, start: Start) -> Registration {
    Registration {
        route: RouteName::new(name).unwrap(),
        filter: Filter { types: vec!["order.*".to_owned()], ..Filter::default() },
        start,
        start_position: None,
        max_event_bytes: 1_000,
        gapless: true,
        registered: Timestamp::from_second(1_800_000_000).unwrap(),
    }
}

#[tokio::test]
async fn a_route_is_registered_once_and_its_start_stays() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 3);
    let first = store.register(registration("ledger", Start::Now)).await.unwrap();
    assert_eq!(first.start_position.as_deref(), Some("3"));
    fixture.write_many(1, 3);
    let changed = Registration {
        filter: Filter::default(),
        max_event_bytes: 500,
        gapless: false,
        ..registration("ledger", Start::Beginning)
    };
    let second = store.register(changed).await.unwrap();
    assert_eq!((second.start, second.start_position.as_deref()), (Start::Now, Some("3")));
    assert_eq!((second.filter.is_open(), second.max_event_bytes, second.gapless), (true, 500, false));
    let third = store.register(registration("ledger", Start::Now)).await.unwrap();
    assert!(!third.gapless, "a route that was not gapless once is not gapless for good");
    assert_eq!(store.routes().await.unwrap(), [third]);
}

#[tokio::test]
async fn registering_the_same_again_writes_nothing() {
    let (fixture, store) = Fixture::new_store();
    let first = store.register(registration("ledger", Start::Now)).await.unwrap();
    let version = |fixture: &Fixture| fixture.number("PRAGMA data_version");
    let before = version(&fixture);
    assert_eq!(store.register(registration("ledger", Start::Now)).await.unwrap(), first);
    assert_eq!(version(&fixture), before);
    store.register(Registration { max_event_bytes: 7, ..first }).await.unwrap();
    assert_ne!(version(&fixture), before);
}

#[tokio::test]
async fn a_route_that_starts_now_reads_what_is_committed_from_then_on() {
    let (fixture, store) = Fixture::new_store();
    let empty = store.register(registration("early", Start::Now)).await.unwrap();
    fixture.write_many(1, 3);
    let registered = store.register(registration("late", Start::Now)).await.unwrap();
    fixture.write("a");
    let start = store.start(&entries(), &registered).await.unwrap();
    assert_eq!(positions(&read(&store, start.as_str()).await.unwrap()), ["4"]);
    let start = store.start(&entries(), &empty).await.unwrap();
    assert_eq!(read(&store, start.as_str()).await.unwrap().records.len(), 4);
}

#[tokio::test]
async fn a_route_that_starts_at_a_time_reads_from_the_first_entry_recorded_then() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 100);
    // One entry a minute; a clock that was set back by ten minutes in the middle.
    fixture.sql("UPDATE outbox_entries SET recorded_at = 1700000000000 + id * 60000 - CASE WHEN id >= 50 THEN 600000 ELSE 0 END");
    let at = |minutes: i64, nanos: i32| Timestamp::new(1_700_000_000 + minutes * 60, nanos).unwrap();
    for (name, time, first) in [
        ("before-all", at(0, 0), Some("1")),
        ("exactly", at(20, 0), Some("20")),
        ("between", at(20, 1), Some("21")),
        ("before-the-jump", at(45, 0), Some("45")),
        ("after-the-jump", at(60, 0), Some("70")),
        ("behind-all", at(500, 0), None),
    ] {
        let registered = store.register(registration(name, Start::Time(time))).await.unwrap();
        let start = store.start(&entries(), &registered).await.unwrap();
        let page = read(&store, start.as_str()).await.unwrap();
        assert_eq!(positions(&page).first().map(String::as_str), first, "{name}");
    }
}

#[tokio::test]
async fn a_route_that_starts_at_a_time_to_come_starts_now() {
    let (fixture, store) = Fixture::new_store();
    fixture.write_many(1, 3);
    let registered = store.register(registration("ledger", Start::Time(Timestamp::MAX))).await.unwrap();
    assert_eq!(registered.start_position.as_deref(), Some("3"));
}

#[tokio::test]
async fn writers_are_held_to_what_every_route_takes() {
    let (fixture, store) = Fixture::new_store();
    let limit = |fixture: &Fixture| fixture.number("SELECT max_event_bytes FROM outbox_meta");
    let unlimited = limit(&fixture);
    store.register(registration("small", Start::Now)).await.unwrap();
    store.register(Registration { max_event_bytes: 5_000, ..registration("large", Start::Now) }).await.unwrap();
    assert_eq!(limit(&fixture), 1_000);
    store.retire_route(&RouteName::new("small").unwrap()).await.unwrap();
    assert_eq!(limit(&fixture), 5_000);
    store.retire_route(&RouteName::new("large").unwrap()).await.unwrap();
    assert_eq!(limit(&fixture), unlimited);
}

#[tokio::test]
async fn routes_are_renamed_and_retired_only_if_they_are_registered() {
    let (_fixture, store) = Fixture::new_store();
    let name = |name: &str| RouteName::new(name).unwrap();
    store.register(registration("ledger", Start::Now)).await.unwrap();
    store.register(registration("mail", Start::Now)).await.unwrap();
    let refused = |error: outbox::StoreError| assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    refused(store.rename_route(&name("ledger"), &name("mail")).await.unwrap_err());
    refused(store.rename_route(&name("nobody"), &name("new")).await.unwrap_err());
    refused(store.retire_route(&name("nobody")).await.unwrap_err());
    store.rename_route(&name("ledger"), &name("books")).await.unwrap();
    let names: Vec<_> = store.routes().await.unwrap().iter().map(|route| route.route.to_string()).collect();
    assert_eq!(names, ["books", "mail"]);
}

#[tokio::test]
async fn a_registration_that_somebody_damaged_is_an_error_that_names_the_column() {
    let (fixture, store) = Fixture::new_store();
    store.register(registration("ledger", Start::Now)).await.unwrap();
    fixture.sql("UPDATE outbox_routes SET filter = 'rubbish'");
    let error = store.routes().await.unwrap_err();
    assert!(error.to_string().contains("`filter`") && error.to_string().contains("`ledger`"), "{error}");
}
