//! Settling: the front goes, the rest stays, and nothing is stranded.

use std::sync::Arc;

use crate::{
    bookkeeping::{Apart, Bookkeeping, Front, Keep, KeepOutcome, Lane, Lease, SettleOutcome, Settlement},
    testing::{
        conformance::{RACES, in_time},
        sample::{dead, keep, kept_ids, lane, partition, position, retrying, route, settlement, take, trouble},
    },
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Bookkeeping>) {
    checks! {
        "`Bookkeeping::settle` removes what is done from the front of a lane, and releases the lane if nothing is left." => {
            what_is_done_goes_from_the_front(fresh().await);
            the_last_one_releases_the_lane(fresh().await);
            a_front_fares_as_settled(fresh().await);
        }
        "All may be repeated, as after a lost answer." => {
            a_settlement_can_be_repeated(fresh().await);
        }
        "`Settlement::generation`: the trouble that the keeper knows; if it is another one by now, nothing is done." => {
            a_settlement_of_another_trouble_does_nothing(fresh().await);
        }
        "`Settlement::apart`: a dead letter that its key goes on without moves to this lane, in the same transaction." => {
            a_dead_letter_moves_to_a_lane_of_its_own(fresh().await);
            a_move_can_be_repeated(fresh().await);
            a_dead_letter_moves_behind_what_its_lane_has(fresh().await);
        }
        "Discarded events leave a tombstone, so that a restart that reads them again does not publish them." => {
            a_discarded_event_leaves_a_tombstone(fresh().await);
            a_discarded_event_is_not_kept_again(fresh().await);
        }
        "`Bookkeeping::forget_tombstones` forgets these tombstones, and no other of the same event id." => {
            tombstones_can_be_forgotten(fresh().await);
        }
        "Releasing and parking exclude each other." => {
            a_park_before_the_release_keeps_the_lane(fresh().await);
            a_park_after_the_release_finds_the_key_free(fresh().await);
            release_and_park_never_strand_an_event(fresh().await);
        }
    }
}

async fn keep_it(bookkeeping: &dyn Bookkeeping, lease: &Lease, keep: &Keep) -> KeepOutcome {
    bookkeeping.keep(lease, &route("a"), &partition(), keep).await.expect("the owner keeps events")
}

async fn settle(bookkeeping: &dyn Bookkeeping, lease: &Lease, settlement: &Settlement) -> SettleOutcome {
    bookkeeping.settle(lease, &route("a"), settlement).await.expect("the owner settles")
}

/// The settlement of the first `done` events of `k` as it stands.
async fn first(bookkeeping: &Arc<dyn Bookkeeping>, done: usize, front: Option<Front>) -> Settlement {
    settlement(bookkeeping, &route("a"), &lane("k"), done, front).await
}

async fn left(bookkeeping: &dyn Bookkeeping) -> Vec<String> {
    kept_ids(bookkeeping, &route("a"), &lane("k")).await
}

/// What is removed is gone, and what is behind it stays, in order.
pub async fn what_is_done_goes_from_the_front(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "what is done goes from the front";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1, 2, 3, 4])).await;
    let done = first(&bookkeeping, 2, None).await;
    assert_eq!(settle(&*bookkeeping, &lease, &done).await, SettleOutcome::Left(2), "{RULE}");
    assert_eq!(left(&*bookkeeping).await, ["k@1.3.0", "k@1.4.0"], "{RULE}");
    let found = trouble(&*bookkeeping, &route("a"), &lane("k")).await;
    assert_eq!((found.kept, found.generation), (2, done.generation), "{RULE}: it is the same trouble");
    let none = first(&bookkeeping, 0, None).await;
    assert_eq!(settle(&*bookkeeping, &lease, &none).await, SettleOutcome::Left(2), "{RULE}: nothing, if nothing is");
}

/// A lane with nothing left is no longer in trouble, from the same moment on.
pub async fn the_last_one_releases_the_lane(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "the last one releases the lane";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1, 2])).await;
    let done = first(&bookkeeping, 2, Some(retrying(0))).await;
    assert_eq!(settle(&*bookkeeping, &lease, &done).await, SettleOutcome::Released, "{RULE}");
    let found = bookkeeping.trouble(&route("a"), &lane("k")).await.expect("a trouble can be looked at");
    assert_eq!((found, left(&*bookkeeping).await.len()), (None, 0), "{RULE}");
    let troubles = bookkeeping.troubles(&route("a"), None, 10).await.expect("troubles can be read");
    assert_eq!(troubles, [], "{RULE}");
}

