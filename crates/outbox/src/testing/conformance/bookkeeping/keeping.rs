//! Keeping: what is stored comes back whole and in order, once.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use crate::{
    bookkeeping::{Bookkeeping, Keep, KeepOutcome, KeptContent, KeptCounts, Lane, Lease, SettleOutcome, Settlement},
    entry::{Position, Undecodable},
    event::NewEvent,
    route::RouteName,
    testing::{
        conformance::writer::edges::look_alikes,
        sample::{
            at, dead, event_of, event_without_key, keep, kept_ids, key, lane, partition, position, retrying, route,
            settlement, take, trouble,
        },
    },
};

/// Runs every check of this room.
pub async fn all(fresh: &impl AsyncFn() -> Arc<dyn Bookkeeping>) {
    checks! {
        "`Bookkeeping::keep` stores events of one lane, whole: a full copy." => {
            keeping_opens_a_trouble(fresh().await);
            what_is_kept_comes_back_whole(fresh().await);
            a_row_that_cannot_be_read_can_be_kept(fresh().await);
        }
        "Order: kept events of a lane come back in the order of keeping." => {
            events_come_back_in_the_order_of_keeping(fresh().await);
        }
        "An event whose id is kept already is left as it is." => {
            keeping_again_changes_nothing(fresh().await);
            keeping_more_adds_only_what_is_new(fresh().await);
            an_id_that_was_given_twice_is_kept_twice(fresh().await);
            a_record_is_known_again_however_it_was_read(fresh().await);
        }
        "`KeepOutcome::KeyFree`: there was nothing to park behind; nothing was stored." => {
            parking_on_a_free_lane_stores_nothing(fresh().await);
        }
        "A key in trouble holds back only itself (contract 3)." => {
            lanes_and_routes_are_apart(fresh().await);
            keys_that_look_alike_are_other_lanes(fresh().await);
            an_event_can_be_kept_in_a_lane_of_its_own(fresh().await);
        }
        "`Bookkeeping::troubles`: the route's lanes in trouble, `limit` of them at most, by lane, behind `after`." => {
            troubles_can_be_paged_through(fresh().await);
            paging_goes_on_behind_a_lane_that_is_gone(fresh().await);
            limits_hold_at_their_edges(fresh().await);
        }
        "`Bookkeeping::kept_counts`: what a route keeps, in numbers." => {
            kept_events_are_counted(fresh().await);
        }
        "`Trouble::generation`: which trouble of this lane it is, in the bookkeeping's life; never reused." => {
            a_generation_is_never_given_again(fresh().await);
        }
    }
}

async fn keep_it(bookkeeping: &dyn Bookkeeping, lease: &Lease, name: &str, keep: &Keep) -> KeepOutcome {
    bookkeeping.keep(lease, &route(name), &partition(), keep).await.expect("the owner keeps events")
}

async fn counts(bookkeeping: &dyn Bookkeeping, route: &RouteName) -> KeptCounts {
    bookkeeping.kept_counts(route).await.expect("kept events can be counted")
}

/// The first keep of a lane, with a front, makes a trouble of it.
pub async fn keeping_opens_a_trouble(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "keeping opens a trouble";
    let lease = take(&*bookkeeping, "relay").await;
    let none = bookkeeping.trouble(&route("a"), &lane("k")).await.expect("a trouble can be looked at");
    assert_eq!(none, None, "{RULE}: there is none before");
    for (key, front) in [("k", retrying(3)), ("l", dead(7))] {
        let outcome = keep_it(&*bookkeeping, &lease, "a", &keep(key, Some(front.clone()), [1, 2, 3])).await;
        let found = trouble(&*bookkeeping, &route("a"), &lane(key)).await;
        assert_eq!(outcome, KeepOutcome::Stored { generation: found.generation }, "{RULE}: and says which");
        assert_eq!((found.front, found.kept, found.lane), (front, 3, lane(key)), "{RULE}");
    }
}

