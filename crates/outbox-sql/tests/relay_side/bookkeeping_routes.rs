//! What belongs to a route as a whole.

use jiff::Timestamp;
use outbox::{
    Bookkeeping, CommitId, ErrorKind, Filter, Lane, Operator, PartitionId, Position, RouteName,
    bookkeeping::{Checkpoint, Front, FrontState, HealthState, Keep, KeptContent, Replay, RouteHealth},
    entry::Undecodable,
    store::Witness,
};

use crate::bookkeeping_opening::Books;

fn name(name: &str) -> RouteName {
    RouteName::new(name).unwrap()
}

fn checkpoint(position: u64) -> Checkpoint {
    Checkpoint {
        partition: PartitionId::new("entries"),
        position: Position::new(position.to_string()),
        finished: false,
    }
}

fn witness(position: u64) -> Witness {
    Witness { position: Position::new(position.to_string()), commit: CommitId([u8::try_from(position).unwrap(); 16]) }
}

fn replay(id: &str, route: &RouteName, finished: bool) -> Replay {
    Replay {
        id: id.to_owned(),
        route: route.clone(),
        filter: Filter { types: vec!["order.*".to_owned()], ..Filter::default() },
        event: Some("a@1.1.0".to_owned()),
        since: Some(Timestamp::new(1_800_000_000, 7).unwrap()),
        until: None,
        ends: vec![(PartitionId::new("entries"), Position::new("42"))],
        finished,
    }
}

/// A bookkeeping that knows something of every kind of route `ledger`.
async fn with_ledger() -> Books {
    let books = Books::new();
    let lease = books.lease().await;
    let ledger = name("ledger");
    let row = Undecodable { id: "row/1".into(), key: None, reason: "r".to_owned(), raw: b"raw"[..].into() };
    let front =
        Front { state: FrontState::Dead, attempts: 1, failed_since: Timestamp::UNIX_EPOCH, reason: "r".to_owned() };
    let keep = Keep {
        lane: Lane::of_undecodable(&row),
        front: Some(front),
        events: vec![(KeptContent::Undecodable(row), Position::new("1"))],
    };
    let health = RouteHealth {
        state: HealthState::BackingOff { reason: "not connected".to_owned() },
        since: Timestamp::new(1_800_000_000, 5).unwrap(),
    };
    let entries = PartitionId::new("entries");
    books.books.checkpoint(&lease, &ledger, &checkpoint(5), Some(&witness(5))).await.unwrap();
    books.books.checkpoint(&lease, &ledger.replay("r1"), &checkpoint(2), None).await.unwrap();
    books.books.keep(&lease, &ledger, &entries, &keep).await.unwrap();
    books.books.note_health(&lease, &ledger, &health).await.unwrap();
    books.books.pause(&ledger, true).await.unwrap();
    books.books.put_replay(&replay("r1", &ledger, false)).await.unwrap();
    books
}

#[tokio::test]
async fn a_route_is_renamed_with_all_that_is_its_own() {
    let books = with_ledger().await;
    let books = &books.books;
    let (from, to) = (name("ledger"), name("books"));
    let (health, kept) = (books.health(&from).await.unwrap(), books.kept_counts(&from).await.unwrap());
    books.rename_route(&from, &to).await.unwrap();
    assert_eq!(books.checkpoints(&to).await.unwrap(), [checkpoint(5)]);
    assert_eq!(books.checkpoints(&to.replay("r1")).await.unwrap(), [checkpoint(2)]);
    assert_eq!(books.kept_counts(&to).await.unwrap(), kept);
    assert_eq!(books.health(&to).await.unwrap(), health);
    assert!(health.is_some() && kept.dead == 1);
    assert_eq!(books.paused().await.unwrap(), std::slice::from_ref(&to));
    assert_eq!(books.replays().await.unwrap(), [replay("r1", &to, false)]);
    assert!(books.checkpoints(&from).await.unwrap().is_empty());
    assert_eq!(books.health(&from).await.unwrap(), None);
}

#[tokio::test]
async fn a_route_is_not_renamed_to_one_that_has_anything() {
    let books = with_ledger().await;
    let books = &books.books;
    books.pause(&name("mail"), true).await.unwrap();
    let error = books.rename_route(&name("ledger"), &name("mail")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`mail`"), "{error}");
    assert_eq!(books.checkpoints(&name("ledger")).await.unwrap(), [checkpoint(5)]);
}

#[tokio::test]
async fn a_forgotten_route_leaves_nothing_and_others_alone() {
    let books = with_ledger().await;
    let books = &books.books;
    let other = name("ledger-2");
    books.pause(&other, true).await.unwrap();
    books.put_replay(&replay("r2", &other, true)).await.unwrap();
    let ledger = name("ledger");
    books.forget_route(&ledger).await.unwrap();
    assert!(books.checkpoints(&ledger).await.unwrap().is_empty());
    assert!(books.checkpoints(&ledger.replay("r1")).await.unwrap().is_empty());
    assert_eq!(books.kept_counts(&ledger).await.unwrap().lanes, 0);
    assert_eq!(books.health(&ledger).await.unwrap(), None);
    assert_eq!(books.paused().await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(books.replays().await.unwrap(), [replay("r2", &other, true)]);
}

#[tokio::test]
async fn replays_come_back_whole_and_the_finished_ones_last() {
    let books = Books::new();
    let books = &books.books;
    let ledger = name("ledger");
    for id in ["r1", "r2", "r3"] {
        books.put_replay(&replay(id, &ledger, false)).await.unwrap();
    }
    books.put_replay(&replay("r1", &ledger, true)).await.unwrap();
    let expected = [replay("r2", &ledger, false), replay("r3", &ledger, false), replay("r1", &ledger, true)];
    assert_eq!(books.replays().await.unwrap(), expected);
}

#[tokio::test]
async fn a_checkpoint_is_reset_and_what_was_read_behind_it_forgotten() {
    let books = Books::new();
    let lease = books.lease().await;
    let (books, ledger) = (&books.books, name("ledger"));
    for position in [3, 5, 9] {
        books.checkpoint(&lease, &ledger, &checkpoint(position), Some(&witness(position))).await.unwrap();
    }
    books.reset_checkpoint(&ledger, &checkpoint(5)).await.unwrap();
    assert_eq!(books.checkpoints(&ledger).await.unwrap(), [checkpoint(5)]);
    let entries = PartitionId::new("entries");
    assert_eq!(books.witnesses(&entries).await.unwrap(), [witness(5), witness(3)]);
    books.reset_checkpoint(&ledger, &checkpoint(0)).await.unwrap();
    assert!(books.witnesses(&entries).await.unwrap().is_empty());
}
