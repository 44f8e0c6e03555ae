//! What is kept, where the bookkeeping's suite does not look.

use outbox::{
    Bookkeeping, Key, Lane, Operator, Position,
    bookkeeping::{Front, FrontState, HealthState, Keep, KeptContent, RouteHealth, SettleOutcome, Settlement},
    entry::Undecodable,
};

use crate::fixture::{Fresh, entries, ledger, take};

fn lane() -> Lane {
    Lane::Key(Key::new("a").unwrap())
}

fn keep(rows: std::ops::RangeInclusive<u64>) -> Keep {
    let row = |number: u64| {
        let (id, key) = (format!("row/{number}").into(), Some(Key::new("a").unwrap()));
        let row = Undecodable { id, key, reason: "r".to_owned(), raw: b"raw"[..].into() };
        (KeptContent::Undecodable(row), Position::new(number.to_string()))
    };
    let failed_since = "2026-11-21T09:30:00.123456789Z".parse().unwrap();
    let front = Front { state: FrontState::Dead, attempts: 7, failed_since, reason: "said no".to_owned() };
    Keep { lane: lane(), front: Some(front), events: rows.map(row).collect() }
}

#[tokio::test]
async fn what_was_said_of_a_discarded_front_does_not_apply_to_the_event_behind_it() {
    let fresh = Fresh::new().await;
    let books = fresh.open().await;
    let lease = take(&books).await;
    books.keep(&lease, &ledger(), &entries(), &keep(1..=1)).await.unwrap();
    let trouble = books.trouble(&ledger(), &lane()).await.unwrap().unwrap();
    let remove = vec![books.kept(&ledger(), &lane(), 1).await.unwrap().remove(0).id];
    let settlement =
        Settlement { lane: lane(), generation: trouble.generation, remove, apart: None, discarded: true, front: None };
    assert_eq!(books.settle(&lease, &ledger(), &settlement).await.unwrap(), SettleOutcome::Released);
    let again = keep(1..=3);
    books.keep(&lease, &ledger(), &entries(), &again).await.unwrap();
    let front = books.trouble(&ledger(), &lane()).await.unwrap().unwrap().front;
    let told = again.front.unwrap();
    let untried = Front { state: FrontState::Retrying { due: told.failed_since }, attempts: 0, ..told };
    assert_eq!(front, untried);
}

#[tokio::test]
async fn long_names_long_positions_and_texts_of_any_kind_are_kept() {
    let fresh = Fresh::new().await;
    let books = fresh.open().await;
    let lease = take(&books).await;
    let key = "ü".repeat(256);
    let row = |number: u64| {
        let id = format!("{}{number}", "x".repeat(1_000)).into();
        let row =
            Undecodable { id, key: Some(Key::new(&key).unwrap()), reason: "a\0b".to_owned(), raw: vec![0, 255].into() };
        // Random, or it would be compressed: the position of a snapshot with many transactions under way is so long.
        let numbers = (0..2_000).map(|n| ((n * 7_919 + number) * 104_729 % 1_000_003).to_string());
        let position = numbers.collect::<Vec<_>>().join(",");
        (KeptContent::Undecodable(row), Position::new(position))
    };
    let reason = "the target said \0 and \u{1f600}".to_owned();
    let front = Front { state: FrontState::Dead, attempts: u32::MAX, failed_since: jiff::Timestamp::MAX, reason };
    let keep =
        Keep { lane: Lane::Key(Key::new(&key).unwrap()), front: Some(front), events: (1..=3).map(row).collect() };
    for _ in 0..2 {
        books.keep(&lease, &ledger(), &entries(), &keep).await.unwrap();
    }
    let kept = books.kept(&ledger(), &keep.lane, 10).await.unwrap();
    let found: Vec<_> = kept.iter().map(|kept| (kept.content.id(), &kept.position)).collect();
    let expected: Vec<_> = keep.events.iter().map(|(content, position)| (content.id(), position)).collect();
    assert_eq!(found, expected);
    let front = books.trouble(&ledger(), &keep.lane).await.unwrap().unwrap().front;
    assert_eq!(front.reason, "the target said \u{fffd} and \u{1f600}");
    assert_eq!((front.attempts, front.failed_since), (u32::MAX, jiff::Timestamp::MAX));
    let stopped = HealthState::Stopped { reason: "\0".to_owned() };
    let health = RouteHealth { state: stopped, since: jiff::Timestamp::MIN };
    books.note_health(&lease, &ledger(), &health).await.unwrap();
    assert_eq!(books.erase(&Key::new(&key).unwrap()).await.unwrap(), 3);
    let tombstones = books.tombstones(&ledger()).await.unwrap();
    books.forget_tombstones(&lease, &ledger(), &tombstones[..2]).await.unwrap();
    assert_eq!(books.tombstones(&ledger()).await.unwrap(), tombstones[2..]);
}