/// The front takes the state that the settlement gives, and keeps its own if that gives none.
pub async fn a_front_fares_as_settled(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a front fares as settled";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1, 2, 3])).await;
    for front in [retrying(2), dead(3), retrying(4)] {
        let fared = first(&bookkeeping, 0, Some(front.clone())).await;
        assert_eq!(settle(&*bookkeeping, &lease, &fared).await, SettleOutcome::Left(3), "{RULE}");
        assert_eq!(trouble(&*bookkeeping, &route("a"), &lane("k")).await.front, front, "{RULE}");
    }
    let done = first(&bookkeeping, 1, None).await;
    settle(&*bookkeeping, &lease, &done).await;
    assert_eq!(trouble(&*bookkeeping, &route("a"), &lane("k")).await.front, retrying(4), "{RULE}: or as before");
}

/// A settlement that is repeated, as after a lost answer, removes nothing more.
pub async fn a_settlement_can_be_repeated(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a settlement can be repeated";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1, 2, 3])).await;
    let done = first(&bookkeeping, 1, Some(retrying(7))).await;
    for _ in 0..3 {
        assert_eq!(settle(&*bookkeeping, &lease, &done).await, SettleOutcome::Left(2), "{RULE}");
    }
    assert_eq!(left(&*bookkeeping).await, ["k@1.2.0", "k@1.3.0"], "{RULE}");
    let rest = first(&bookkeeping, 2, None).await;
    assert_eq!(settle(&*bookkeeping, &lease, &rest).await, SettleOutcome::Released, "{RULE}");
    let again = settle(&*bookkeeping, &lease, &rest).await;
    assert_eq!(again, SettleOutcome::Changed, "{RULE}: the trouble is over");
}

/// A late settlement touches no later trouble of the same lane.
pub async fn a_settlement_of_another_trouble_does_nothing(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a settlement of another trouble does nothing";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1])).await;
    let late = first(&bookkeeping, 1, Some(dead(9))).await;
    assert_eq!(settle(&*bookkeeping, &lease, &late).await, SettleOutcome::Released, "{RULE}: (it was released)");
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(2)), [2, 3])).await;
    let kept = bookkeeping.kept(&route("a"), &lane("k"), 10).await.expect("kept events can be read");
    let late = Settlement { remove: kept.iter().map(|kept| kept.id).collect(), ..late };
    assert_eq!(settle(&*bookkeeping, &lease, &late).await, SettleOutcome::Changed, "{RULE}");
    assert_eq!(left(&*bookkeeping).await, ["k@1.2.0", "k@1.3.0"], "{RULE}");
    assert_eq!(trouble(&*bookkeeping, &route("a"), &lane("k")).await.front, retrying(2), "{RULE}");
    let nowhere = Settlement { lane: lane("nowhere"), ..late };
    assert_eq!(settle(&*bookkeeping, &lease, &nowhere).await, SettleOutcome::Changed, "{RULE}: nor of none");
}

/// The settlement that moves the first event of `k` to a lane of its own.
async fn moved(bookkeeping: &Arc<dyn Bookkeeping>, front: Option<Front>) -> Settlement {
    let apart = Apart::of(Lane::Event("k@1.1.0".into()), dead(5));
    Settlement { apart: Some(apart), ..first(bookkeeping, 1, front).await }
}

async fn kept_apart(bookkeeping: &Arc<dyn Bookkeeping>) -> (Front, Vec<String>) {
    let lane = Lane::Event("k@1.1.0".into());
    let found = trouble(&**bookkeeping, &route("a"), &lane).await;
    let ids = kept_ids(&**bookkeeping, &route("a"), &lane).await;
    assert_eq!(found.kept, ids.len() as u64, "a lane counts what it has");
    (found.front, ids)
}

/// It is a dead letter there, alone, and its key's lane goes on or is released.
pub async fn a_dead_letter_moves_to_a_lane_of_its_own(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a dead letter moves to a lane of its own";
    let lease = take(&*bookkeeping, "relay").await;
    for (events, outcome) in [(vec![1, 2], SettleOutcome::Left(1)), (vec![1], SettleOutcome::Released)] {
        keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), events.clone())).await;
        let settlement = moved(&bookkeeping, Some(retrying(7))).await;
        assert_eq!(settle(&*bookkeeping, &lease, &settlement).await, outcome, "{RULE}");
        assert_eq!(kept_apart(&bookkeeping).await, (dead(5), vec!["k@1.1.0".to_owned()]), "{RULE}");
        let rest: Vec<_> = events[1..].iter().map(|number| format!("k@1.{number}.0")).collect();
        assert_eq!(left(&*bookkeeping).await, rest, "{RULE}: what waits behind it stays");
        let kept = bookkeeping.kept(&route("a"), &Lane::Event("k@1.1.0".into()), 1).await.expect("it can be read");
        assert_eq!((&kept[0].partition, &kept[0].position), (&partition(), &position(1)), "{RULE}: as it was");
        for name in [lane("k"), Lane::Event("k@1.1.0".into())] {
            let done = settlement_of_all(&bookkeeping, name).await;
            settle(&*bookkeeping, &lease, &done).await;
        }
    }
}