/// A producer may give an id twice within a key: both events are kept, and discarding one leaves the other.
pub async fn an_id_that_was_given_twice_is_kept_twice(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "an id that was given twice is kept twice";
    let lease = take(&*bookkeeping, "relay").await;
    let event = |sequence| {
        let new = NewEvent::builder("t").key("k").id("42").build().expect("the sample is valid");
        (KeptContent::Event(event_of(new, sequence)), position(sequence))
    };
    let both = Keep { lane: lane("k"), front: Some(dead(1)), events: vec![event(5), event(6)] };
    for _ in 0..2 {
        keep_it(&*bookkeeping, &lease, "a", &both).await;
        assert_eq!(kept_ids(&*bookkeeping, &route("a"), &lane("k")).await, ["42", "42"], "{RULE}: and each once");
    }
    let first = settlement(&bookkeeping, &route("a"), &lane("k"), 2, None).await;
    let discarded = Settlement { discarded: true, remove: first.remove[..1].to_vec(), ..first };
    bookkeeping.settle(&lease, &route("a"), &discarded).await.expect("the owner settles");
    let park = Keep { front: None, events: vec![event(5), event(6), event(7)], ..both };
    keep_it(&*bookkeeping, &lease, "a", &park).await;
    let kept = bookkeeping.kept(&route("a"), &lane("k"), 10).await.expect("kept events can be read");
    let positions: Vec<_> = kept.into_iter().map(|kept| kept.position).collect();
    assert_eq!(positions, [position(6), position(7)], "{RULE}: only the first was discarded");
}

/// A position may say how its record was come by ([`Position::record`]): who reads it again after a crash comes by it
/// otherwise, and it is the same event.
pub async fn a_record_is_known_again_however_it_was_read(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a record is known again however it was read";
    let lease = take(&*bookkeeping, "relay").await;
    let read = |how: &str| {
        let sample = keep("k", Some(dead(1)), [1]);
        let events = sample.events.iter().map(|(content, _)| (content.clone(), Position::new(format!("7@{how}"))));
        Keep { events: events.collect(), ..sample }
    };
    for how in ["one/way", "another"] {
        keep_it(&*bookkeeping, &lease, "a", &read(how)).await;
        assert_eq!(kept_ids(&*bookkeeping, &route("a"), &lane("k")).await, ["k@1.1.0"], "{RULE}: kept once");
    }
    let gone = settlement(&bookkeeping, &route("a"), &lane("k"), 1, None).await;
    let discarded = Settlement { discarded: true, ..gone };
    bookkeeping.settle(&lease, &route("a"), &discarded).await.expect("the owner settles");
    keep_it(&*bookkeeping, &lease, "a", &read("a/third")).await;
    assert!(kept_ids(&*bookkeeping, &route("a"), &lane("k")).await.is_empty(), "{RULE}: it stays discarded");
}

/// A kept event is a full copy: whatever it was made of comes back, with partition and position.
pub async fn what_is_kept_comes_back_whole(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "what is kept comes back whole";
    let lease = take(&*bookkeeping, "relay").await;
    let full = |content_type: &str, bytes: &'static [u8]| {
        let builder = NewEvent::builder("order.placed").key("k").subject("s").time(at(5)).schema("https://a.example/b");
        let builder =
            builder.extension("number", 7).extension("flag", true).extension("text", "ü").trace_parent("00-1");
        builder.bytes(content_type, bytes).build().expect("the sample is valid")
    };
    let plain = NewEvent::builder("t").key("k").build().expect("the sample is valid");
    let events = [
        full("application/json", b"{\"a\" : 1.50}"),
        full("application/json", b"not json"),
        full("application/octet-stream", b"\xff\x00"),
        full("text/plain", b""),
        plain,
    ];
    let contents: Vec<_> = events.into_iter().zip(1..).map(|(new, n)| KeptContent::Event(event_of(new, n))).collect();
    let placed = contents.iter().cloned().zip((1..).map(position)).collect();
    keep_it(&*bookkeeping, &lease, "a", &Keep { lane: lane("k"), front: Some(dead(1)), events: placed }).await;
    let kept = bookkeeping.kept(&route("a"), &lane("k"), 10).await.expect("kept events can be read");
    assert_eq!(kept.len(), contents.len(), "{RULE}");
    for ((kept, content), number) in kept.iter().zip(&contents).zip(1..) {
        assert_eq!(kept.content, *content, "{RULE}: event {number}");
        if let (KeptContent::Event(kept), KeptContent::Event(event)) = (&kept.content, content) {
            assert_eq!(kept.data(), event.data(), "{RULE}: payload {number}");
        }
        assert_eq!((&kept.partition, &kept.position), (&partition(), &position(number)), "{RULE}: its position");
    }
}

