//! Registered routes, and what they have the writer refuse.

use super::{events_of, kind_of};
use crate::{
    error::ErrorKind,
    event::NewEvent,
    filter::Filter,
    route::Start,
    store::Registration,
    testing::{
        Opened, StoreUnderTest, Write,
        conformance::{
            CUTS, RACES, cut, in_time,
            writer::{commit, write},
        },
        sample::{new_event, registration, route},
    },
    writer::WriteError,
};

/// Runs every check of this room.
pub async fn all<S: StoreUnderTest + 'static>(fresh: &impl AsyncFn() -> S) {
    checks! {
        "`BusinessStore::register` registers a route, or takes over its filter, size and `gapless` (never from false to true) and leaves its start." => {
            a_registration_is_kept(&fresh().await);
            registering_again_changes_only_what_it_may(&fresh().await);
            gapless_never_goes_from_false_to_true(&fresh().await);
            routes_registered_at_once_are_one(&fresh().await);
        }
        "`BusinessStore::rename_route`: `ErrorKind::Invalid` if the old name is not registered or the new one is." => {
            a_route_can_be_renamed(&fresh().await);
        }
        "`BusinessStore::retire_route` forgets a route; `ErrorKind::Invalid` if it is not registered." => {
            a_route_can_be_retired(&fresh().await);
        }
        "`Registration::max_event_bytes`: the writer refuses larger events." => {
            the_writer_refuses_what_a_routes_sink_does_not_take(&fresh().await);
        }
        "A dropped call may have taken effect, as a whole, and can be repeated." => {
            a_dropped_registration_is_made_or_not(&fresh().await);
        }
    }
}

async fn register(opened: &Opened, registration: Registration) -> Registration {
    opened.store.register(registration).await.expect("a route can be registered")
}

/// Everything of a registration comes back, and routes are listed by name.
pub async fn a_registration_is_kept(subject: &impl StoreUnderTest) {
    const RULE: &str = "a registration is kept";
    let opened = subject.open().await;
    let filter = Filter {
        types: vec!["order.*".to_owned()],
        keys: vec!["a*".to_owned(), "b?".to_owned()],
        attributes: [("subject".to_owned(), "x".to_owned())].into(),
    };
    let full = Registration { filter, max_event_bytes: 12_345, gapless: false, ..registration("b", Start::Beginning) };
    let timed = registration("a", Start::Time(crate::testing::sample::at(17)));
    let (full, timed) = (register(&opened, full).await, register(&opened, timed).await);
    assert_eq!((full.max_event_bytes, full.gapless), (12_345, false), "{RULE}");
    let listed = subject.open().await.store.routes().await.expect("routes can be listed");
    assert_eq!(listed, [timed, full], "{RULE}: by name, as they were registered");
}

/// Registering again takes over filter and size, and leaves start and time as they were.
pub async fn registering_again_changes_only_what_it_may(subject: &impl StoreUnderTest) {
    const RULE: &str = "registering again changes only filter, size and gapless";
    let opened = subject.open().await;
    let first = register(&opened, registration("a", Start::Beginning)).await;
    assert_eq!(register(&opened, registration("a", Start::Beginning)).await, first, "{RULE}: nothing, if the same");
    let filter = Filter { types: vec!["x".to_owned()], ..Filter::default() };
    let changed = Registration {
        filter: filter.clone(),
        max_event_bytes: 7,
        registered: crate::testing::sample::at(99),
        ..registration("a", Start::Now)
    };
    let second = register(&opened, changed).await;
    assert_eq!((&second.filter, second.max_event_bytes), (&filter, 7), "{RULE}: these it takes over");
    assert_eq!(second, Registration { filter, max_event_bytes: 7, ..first }, "{RULE}: these it leaves");
    assert_eq!(opened.store.routes().await.expect("routes can be listed"), [second], "{RULE}");
}

/// A consumer that was told of a gap cannot be told that there was none.
pub async fn gapless_never_goes_from_false_to_true(subject: &impl StoreUnderTest) {
    const RULE: &str = "gapless never goes from false to true";
    let opened = subject.open().await;
    for (asked, registered) in [(true, true), (false, false), (true, false)] {
        let asked = Registration { gapless: asked, ..registration("a", Start::Beginning) };
        assert_eq!(register(&opened, asked).await.gapless, registered, "{RULE}");
    }
}

