//! Kept events: parking, settling, and what an operator does to them.

use jiff::Timestamp;
use outbox::{
    Bookkeeping, Event, Key, Lane, NewEvent, Operator, PartitionId, Place, Placing, Position, RouteName,
    bookkeeping::{
        Front, FrontState, Keep, KeepOutcome, KeptContent, KeptCounts, KeptId, Lease, Selector, SettleOutcome,
        Settlement, Trouble,
    },
    entry::Undecodable,
    event::Identity,
};
use outbox_sql::sqlite::SqliteBookkeeping;

use crate::bookkeeping_opening::Books;

fn route() -> RouteName {
    RouteName::new("ledger").unwrap()
}

fn partition() -> PartitionId {
    PartitionId::new("entries")
}

fn lane(key: &str) -> Lane {
    Lane::Key(Key::new(key).unwrap())
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 123_456_789).unwrap()
}

fn event(key: &str, sequence: u64) -> Event {
    let new = NewEvent::builder("order.placed")
        .key(key)
        .subject("s")
        .extension("tenant", "a")
        .extension("trial", true)
        .json(&serde_json::json!({ "units": sequence }))
        .build()
        .unwrap();
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    let placing = Some(Placing { place: Place::new(1, sequence, 0), count: 1, after });
    let identity = Identity { source: &"/orders".into(), placing, recorded: Some(at(0)), fallback_id: "" };
    Event::from_new(new, identity).unwrap()
}

fn front(state: FrontState) -> Front {
    Front { state, attempts: 3, failed_since: at(1), reason: "said no".to_owned() }
}

fn keep(key: &str, front: Option<Front>, sequences: std::ops::RangeInclusive<u64>) -> Keep {
    let events =
        sequences.map(|number| (KeptContent::Event(event(key, number)), Position::new(number.to_string()))).collect();
    Keep { lane: lane(key), front, events }
}

#[expect(clippy::unnecessary_wraps, reason = "as a `Keep` takes it")]
fn dead() -> Option<Front> {
    Some(front(FrontState::Dead))
}

/// A bookkeeping in which `keys` are dead at their first event, with two more parked behind it.
async fn with_dead(keys: &[&str]) -> (Books, Lease) {
    let books = Books::new();
    let lease = books.lease().await;
    for key in keys {
        books.books.keep(&lease, &route(), &partition(), &keep(key, dead(), 1..=3)).await.unwrap();
    }
    (books, lease)
}

async fn trouble(books: &SqliteBookkeeping, key: &str) -> Trouble {
    books.trouble(&route(), &lane(key)).await.unwrap().unwrap()
}

async fn kept_ids(books: &SqliteBookkeeping, key: &str) -> Vec<KeptId> {
    books.kept(&route(), &lane(key), 100).await.unwrap().iter().map(|kept| kept.id).collect()
}

fn settlement(trouble: &Trouble, remove: &[KeptId], front: Option<Front>) -> Settlement {
    let (lane, generation) = (trouble.lane.clone(), trouble.generation);
    Settlement { lane, generation, remove: remove.to_vec(), apart: None, discarded: false, front }
}

#[tokio::test]
async fn kept_events_come_back_whole_and_in_order() {
    let books = Books::new();
    let lease = books.lease().await;
    let keep = keep("a", dead(), 1..=3);
    let outcome = books.books.keep(&lease, &route(), &partition(), &keep).await.unwrap();
    let known = trouble(&books.books, "a").await;
    assert_eq!(outcome, KeepOutcome::Stored { generation: known.generation });
    assert_eq!((known.front, known.kept), (dead().unwrap(), 3));
    let kept = books.reopen().kept(&route(), &lane("a"), 2).await.unwrap();
    let contents: Vec<_> = kept.iter().map(|kept| (kept.content.clone(), kept.position.clone())).collect();
    assert_eq!(contents, keep.events[..2]);
    assert_eq!(kept[0].partition, partition());
    assert!(kept[0].id < kept[1].id);
}