/// A row that a foreign writer filled with rubbish is kept like an event, with its bytes.
pub async fn a_row_that_cannot_be_read_can_be_kept(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a row that cannot be read can be kept";
    let lease = take(&*bookkeeping, "relay").await;
    for (id, key) in [("row/1", Some(key("k"))), ("row/2", None)] {
        let raw = Bytes::from_static(b"\x00\xffrubbish");
        let row = Undecodable { id: id.into(), key, reason: "type: it is a number".to_owned(), raw };
        let lane = Lane::of_undecodable(&row);
        let content = KeptContent::Undecodable(row);
        let events = vec![(content.clone(), position(1))];
        keep_it(&*bookkeeping, &lease, "a", &Keep { lane: lane.clone(), front: Some(dead(0)), events }).await;
        let kept = bookkeeping.kept(&route("a"), &lane, 10).await.expect("kept events can be read");
        let contents: Vec<_> = kept.into_iter().map(|kept| kept.content).collect();
        assert_eq!(contents, [content], "{RULE}");
    }
}

/// However many calls stored them, the events of a lane come back front first, with rising numbers, and no more than
/// asked for.
pub async fn events_come_back_in_the_order_of_keeping(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "events come back in the order of keeping";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", Some(retrying(1)), [8, 9, 10])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("other", Some(retrying(1)), [1])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", None, [11, 100])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", None, [101])).await;
    let kept = bookkeeping.kept(&route("a"), &lane("k"), 100).await.expect("kept events can be read");
    let ids: Vec<_> = kept.iter().map(|kept| kept.content.id().to_owned()).collect();
    assert_eq!(ids, [8, 9, 10, 11, 100, 101].map(|n| format!("k@1.{n}.0")), "{RULE}");
    assert!(kept.is_sorted_by(|left, right| left.id < right.id), "{RULE}: numbers rise");
    let first = bookkeeping.kept(&route("a"), &lane("k"), 2).await.expect("kept events can be read");
    assert_eq!(first, kept[..2], "{RULE}: the first so many");
}

/// A keep that is repeated, as after a lost answer or by a restart that reads again, stores nothing twice and leaves
/// the front as it is by now.
pub async fn keeping_again_changes_nothing(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "keeping again changes nothing";
    let lease = take(&*bookkeeping, "relay").await;
    let again = keep("k", Some(retrying(1)), [1, 2]);
    let first = keep_it(&*bookkeeping, &lease, "a", &again).await;
    let failed = settlement(&bookkeeping, &route("a"), &lane("k"), 0, Some(dead(5))).await;
    bookkeeping.settle(&lease, &route("a"), &failed).await.expect("the owner settles");
    let before = trouble(&*bookkeeping, &route("a"), &lane("k")).await;
    for repeated in [&again, &keep("k", None, [1, 2]), &keep("k", None, [2])] {
        assert_eq!(keep_it(&*bookkeeping, &lease, "a", repeated).await, first, "{RULE}: it is the same trouble");
        assert_eq!(trouble(&*bookkeeping, &route("a"), &lane("k")).await, before, "{RULE}");
        let ids = kept_ids(&*bookkeeping, &route("a"), &lane("k")).await;
        assert_eq!(ids, ["k@1.1.0", "k@1.2.0"], "{RULE}");
    }
}

/// Where some events of a keep are there already, the others are added behind them.
pub async fn keeping_more_adds_only_what_is_new(bookkeeping: Arc<dyn Bookkeeping>) {
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", Some(retrying(1)), [1, 2])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", Some(retrying(1)), [1, 2, 3])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", None, [2, 3, 4])).await;
    let ids = kept_ids(&*bookkeeping, &route("a"), &lane("k")).await;
    assert_eq!(ids, [1, 2, 3, 4].map(|n| format!("k@1.{n}.0")), "keeping more adds only what is new");
}

/// With nothing to park behind, the answer says so and nothing is stored: nobody would ever release it.
pub async fn parking_on_a_free_lane_stores_nothing(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "parking on a free lane stores nothing";
    let lease = take(&*bookkeeping, "relay").await;
    let park = keep("k", None, [1, 2]);
    assert_eq!(keep_it(&*bookkeeping, &lease, "a", &park).await, KeepOutcome::KeyFree, "{RULE}");
    keep_it(&*bookkeeping, &lease, "a", &keep("k", Some(retrying(1)), [3])).await;
    let done = settlement(&bookkeeping, &route("a"), &lane("k"), 1, None).await;
    let released = bookkeeping.settle(&lease, &route("a"), &done).await.expect("the owner settles");
    assert_eq!(released, SettleOutcome::Released, "{RULE}: (the lane was released)");
    assert_eq!(keep_it(&*bookkeeping, &lease, "a", &park).await, KeepOutcome::KeyFree, "{RULE}: after a release");
    assert_eq!(kept_ids(&*bookkeeping, &route("a"), &lane("k")).await, Vec::<String>::new(), "{RULE}");
    assert_eq!(counts(&*bookkeeping, &route("a")).await, KeptCounts::default(), "{RULE}");
}

