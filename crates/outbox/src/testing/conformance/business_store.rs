//! What every business store promises a relay.

use super::writer::{check_chain, commit, read_all, write};
use crate::{
    entry::{Position, Record},
    error::{ErrorKind, StoreError},
    event::{Event, NewEvent},
    filter::Filter,
    route::Start,
    source::{Limit, PartitionId},
    store::{Agreement, Claim, Registration, Retention, Witness},
    testing::{
        Opened, StoreUnderTest, Write,
        sample::{key, new_event, registration, route},
    },
    writer::{Expected, WriteError},
};

/// Runs every check, each on a fresh backend.
pub async fn all<S: StoreUnderTest + 'static>(fresh: impl AsyncFn() -> S) {
    the_identity_is_the_same_for_everybody(&fresh().await).await;
    a_claim_by_another_bookkeeping_is_refused(&fresh().await).await;
    a_claim_by_a_copy_is_refused(&fresh().await).await;
    a_newer_claim_ends_the_older_ones_reads(&fresh().await).await;
    a_disowned_store_can_be_claimed(&fresh().await).await;
    a_registration_is_kept(&fresh().await).await;
    registering_again_changes_only_what_it_may(&fresh().await).await;
    gapless_never_goes_from_false_to_true(&fresh().await).await;
    a_route_can_be_renamed(&fresh().await).await;
    a_route_can_be_retired(&fresh().await).await;
    the_writer_refuses_what_a_routes_sink_does_not_take(&fresh().await).await;
    nothing_is_purged_unless_it_may_be(&fresh().await).await;
    a_purge_by_count_leaves_the_newest(&fresh().await).await;
    a_purge_by_age_leaves_the_younger(&fresh().await).await;
    a_purge_takes_small_batches_to_the_end(&fresh().await).await;
    numbers_go_on_after_a_purge(&fresh().await).await;
    a_history_that_goes_on_agrees(&fresh().await).await;
    an_older_copy_disagrees(&fresh().await).await;
    an_older_copy_that_was_written_to_disagrees(&fresh().await).await;
    another_store_disagrees_wholly(&fresh().await).await;
    a_raised_incarnation_is_that_of_later_entries(&fresh().await).await;
    restamped_entries_are_of_the_new_incarnation(&fresh().await).await;
}

fn claim(bookkeeping: &str, epoch: u64, nonce: &str) -> Claim {
    Claim { bookkeeping: bookkeeping.to_owned(), epoch, nonce: nonce.to_owned() }
}

fn kind_of<T>(answer: Result<T, StoreError>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

async fn register(opened: &Opened, registration: Registration) -> Registration {
    opened.store.register(registration).await.expect("a route can be registered")
}

async fn read_beginning(opened: &Opened) -> Result<(), StoreError> {
    let partition: PartitionId = opened.source.partitions().await?.remove(0).id;
    let position = opened.source.start(&partition, &registration("any", Start::Beginning)).await?;
    opened.source.read(&partition, &position, Limit { events: 10, bytes: 1 << 20 }).await.map(|_| ())
}

async fn purge(opened: &Opened, passed: &Position, retention: Retention) {
    while opened.store.purge(passed, retention).await.expect("published entries can be purged").more {}
}

fn witness(record: &Record) -> Witness {
    Witness { position: record.position.clone(), commit: record.commit }
}

/// Everything read, newest first.
async fn witnesses(opened: &Opened) -> Vec<Witness> {
    read_all(&*opened.source).await.iter().rev().map(|record| witness(record)).collect()
}

async fn agreement(opened: &Opened, witnesses: &[Witness]) -> Agreement {
    opened.store.agreement(witnesses).await.expect("histories can be compared")
}

async fn events_of(opened: &Opened) -> Vec<Event> {
    read_all(&*opened.source).await.iter().flat_map(|record| record.events().to_vec()).collect()
}

/// Id, producer and incarnation are the store's, whoever opens it.
pub async fn the_identity_is_the_same_for_everybody(subject: &impl StoreUnderTest) {
    const RULE: &str = "the identity is the same for everybody";
    let (one, other) = (subject.open().await, subject.open().await);
    let identity = one.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity, other.store.identity().await.expect("a store knows who it is"), "{RULE}");
    assert!(!identity.id.is_empty() && identity.incarnation >= 1 && identity.bookkeeping.is_none(), "{RULE}");
    write(subject, [new_event("a")]).await;
    let producer = events_of(&one).await[0].source().to_owned();
    assert_eq!(producer, identity.producer, "{RULE}: the producer is the events' source");
}