#[tokio::test]
async fn a_row_that_could_not_be_read_is_kept_with_its_reason_and_bytes() {
    let books = Books::new();
    let lease = books.lease().await;
    for key in [None, Some(Key::new("a").unwrap())] {
        let row = Undecodable { id: "row/7".into(), key, reason: "`data`".to_owned(), raw: vec![0, 255].into() };
        let content = KeptContent::Undecodable(row);
        let events = vec![(content.clone(), Position::new("7"))];
        let keep = Keep { lane: content.lane(), front: dead(), events };
        books.books.keep(&lease, &route(), &partition(), &keep).await.unwrap();
        let kept = books.books.kept(&route(), &keep.lane, 10).await.unwrap();
        assert_eq!(kept[0].content, content);
    }
}

#[tokio::test]
async fn what_is_kept_already_is_left_as_it_is() {
    let (books, lease) = with_dead(&["a"]).await;
    let before = books.books.kept(&route(), &lane("a"), 10).await.unwrap();
    let known = trouble(&books.books, "a").await;
    let again = keep("a", Some(front(FrontState::Retrying { due: at(9) })), 1..=4);
    let outcome = books.books.keep(&lease, &route(), &partition(), &again).await.unwrap();
    assert_eq!(outcome, KeepOutcome::Stored { generation: known.generation });
    let after = books.books.kept(&route(), &lane("a"), 10).await.unwrap();
    assert_eq!((after.len(), &after[..3]), (4, &before[..]));
    assert_eq!(trouble(&books.books, "a").await, Trouble { kept: 4, ..known });
}

#[tokio::test]
async fn a_released_key_has_nothing_to_park_behind() {
    let (books, lease) = with_dead(&["a"]).await;
    let (books, known) = (&books.books, trouble(&books.books, "a").await);
    let ids = kept_ids(books, "a").await;
    let settled = books.settle(&lease, &route(), &settlement(&known, &ids, dead())).await.unwrap();
    assert_eq!(settled, SettleOutcome::Released);
    let parked = books.keep(&lease, &route(), &partition(), &keep("a", None, 4..=4)).await.unwrap();
    assert_eq!(parked, KeepOutcome::KeyFree);
    assert!(books.trouble(&route(), &lane("a")).await.unwrap().is_none());
    let opened = books.keep(&lease, &route(), &partition(), &keep("a", dead(), 4..=4)).await.unwrap();
    assert!(matches!(opened, KeepOutcome::Stored { generation } if generation > known.generation));
}

#[tokio::test]
async fn releasing_and_parking_at_once_strand_no_event() {
    let books = Books::new();
    let lease = books.lease().await;
    let other = books.reopen();
    for round in 0..50_u64 {
        let key = format!("key-{round}");
        books.books.keep(&lease, &route(), &partition(), &keep(&key, dead(), 1..=1)).await.unwrap();
        let (known, ids) = (trouble(&books.books, &key).await, kept_ids(&books.books, &key).await);
        let (route, partition) = (route(), partition());
        let (settlement, park) = (settlement(&known, &ids, dead()), keep(&key, None, 2..=2));
        let (settled, parked) = tokio::join!(
            books.books.settle(&lease, &route, &settlement),
            other.keep(&lease, &route, &partition, &park)
        );
        let left = books.books.trouble(&route, &lane(&key)).await.unwrap();
        match (settled.unwrap(), parked.unwrap()) {
            (SettleOutcome::Released, KeepOutcome::KeyFree) => assert!(left.is_none()),
            (SettleOutcome::Left(1), KeepOutcome::Stored { .. }) => assert_eq!(left.unwrap().kept, 1),
            other => panic!("round {round}: {other:?}, {left:?}"),
        }
    }
}