/// A key in trouble concerns no other key, no event without a key, and no other route.
pub async fn lanes_and_routes_are_apart(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "lanes and routes are apart";
    let lease = take(&*bookkeeping, "relay").await;
    keep_it(&*bookkeeping, &lease, "a", &keep("k", Some(retrying(1)), [1])).await;
    let parked = keep_it(&*bookkeeping, &lease, "a", &keep("K", None, [1])).await;
    assert_eq!(parked, KeepOutcome::KeyFree, "{RULE}: another key");
    let parked = keep_it(&*bookkeeping, &lease, "b", &keep("k", None, [1])).await;
    assert_eq!(parked, KeepOutcome::KeyFree, "{RULE}: another route");
    let keyless = KeptContent::Event(event_without_key("k"));
    let own = Keep { lane: keyless.lane(), front: None, events: vec![(keyless, position(1))] };
    assert_eq!(keep_it(&*bookkeeping, &lease, "a", &own).await, KeepOutcome::KeyFree, "{RULE}: an event without a key");
    let opened = Keep { front: Some(dead(1)), ..own };
    keep_it(&*bookkeeping, &lease, "a", &opened).await;
    assert_eq!(kept_ids(&*bookkeeping, &route("a"), &opened.lane).await, ["k"], "{RULE}");
    assert_eq!(kept_ids(&*bookkeeping, &route("a"), &lane("k")).await, ["k@1.1.0"], "{RULE}");
}

/// A dead letter that lets its key go on is kept apart from it: the lane is the one named, not that of the event's key.
pub async fn an_event_can_be_kept_in_a_lane_of_its_own(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "an event with a key can be kept in a lane of its own";
    let lease = take(&*bookkeeping, "relay").await;
    let own = Lane::Event("k@1.1.0".into());
    let apart = Keep { lane: own.clone(), ..keep("k", Some(dead(1)), [1]) };
    keep_it(&*bookkeeping, &lease, "a", &apart).await;
    assert_eq!(kept_ids(&*bookkeeping, &route("a"), &own).await, ["k@1.1.0"], "{RULE}");
    let parked = keep_it(&*bookkeeping, &lease, "a", &keep("k", None, [2])).await;
    assert_eq!(parked, KeepOutcome::KeyFree, "{RULE}: its key is free");
}

/// Paging by lane gives each trouble once, in the same order as all at once.
pub async fn troubles_can_be_paged_through(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "troubles can be paged through";
    let lease = take(&*bookkeeping, "relay").await;
    for number in [5, 3, 10, 1, 7] {
        keep_it(&*bookkeeping, &lease, "a", &keep(&format!("k{number}"), Some(retrying(1)), [1])).await;
    }
    let keyless = KeptContent::Event(event_without_key("no-key"));
    let own = Keep { lane: keyless.lane(), front: Some(dead(1)), events: vec![(keyless, position(1))] };
    keep_it(&*bookkeeping, &lease, "a", &own).await;
    keep_it(&*bookkeeping, &lease, "b", &keep("elsewhere", Some(retrying(1)), [1])).await;
    let whole = bookkeeping.troubles(&route("a"), None, 100).await.expect("troubles can be read");
    let lanes: BTreeSet<_> = whole.iter().map(|trouble| trouble.lane.clone()).collect();
    assert_eq!((whole.len(), lanes.len()), (6, 6), "{RULE}: each once, of this route only");
    for limit in 1..=6 {
        let mut paged = Vec::new();
        loop {
            let after = paged.last().map(|trouble: &crate::bookkeeping::Trouble| trouble.lane.clone());
            let page = bookkeeping.troubles(&route("a"), after.as_ref(), limit).await.expect("troubles can be read");
            assert!(page.len() <= limit, "{RULE}: {limit} at most");
            if page.is_empty() {
                break;
            }
            paged.extend(page);
            assert!(paged.len() <= whole.len(), "{RULE}: {limit} at a time, and come to an end");
        }
        assert_eq!(paged, whole, "{RULE}: {limit} at a time");
    }
}