/// A store has one bookkeeping, so that two cannot both believe that they publish it.
pub async fn a_claim_by_another_bookkeeping_is_refused(subject: &impl StoreUnderTest) {
    const RULE: &str = "a claim by another bookkeeping is refused";
    let opened = subject.open().await;
    opened.store.claim(&claim("one", 3, "x")).await.expect("an unclaimed store can be claimed");
    for (epoch, nonce) in [(1, "y"), (3, "x"), (9, "y")] {
        let refused = subject.open().await.store.claim(&claim("other", epoch, nonce)).await;
        assert_eq!(kind_of(refused), Some(ErrorKind::Ownership), "{RULE}: at epoch {epoch}");
    }
    let identity = opened.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity.bookkeeping.as_deref(), Some("one"), "{RULE}: it is still the first one's");
    read_beginning(&opened).await.expect("the owner still reads");
}

/// A copied bookkeeping has the same id; epoch and nonce tell it from its original.
pub async fn a_claim_by_a_copy_is_refused(subject: &impl StoreUnderTest) {
    const RULE: &str = "a claim by a copy of the bookkeeping is refused";
    let opened = subject.open().await;
    opened.store.claim(&claim("one", 3, "x")).await.expect("an unclaimed store can be claimed");
    opened.store.claim(&claim("one", 3, "x")).await.expect("a claim can be repeated");
    for (epoch, nonce) in [(3, "y"), (2, "y"), (2, "x")] {
        let refused = subject.open().await.store.claim(&claim("one", epoch, nonce)).await;
        assert_eq!(kind_of(refused), Some(ErrorKind::Ownership), "{RULE}: {epoch} {nonce}");
    }
    read_beginning(&opened).await.expect("the owner still reads");
}

/// The next owner of the lease claims under a higher epoch, and whoever read under an older one reads no more.
pub async fn a_newer_claim_ends_the_older_ones_reads(subject: &impl StoreUnderTest) {
    const RULE: &str = "a newer claim ends the older one's reads";
    let (old, new) = (subject.open().await, subject.open().await);
    old.store.claim(&claim("one", 3, "x")).await.expect("an unclaimed store can be claimed");
    read_beginning(&old).await.expect("the owner reads");
    new.store.claim(&claim("one", 4, "y")).await.expect("a higher epoch takes the claim over");
    let kind = kind_of(read_beginning(&old).await);
    assert!(matches!(kind, Some(ErrorKind::Ownership | ErrorKind::Fenced)), "{RULE}: {kind:?}");
    read_beginning(&new).await.expect("the new owner reads");
}