#[tokio::test]
async fn settling_removes_from_the_front_and_notes_the_next_one() {
    let (books, lease) = with_dead(&["a", "b"]).await;
    let (books, known) = (&books.books, trouble(&books.books, "a").await);
    let ids = kept_ids(books, "a").await;
    let next = Front { attempts: 0, ..front(FrontState::Retrying { due: at(5) }) };
    let first = settlement(&known, &ids[..1], Some(next.clone()));
    for _ in 0..2 {
        let outcome = books.settle(&lease, &route(), &first).await.unwrap();
        assert_eq!(outcome, SettleOutcome::Left(2), "the same again, as after a lost answer");
    }
    assert_eq!(trouble(books, "a").await, Trouble { front: next, kept: 2, ..known });
    assert_eq!(kept_ids(books, "b").await.len(), 3, "other lanes are left alone");
    assert!(books.tombstones(&route()).await.unwrap().is_empty());
}

#[tokio::test]
async fn settling_a_trouble_that_is_over_does_nothing() {
    let (books, lease) = with_dead(&["a"]).await;
    let (books, known) = (&books.books, trouble(&books.books, "a").await);
    let ids = kept_ids(books, "a").await;
    let old = Trouble { generation: known.generation + 1, ..known };
    let outcome = books.settle(&lease, &route(), &settlement(&old, &ids, None)).await.unwrap();
    assert_eq!((outcome, kept_ids(books, "a").await.len()), (SettleOutcome::Changed, 3));
}

#[tokio::test]
async fn a_settlement_does_not_undo_what_an_operator_did_meanwhile() {
    let (books, lease) = with_dead(&["redriven", "discarded"]).await;
    let books = &books.books;
    for (key, expected) in [
        ("redriven", FrontState::Retrying { due: at(7) }),
        ("discarded", FrontState::Discarded { reason: "because".to_owned() }),
    ] {
        let selector = Selector { key: Some(Key::new(key).unwrap()), ..Selector::default() };
        let before = trouble(books, key).await;
        if key == "redriven" {
            assert_eq!(books.redrive(&route(), &selector, at(7)).await.unwrap(), 1);
        } else {
            assert_eq!(books.discard(&route(), &selector, "because").await.unwrap(), 1);
        }
        let stale = settlement(&before, &[], dead());
        assert_eq!(books.settle(&lease, &route(), &stale).await.unwrap(), SettleOutcome::Changed, "{key}");
        let after = trouble(books, key).await;
        assert_eq!(after.front.state, expected, "{key}");
        let fresh = settlement(&after, &[], dead());
        assert_eq!(books.settle(&lease, &route(), &fresh).await.unwrap(), SettleOutcome::Left(3), "{key}");
    }
}

#[tokio::test]
async fn a_discarded_event_leaves_a_tombstone_and_is_not_kept_again() {
    let (books, lease) = with_dead(&["a"]).await;
    let (books, known) = (&books.books, trouble(&books.books, "a").await);
    let ids = kept_ids(books, "a").await;
    let discarded = Settlement { discarded: true, ..settlement(&known, &ids[..1], dead()) };
    books.settle(&lease, &route(), &discarded).await.unwrap();
    let tombstones = books.tombstones(&route()).await.unwrap();
    assert_eq!(tombstones, [("a@1.1.0".into(), partition(), Position::new("1"))]);
    books.keep(&lease, &route(), &partition(), &keep("a", None, 1..=3)).await.unwrap();
    assert_eq!(kept_ids(books, "a").await, ids[1..]);
    books.forget_tombstones(&lease, &route(), &tombstones).await.unwrap();
    assert!(books.tombstones(&route()).await.unwrap().is_empty());
}