/// Fronts by what they wait for, events behind them, lanes.
pub async fn kept_events_are_counted(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "kept events are counted";
    let lease = take(&*bookkeeping, "relay").await;
    assert_eq!(counts(&*bookkeeping, &route("a")).await, KeptCounts::default(), "{RULE}: none yet");
    keep_it(&*bookkeeping, &lease, "a", &keep("r", Some(retrying(1)), [1, 2])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("d", Some(dead(1)), [1, 2, 3])).await;
    keep_it(&*bookkeeping, &lease, "a", &keep("e", Some(dead(1)), [1])).await;
    keep_it(&*bookkeeping, &lease, "b", &keep("r", Some(retrying(1)), [1])).await;
    let expected = KeptCounts { retrying: 1, dead: 2, parked: 3, lanes: 3 };
    assert_eq!(counts(&*bookkeeping, &route("a")).await, expected, "{RULE}");
}

/// A lane's next trouble is another one, however the last one ended, so that nothing late is taken for the new one's.
pub async fn a_generation_is_never_given_again(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "a generation is never given again";
    let lease = take(&*bookkeeping, "relay").await;
    let mut given = BTreeSet::new();
    for round in 0..6 {
        let name = if round % 2 == 0 { "a" } else { "b" };
        let outcome = keep_it(&*bookkeeping, &lease, name, &keep("k", Some(retrying(1)), [round + 1])).await;
        let KeepOutcome::Stored { generation } = outcome else { panic!("{RULE}: a trouble is opened") };
        assert!(given.insert(generation), "{RULE}: {generation}");
        let done = settlement(&bookkeeping, &route(name), &lane("k"), 1, None).await;
        let settled = bookkeeping.settle(&lease, &route(name), &done).await.expect("the owner settles");
        assert_eq!(settled, SettleOutcome::Released, "{RULE}: (the lane was released)");
    }
}

/// Keys are told apart byte by byte, here as in the business store: one in trouble holds back no other that looks like it.
pub async fn keys_that_look_alike_are_other_lanes(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "keys that look alike are other lanes";
    let lease = take(&*bookkeeping, "relay").await;
    for name in look_alikes() {
        let parked = keep_it(&*bookkeeping, &lease, "a", &keep(&name, None, [1])).await;
        assert_eq!(parked, KeepOutcome::KeyFree, "{RULE}: `{name}` is free");
        keep_it(&*bookkeeping, &lease, "a", &keep(&name, Some(dead(1)), [1])).await;
    }
    for name in look_alikes() {
        let ids = kept_ids(&*bookkeeping, &route("a"), &lane(&name)).await;
        assert_eq!(ids, [format!("{name}@1.1.0")], "{RULE}");
    }
    let lanes = bookkeeping.troubles(&route("a"), None, 1_000).await.expect("troubles can be read");
    assert_eq!(lanes.len(), look_alikes().len(), "{RULE}");
}

/// A lane that was released since it was listed is a place to go on from all the same.
pub async fn paging_goes_on_behind_a_lane_that_is_gone(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "paging goes on behind a lane that is gone";
    let lease = take(&*bookkeeping, "relay").await;
    for name in ["k1", "k2", "k3", "k4"] {
        keep_it(&*bookkeeping, &lease, "a", &keep(name, Some(retrying(1)), [1])).await;
    }
    let listed = bookkeeping.troubles(&route("a"), None, 100).await.expect("troubles can be read");
    let gone = &listed[1].lane;
    let done = settlement(&bookkeeping, &route("a"), gone, 1, None).await;
    let released = bookkeeping.settle(&lease, &route("a"), &done).await.expect("the owner settles");
    assert_eq!(released, SettleOutcome::Released, "{RULE}: (the lane was released)");
    let behind = bookkeeping.troubles(&route("a"), Some(gone), 100).await.expect("troubles can be read");
    assert_eq!(behind, listed[2..], "{RULE}");
}

/// None, if none are asked for; all, if more are than can be.
pub async fn limits_hold_at_their_edges(bookkeeping: Arc<dyn Bookkeeping>) {
    const RULE: &str = "limits hold at their edges";
    let lease = take(&*bookkeeping, "relay").await;
    for name in ["k1", "k2"] {
        keep_it(&*bookkeeping, &lease, "a", &keep(name, Some(retrying(1)), 1..=3)).await;
    }
    for (limit, lanes, events) in [(0, 0, 0), (1, 1, 1), (usize::MAX, 2, 3)] {
        let troubles = bookkeeping.troubles(&route("a"), None, limit).await.expect("troubles can be read");
        let kept = bookkeeping.kept(&route("a"), &lane("k1"), limit).await.expect("kept events can be read");
        assert_eq!((troubles.len(), kept.len()), (lanes, events), "{RULE}: {limit}");
    }
}