async fn settlement_of_all(bookkeeping: &Arc<dyn Bookkeeping>, lane: Lane) -> Settlement {
    let found = bookkeeping.trouble(&route("a"), &lane).await.expect("a trouble can be looked at");
    let generation = found.map_or(0, |trouble| trouble.generation);
    let kept = bookkeeping.kept(&route("a"), &lane, 10).await.expect("kept events can be read");
    let remove = kept.iter().map(|kept| kept.id).collect();
    Settlement { lane, generation, remove, apart: None, discarded: false, front: None }
}

/// After a lost answer it moves no second time.
pub async fn a_move_can_be_repeated(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a move can be repeated";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1, 2])).await;
    let settlement = moved(&bookkeeping, Some(retrying(7))).await;
    for _ in 0..3 {
        assert_eq!(settle(&*bookkeeping, &lease, &settlement).await, SettleOutcome::Left(1), "{RULE}");
        assert_eq!(kept_apart(&bookkeeping).await.1, ["k@1.1.0"], "{RULE}");
    }
    let late = Settlement { generation: settlement.generation + 1, ..moved(&bookkeeping, None).await };
    assert_eq!(settle(&*bookkeeping, &lease, &late).await, SettleOutcome::Changed, "{RULE}: nor of another trouble");
    assert_eq!(left(&*bookkeeping).await, ["k@1.2.0"], "{RULE}");
}

/// Where the lane is there already, its front stays in front, and a copy of what it has is no second event.
pub async fn a_dead_letter_moves_behind_what_its_lane_has(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a dead letter moves behind what its lane has";
    let lease = take(&*bookkeeping, "relay").await;
    let own = Lane::Event("k@1.1.0".into());
    let apart = |numbers: &[u64]| Keep { lane: own.clone(), ..keep("k", Some(dead(3)), numbers.to_vec()) };
    for numbers in [&[9][..], &[9, 1]] {
        keep_it(&*bookkeeping, &lease, &apart(numbers)).await;
        keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1, 2])).await;
        let settlement = moved(&bookkeeping, Some(retrying(7))).await;
        assert_eq!(settle(&*bookkeeping, &lease, &settlement).await, SettleOutcome::Left(1), "{RULE}");
        let there = vec!["k@1.9.0".to_owned(), "k@1.1.0".to_owned()];
        assert_eq!(kept_apart(&bookkeeping).await, (dead(3), there), "{RULE}");
        for name in [lane("k"), own.clone()] {
            let done = settlement_of_all(&bookkeeping, name).await;
            settle(&*bookkeeping, &lease, &done).await;
        }
    }
}

/// Keeps two events and discards the first.
async fn discard_first(bookkeeping: &Arc<dyn Bookkeeping>, lease: &Lease) {
    keep_it(&**bookkeeping, lease, &keep("k", Some(dead(1)), [1, 2])).await;
    let discarded = Settlement { discarded: true, ..first(bookkeeping, 1, Some(retrying(0))).await };
    assert_eq!(settle(&**bookkeeping, lease, &discarded).await, SettleOutcome::Left(1), "one of two was discarded");
}

/// Id, partition and position of a discarded event are remembered; those of a published one are not.
pub async fn a_discarded_event_leaves_a_tombstone(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a discarded event leaves a tombstone, a published one none";
    let lease = take(&*bookkeeping, "relay").await;
    discard_first(&bookkeeping, &lease).await;
    let published = first(&bookkeeping, 1, None).await;
    settle(&*bookkeeping, &lease, &published).await;
    let tombstones = bookkeeping.tombstones(&route("a")).await.expect("tombstones can be read");
    assert_eq!(tombstones, [("k@1.1.0".into(), partition(), position(1))], "{RULE}");
    let elsewhere = bookkeeping.tombstones(&route("b")).await.expect("tombstones can be read");
    assert_eq!(elsewhere, [], "{RULE}: of this route only");
}

/// A restart that reads a discarded event again does not bring it back.
pub async fn a_discarded_event_is_not_kept_again(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a discarded event is not kept again";
    let lease = take(&*bookkeeping, "relay").await;
    discard_first(&bookkeeping, &lease).await;
    keep_it(&*bookkeeping, &lease, &keep("k", None, [1, 2, 3])).await;
    assert_eq!(left(&*bookkeeping).await, ["k@1.2.0", "k@1.3.0"], "{RULE}: behind what is kept");
    let rest = first(&bookkeeping, 2, None).await;
    assert_eq!(settle(&*bookkeeping, &lease, &rest).await, SettleOutcome::Released, "{RULE}: (it was released)");
    let outcome = keep_it(&*bookkeeping, &lease, &keep("k", Some(dead(1)), [1])).await;
    assert!(
        matches!(outcome, KeepOutcome::Stored { .. }),
        "{RULE}: it is dealt with, not to be published: {outcome:?}"
    );
    assert_eq!(left(&*bookkeeping).await.len(), 0, "{RULE}: on a free lane");
    let found = bookkeeping.trouble(&route("a"), &lane("k")).await.expect("a trouble can be looked at");
    assert_eq!(found, None, "{RULE}: there is no trouble without an event");
}