/// After `disown` whoever comes first owns the store, whatever its epoch.
pub async fn a_disowned_store_can_be_claimed(subject: &impl StoreUnderTest) {
    const RULE: &str = "a disowned store can be claimed";
    let opened = subject.open().await;
    opened.store.claim(&claim("one", 9, "x")).await.expect("an unclaimed store can be claimed");
    let adopting = subject.open().await;
    adopting.store.disown().await.expect("a store can be disowned");
    let identity = adopting.store.identity().await.expect("a store knows who it is");
    assert_eq!(identity.bookkeeping, None, "{RULE}: nobody's");
    adopting.store.claim(&claim("other", 1, "y")).await.expect("a disowned store can be claimed");
    read_beginning(&adopting).await.expect("the new owner reads");
    assert!(read_beginning(&opened).await.is_err(), "{RULE}: the old owner reads no more");
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

/// Retention that is off purges nothing, and nothing at or behind the position that every route is past goes ever.
pub async fn nothing_is_purged_unless_it_may_be(subject: &impl StoreUnderTest) {
    const RULE: &str = "nothing is purged unless it may be";
    for _ in 0..5 {
        write(subject, [new_event("a")]).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let purged = opened.store.purge(&all[4].position, Retention::Off).await.expect("a purge can be asked for");
    assert_eq!((purged.entries, purged.more), (0, false), "{RULE}: retention is off");
    purge(&opened, &all[2].position, Retention::Newest(0)).await;
    let left: Vec<_> = events_of(&opened).await.iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(left, ["a@1.3.0", "a@1.4.0", "a@1.5.0"], "{RULE}: what is not published stays");
}

/// Of the published entries the newest so many stay.
pub async fn a_purge_by_count_leaves_the_newest(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge by count leaves the newest";
    for _ in 0..8 {
        write(subject, [new_event("a")]).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    purge(&opened, &all[7].position, Retention::Newest(3)).await;
    assert_eq!(events_of(&opened).await.len(), 3, "{RULE}");
    purge(&opened, &all[7].position, Retention::Newest(30)).await;
    assert_eq!(events_of(&opened).await.len(), 3, "{RULE}: no more than there are");
}

/// Of the published entries those recorded at the time or later stay.
pub async fn a_purge_by_age_leaves_the_younger(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge by age leaves the younger";
    for _ in 0..4 {
        write(subject, [new_event("a")]).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let oldest = all.iter().map(|record| record.recorded).min().expect("entries were written");
    purge(&opened, &all[3].position, Retention::Before(oldest)).await;
    assert_eq!(events_of(&opened).await.len(), 4, "{RULE}: nothing is older");
    let latest = all.iter().map(|record| record.recorded).max().expect("entries were written");
    let later = latest.checked_add(jiff::SignedDuration::from_secs(1)).expect("the time is in range");
    purge(&opened, &all[3].position, Retention::Before(later)).await;
    assert_eq!(events_of(&opened).await.len(), 1, "{RULE}: everything is older, but the last entry proves the history");
}

/// A purge of much takes several calls, each small, and says so.
pub async fn a_purge_takes_small_batches_to_the_end(subject: &impl StoreUnderTest) {
    const RULE: &str = "a purge takes small batches to the end";
    const ENTRIES: usize = 2_500;
    let keys: Vec<NewEvent> = (0..ENTRIES).map(|number| new_event(&format!("key/{number}"))).collect();
    for some in keys.chunks(500) {
        write(subject, some.to_vec()).await;
    }
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    let passed = &all[ENTRIES - 1].position;
    let (mut calls, mut removed) = (0, 0);
    loop {
        let purged = opened.store.purge(passed, Retention::Newest(0)).await.expect("published entries can be purged");
        calls += 1;
        removed += purged.entries;
        assert!(calls < ENTRIES, "{RULE}: it never ends");
        if !purged.more {
            break;
        }
    }
    assert!(calls > 1, "{RULE}: {ENTRIES} entries went at once");
    assert_eq!(removed, ENTRIES as u64 - 1, "{RULE}: all but the last");
}

/// Heads outlive their entries: a key goes on with its number and names its predecessor though that is gone.
pub async fn numbers_go_on_after_a_purge(subject: &impl StoreUnderTest) {
    const RULE: &str = "numbers go on after a purge";
    write(subject, [new_event("a"), new_event("a")]).await;
    write(subject, [new_event("b")]).await;
    let opened = subject.open().await;
    let all = read_all(&*opened.source).await;
    purge(&opened, &all[1].position, Retention::Newest(0)).await;
    let written = commit(subject, vec![Write { events: vec![new_event("a")], expected: Expected::Sequence(1) }]).await;
    assert!(written.is_ok(), "{RULE}: the version is still known: {written:?}");
    let events = events_of(&opened).await;
    let placing = events.iter().rfind(|event| event.key() == Some(&key("a"))).and_then(Event::placing);
    let placing = placing.expect("an event with a key has a place");
    assert_eq!((placing.place.sequence, placing.after.to_string()), (2, "1.1.1".to_owned()), "{RULE}");
}

/// The latest witness is there: nothing was lost, whatever was purged, and whoever never read has nothing to miss.
pub async fn a_history_that_goes_on_agrees(subject: &impl StoreUnderTest) {
    const RULE: &str = "a history that goes on agrees";
    let opened = subject.open().await;
    assert_eq!(agreement(&opened, &[]).await, Agreement::Whole, "{RULE}: nothing was read yet");
    for _ in 0..6 {
        write(subject, [new_event("a")]).await;
    }
    let witnesses = witnesses(&opened).await;
    write(subject, [new_event("a")]).await;
    assert_eq!(agreement(&opened, &witnesses).await, Agreement::Whole, "{RULE}");
    purge(&opened, &witnesses[0].position, Retention::Newest(0)).await;
    assert_eq!(agreement(&opened, &witnesses).await, Agreement::Whole, "{RULE}: after a purge");
}

/// An older copy lacks what was read: the last agreement is the copy's last entry.
pub async fn an_older_copy_disagrees(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let seen = witnesses(&opened).await;
    subject.restore().await;
    let found = agreement(&subject.open().await, &seen).await;
    let expected =
        Agreement::Lost { agreed: Some(seen[2].position.clone()), lost: seen[1].position.clone(), behind: 0 };
    assert_eq!(found, expected, "an older copy disagrees from its end on");
}

/// An older copy that was written to has other entries under the same numbers; only their commit ids tell.
pub async fn an_older_copy_that_was_written_to_disagrees(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let seen = witnesses(&opened).await;
    subject.restore().await;
    for _ in 0..3 {
        write(subject, [new_event("a")]).await;
    }
    let found = agreement(&subject.open().await, &seen).await;
    let expected =
        Agreement::Lost { agreed: Some(seen[2].position.clone()), lost: seen[1].position.clone(), behind: 3 };
    assert_eq!(found, expected, "an older copy that was written to disagrees from its end on");
}

/// With nothing in common there is no agreement.
pub async fn another_store_disagrees_wholly(subject: &impl StoreUnderTest) {
    let opened = subject.open().await;
    subject.back_up().await;
    write(subject, [new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    let seen = witnesses(&opened).await;
    subject.restore().await;
    write(subject, [new_event("b")]).await;
    let found = agreement(&subject.open().await, &seen).await;
    let expected = Agreement::Lost { agreed: None, lost: seen[1].position.clone(), behind: 1 };
    assert_eq!(found, expected, "another store disagrees wholly");
}

/// Entries written after it are of the new incarnation and go on with the key's numbers; what survived keeps its places.
pub async fn a_raised_incarnation_is_that_of_later_entries(subject: &impl StoreUnderTest) {
    const RULE: &str = "a raised incarnation is that of later entries";
    write(subject, [new_event("a"), new_event("a")]).await;
    let opened = subject.open().await;
    let before = opened.store.identity().await.expect("a store knows who it is").incarnation;
    let agreed = witnesses(&opened).await[0].position.clone();
    let raised = opened.store.raise_incarnation(Some(&agreed), false).await.expect("the incarnation can be raised");
    assert_eq!(raised, before + 1, "{RULE}: it rises by one");
    let opened = subject.open().await;
    assert_eq!(opened.store.identity().await.expect("a store knows who it is").incarnation, raised, "{RULE}");
    write(subject, [new_event("a")]).await;
    let events = events_of(&opened).await;
    let places: Vec<_> = events.iter().filter_map(Event::placing).map(|placing| placing.place.to_string()).collect();
    assert_eq!(places, ["1.1.0", "1.1.1", "2.2.0"], "{RULE}: survivors keep theirs");
    check_chain(RULE, &events, &[("a", 3)]);
}

/// Entries behind the agreement that were written after the loss move into the new incarnation, and the key goes on
/// from there.
pub async fn restamped_entries_are_of_the_new_incarnation(subject: &impl StoreUnderTest) {
    const RULE: &str = "restamped entries are of the new incarnation";
    write(subject, [new_event("a")]).await;
    let opened = subject.open().await;
    let agreed = witnesses(&opened).await[0].position.clone();
    write(subject, [new_event("a"), new_event("a")]).await;
    write(subject, [new_event("a")]).await;
    opened.store.raise_incarnation(Some(&agreed), true).await.expect("the incarnation can be raised");
    let opened = subject.open().await;
    write(subject, [new_event("a")]).await;
    let events = events_of(&opened).await;
    let places: Vec<_> = events.iter().filter_map(Event::placing).map(|placing| placing.place.to_string()).collect();
    assert_eq!(places, ["1.1.0", "2.2.0", "2.2.1", "2.3.0", "2.4.0"], "{RULE}");
    let ids: Vec<_> = events.iter().map(Event::id).collect();
    assert_eq!(ids[1..3], ["a@2.2.0", "a@2.2.1"], "{RULE}: and so are the ids that derive from places");
    check_chain(RULE, &events, &[("a", 5)]);
}