#[tokio::test]
async fn dead_letters_are_listed_by_number_and_selected() {
    let (books, lease) = with_dead(&["a", "b"]).await;
    let books = &books.books;
    let waiting = Some(front(FrontState::Retrying { due: at(9) }));
    books.keep(&lease, &route(), &partition(), &keep("c", waiting, 1..=1)).await.unwrap();
    let list = async |selector: Selector, after, limit| {
        let letters = books.dead_letters(&route(), &selector, after, limit).await.unwrap();
        letters.iter().map(|letter| letter.kept.content.id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(Selector::default(), None, 10).await, ["a@1.1.0", "b@1.1.0"]);
    assert_eq!(list(Selector::default(), None, 1).await, ["a@1.1.0"]);
    let first = books.dead_letters(&route(), &Selector::default(), None, 1).await.unwrap().remove(0);
    assert_eq!((first.parked, &first.front.reason, &first.route), (2, &"said no".to_owned(), &route()));
    assert_eq!(list(Selector::default(), Some(first.kept.id), 10).await, ["b@1.1.0"]);
    assert_eq!(list(Selector { id: Some(first.kept.id), ..Selector::default() }, None, 10).await, ["a@1.1.0"]);
    let key = Some(Key::new("b").unwrap());
    assert_eq!(list(Selector { key, ..Selector::default() }, None, 10).await, ["b@1.1.0"]);
    assert_eq!(list(Selector { kind: Some("order.placed".into()), ..Selector::default() }, None, 10).await.len(), 2);
    assert!(list(Selector { kind: Some("other".into()), ..Selector::default() }, None, 10).await.is_empty());
    let counts = books.kept_counts(&route()).await.unwrap();
    assert_eq!(counts, KeptCounts { retrying: 1, dead: 2, parked: 4, lanes: 3 });
}

#[tokio::test]
async fn a_dead_letter_may_be_kept_in_a_lane_of_its_own_beside_its_key() {
    let (books, lease) = with_dead(&["a"]).await;
    let books = &books.books;
    let alone = Lane::Event("a@1.1.0".into());
    let detached = Keep { lane: alone.clone(), ..keep("a", dead(), 1..=1) };
    books.keep(&lease, &route(), &partition(), &detached).await.unwrap();
    assert_eq!(books.kept(&route(), &alone, 10).await.unwrap().len(), 1);
    let key = Some(Key::new("a").unwrap());
    let letters = books.dead_letters(&route(), &Selector { key, ..Selector::default() }, None, 10).await.unwrap();
    assert_eq!(letters.len(), 2, "both are found by the event's key");
}

#[tokio::test]
async fn troubles_are_listed_page_by_page() {
    let (books, lease) = with_dead(&["c", "a", "b"]).await;
    let books = &books.books;
    let alone = Keep { lane: Lane::Event("z".into()), ..keep("z", dead(), 1..=1) };
    books.keep(&lease, &route(), &partition(), &alone).await.unwrap();
    let (mut after, mut lanes) = (None, Vec::new());
    loop {
        let page = books.troubles(&route(), after.as_ref(), 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.lane.clone());
        lanes.extend(page.into_iter().map(|trouble| trouble.lane));
    }
    assert_eq!(lanes, [lane("a"), lane("b"), lane("c"), Lane::Event("z".into())]);
}

#[tokio::test]
async fn erasing_a_key_removes_it_from_every_route_and_publishes_nothing_of_it_again() {
    let (books, lease) = with_dead(&["a", "b"]).await;
    let books = &books.books;
    let other = RouteName::new("mail").unwrap();
    books.keep(&lease, &other, &partition(), &keep("a", dead(), 1..=1)).await.unwrap();
    assert_eq!(books.erase(&Key::new("a").unwrap()).await.unwrap(), 4);
    for route in [&route(), &other] {
        assert!(books.kept(route, &lane("a"), 10).await.unwrap().is_empty());
        assert!(books.trouble(route, &lane("a")).await.unwrap().is_none());
    }
    assert_eq!(kept_ids(books, "b").await.len(), 3);
    assert_eq!(books.tombstones(&route()).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_running_relay_sees_what_an_operator_changed_in_another_process() {
    let (relay, _) = with_dead(&["a", "b"]).await;
    let operator = relay.reopen();
    let mut seen = relay.books.operator_changes().await.unwrap();
    let (route, all) = (route(), Selector::default());
    let first = Selector { key: Some(Key::new("a").unwrap()), ..Selector::default() };
    operator.redrive(&route, &first, at(0)).await.unwrap();
    operator.discard(&route, &all, "r").await.unwrap();
    for step in 0..2 {
        let now = relay.books.operator_changes().await.unwrap();
        assert!(now > seen, "{step}");
        seen = now;
        operator.pause(&route, step == 0).await.unwrap();
    }
    assert!(relay.books.operator_changes().await.unwrap() > seen);
}