/// Once the checkpoint is past them tombstones go, those that are named and no others.
pub async fn tombstones_can_be_forgotten(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "tombstones can be forgotten";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(dead(1)), [1, 2, 3])).await;
    let discarded = Settlement { discarded: true, ..first(&bookkeeping, 3, None).await };
    assert_eq!(settle(&*bookkeeping, &lease, &discarded).await, SettleOutcome::Released, "{RULE}: (all three)");
    let of = |id: &str, number| (id.into(), partition(), position(number));
    // The second one's id, at a position where another event had it.
    let passed = [of("k@1.1.0", 1), of("k@1.3.0", 3), of("unknown", 1), of("k@1.2.0", 1)];
    for _ in 0..2 {
        bookkeeping
            .forget_tombstones(&lease, &route("a"), &passed)
            .await
            .expect("tombstones can be forgotten, and again");
        let tombstones = bookkeeping.tombstones(&route("a")).await.expect("tombstones can be read");
        let left: Vec<_> = tombstones.iter().map(|(id, ..)| &**id).collect();
        assert_eq!(left, ["k@1.2.0"], "{RULE}: only those that are named");
    }
}

/// What was parked while the keeper settled what it knew of keeps the lane in trouble.
pub async fn a_park_before_the_release_keeps_the_lane(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a park before the release keeps the lane";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1])).await;
    let done = first(&bookkeeping, 1, None).await;
    let parked = keep_it(&*bookkeeping, &lease, &keep("k", None, [2])).await;
    assert_eq!(parked, KeepOutcome::Stored { generation: done.generation }, "{RULE}: it is the same trouble");
    assert_eq!(settle(&*bookkeeping, &lease, &done).await, SettleOutcome::Left(1), "{RULE}");
    assert_eq!(left(&*bookkeeping).await, ["k@1.2.0"], "{RULE}");
}

/// What comes to be parked after the release is published instead.
pub async fn a_park_after_the_release_finds_the_key_free(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a park after the release finds the key free";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [1])).await;
    let done = first(&bookkeeping, 1, None).await;
    assert_eq!(settle(&*bookkeeping, &lease, &done).await, SettleOutcome::Released, "{RULE}: (it was released)");
    assert_eq!(keep_it(&*bookkeeping, &lease, &keep("k", None, [2])).await, KeepOutcome::KeyFree, "{RULE}");
    assert_eq!(left(&*bookkeeping).await.len(), 0, "{RULE}: nothing was stored");
}

/// At the same moment, over and over: either the event is parked in a lane that stays in trouble, or its key is free.
pub async fn release_and_park_never_strand_an_event(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "release and park never strand an event";
    let lease = take(&*bookkeeping, "relay").await;
    for round in 0..RACES as u64 {
        let (front, behind) = (2 * round + 1, 2 * round + 2);
        keep_it(&*bookkeeping, &lease, &keep("k", Some(retrying(1)), [front])).await;
        let done = first(&bookkeeping, 1, None).await;
        let releasing = tokio::spawn({
            let (bookkeeping, lease) = (bookkeeping.clone(), lease.clone());
            async move { settle(&*bookkeeping, &lease, &done).await }
        });
        let parking = tokio::spawn({
            let (bookkeeping, lease) = (bookkeeping.clone(), lease.clone());
            async move { keep_it(&*bookkeeping, &lease, &keep("k", None, [behind])).await }
        });
        let released = in_time(RULE, releasing).await.expect("a settlement does not panic");
        let parked = in_time(RULE, parking).await.expect("a keep does not panic");
        let kept = left(&*bookkeeping).await;
        match (released, parked) {
            (SettleOutcome::Left(1), KeepOutcome::Stored { .. }) => {
                assert_eq!(kept, [format!("k@1.{behind}.0")], "{RULE}: it was parked");
                let rest = first(&bookkeeping, 1, None).await;
                assert_eq!(settle(&*bookkeeping, &lease, &rest).await, SettleOutcome::Released, "{RULE}: and goes out");
            }
            (SettleOutcome::Released, KeepOutcome::KeyFree) => assert_eq!(kept.len(), 0, "{RULE}: its key was free"),
            both => panic!("{RULE}: {both:?} contradict each other"),
        }
    }
}