/// A renamed route keeps everything but its name; a name that is taken or unknown is an error.
pub async fn a_route_can_be_renamed(subject: &impl StoreUnderTest) {
    const RULE: &str = "a route can be renamed";
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    let first = register(&opened, registration("a", Start::Now)).await;
    register(&opened, registration("b", Start::Beginning)).await;
    let taken = opened.store.rename_route(&route("a"), &route("b")).await;
    assert_eq!(kind_of(taken), Some(ErrorKind::Invalid), "{RULE}: not to a name that is taken");
    let unknown = opened.store.rename_route(&route("x"), &route("c")).await;
    assert_eq!(kind_of(unknown), Some(ErrorKind::Invalid), "{RULE}: not if it is not registered");
    opened.store.rename_route(&route("a"), &route("c")).await.expect("a registered route can be renamed");
    let listed = opened.store.routes().await.expect("routes can be listed");
    let renamed = listed.iter().find(|listed| listed.route == route("c"));
    assert_eq!(renamed, Some(&Registration { route: route("c"), ..first }), "{RULE}: the rest stays");
    assert_eq!(listed.len(), 2, "{RULE}: nothing of the old name is left");
}

/// A retired route is forgotten; one that is not registered is an error.
pub async fn a_route_can_be_retired(subject: &impl StoreUnderTest) {
    const RULE: &str = "a route can be retired";
    let opened = subject.open().await;
    register(&opened, registration("a", Start::Beginning)).await;
    opened.store.retire_route(&route("a")).await.expect("a registered route can be retired");
    assert_eq!(opened.store.routes().await.expect("routes can be listed"), [], "{RULE}");
    let unknown = opened.store.retire_route(&route("a")).await;
    assert_eq!(kind_of(unknown), Some(ErrorKind::Invalid), "{RULE}: once");
}

/// The smallest limit of all registered routes holds at the write, before anything can get stuck.
pub async fn the_writer_refuses_what_a_routes_sink_does_not_take(subject: &impl StoreUnderTest) {
    const RULE: &str = "the writer refuses what a registered route's sink does not take";
    let opened = subject.open().await;
    for (name, max_event_bytes) in [("small", 100), ("large", 10_000)] {
        register(&opened, Registration { max_event_bytes, ..registration(name, Start::Beginning) }).await;
    }
    let sized = |bytes: usize| {
        NewEvent::builder("t").key("a").bytes("text/plain", vec![b'x'; bytes]).build().expect("the sample is valid")
    };
    let refused = commit(subject, vec![Write::any([sized(10), sized(101)])]).await;
    let named = matches!(refused, Err(WriteError::TooLarge { index: 1, bytes: 101, limit: 100 }));
    assert!(named, "{RULE}: the error names event, size and limit: {refused:?}");
    write(subject, [sized(100)]).await;
    opened.store.retire_route(&route("small")).await.expect("a registered route can be retired");
    write(subject, [sized(101)]).await;
    assert_eq!(events_of(&opened).await.len(), 2, "{RULE}: until that route is retired");
}

/// Several processes that register a route at once are given the same registration.
pub async fn routes_registered_at_once_are_one(subject: &impl StoreUnderTest) {
    const RULE: &str = "routes registered at once are one";
    let opened = subject.open().await;
    for round in 0..RACES / 5 {
        let name = format!("route-{round}");
        write(subject, [new_event("a")]).await;
        let mut racers = Vec::new();
        for racer in 0..4 {
            let store = subject.open().await.store;
            let registered = crate::testing::sample::at(racer);
            let own = Registration { registered, ..registration(&name, Start::Now) };
            racers.push(tokio::spawn(async move { store.register(own).await }));
        }
        let mut given: Vec<Registration> = Vec::new();
        for racer in racers {
            match in_time(RULE, racer).await.expect("a registration does not panic") {
                Ok(registration) => given.push(registration),
                Err(error) => assert!(error.kind().retry(), "{RULE}: {error}"),
            }
        }
        let listed = opened.store.routes().await.expect("routes can be listed");
        let listed: Vec<_> = listed.into_iter().filter(|listed| listed.route == route(&name)).collect();
        assert!(listed.len() <= 1, "{RULE}: {listed:?}");
        assert!(given.iter().all(|given| Some(given) == listed.first()), "{RULE}: {given:?}, and {listed:?} is there");
    }
}

/// A registration that is dropped is as it was or as it was asked for, and nothing between; and can be made again.
pub async fn a_dropped_registration_is_made_or_not(subject: &impl StoreUnderTest) {
    const RULE: &str = "a dropped registration is made or not";
    let opened = subject.open().await;
    let mut before = register(&opened, registration("a", Start::Beginning)).await;
    for (bytes, polls) in (1..).zip(0..=CUTS) {
        let filter = Filter { types: vec![format!("type.{bytes}")], ..Filter::default() };
        let asked = Registration { filter, max_event_bytes: 1_000 + bytes, ..before.clone() };
        cut(opened.store.register(asked.clone()), polls).await;
        let listed = opened.store.routes().await.expect("routes can be listed");
        assert!(listed == [before] || listed == [asked.clone()], "{RULE}: {listed:?}");
        assert_eq!(in_time(RULE, register(&opened, asked.clone())).await, asked, "{RULE}: and can be made again");
        before = asked;
    }
}
