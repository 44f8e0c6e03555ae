//! Whether the contract was kept.

use std::collections::{BTreeMap, BTreeSet};

use outbox::{Place, event::SKIPPED};

use super::{
    arrivals::Arrival,
    ledger::payload,
    watch::Watch,
    world::{Break, World},
};

/// What a service did, as its ledger has it.
struct Expected<'l> {
    committed: &'l BTreeMap<String, Vec<String>>,
    places: &'l BTreeMap<String, Place>,
    rolled_back: &'l BTreeSet<String>,
    discarded: &'l BTreeSet<String>,
}

/// Everything that is wrong once everything is drained.
pub(super) fn at_the_end(world: &mut World) -> Vec<String> {
    let mut breaches = Vec::new();
    let arrivals = world.target.arrivals();
    let ledger = &world.ledger;
    let expected = Expected {
        committed: ledger.committed(),
        places: ledger.places(),
        rolled_back: ledger.rolled_back(),
        discarded: ledger.discarded(),
    };
    arrived(&expected, &arrivals, &mut breaches);
    as_committed(&expected, &arrivals, &mut breaches);
    repeated(world, &arrivals, &mut breaches);
    replayed(world, &arrivals, &mut breaches);
    owned(&world.watch, &mut breaches);
    let status = world.rig.status();
    if status["relay"]["released"] != true {
        breaches.push(format!("the lease is not given up: {}", status["relay"]));
    }
    world.tally.committed += world.ledger.count() as u64;
    world.tally.accepted += arrivals.iter().filter(|arrival| arrival.accepted).count() as u64;
    breaches
}

/// Every committed event, each key in the order of its commits, markers where events were discarded, and nothing else.
fn arrived(expected: &Expected<'_>, arrivals: &[Arrival], breaches: &mut Vec<String>) {
    let mut lanes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.accepted && arrival.replay.is_none()) {
        if (arrival.kind == SKIPPED) != expected.discarded.contains(&arrival.id) {
            breaches.push(format!("arrived as if it were or were not discarded: {arrival:?}"));
        }
        if seen.insert(&arrival.id) {
            let lane = arrival.key.clone().unwrap_or_else(|| format!("without a key: {}", arrival.id));
            lanes.entry(lane).or_default().push(&arrival.id);
        }
    }
    let nothing = Vec::new();
    for lane in expected.committed.keys().chain(lanes.keys()).collect::<BTreeSet<_>>() {
        let committed = expected.committed.get(lane).unwrap_or(&nothing);
        let found = lanes.get(lane).map(Vec::as_slice).unwrap_or_default();
        if committed != found {
            breaches.push(format!("`{lane}`: committed {committed:?}, first arrivals {found:?}"));
        }
    }
    for arrival in arrivals.iter().filter(|arrival| expected.rolled_back.contains(&arrival.id)) {
        breaches.push(format!("rolled back, and arrived: {arrival:?}"));
    }
}

/// Whatever arrived, be it refused or come again, is at its place and is what was committed there; a marker has the place
/// of what it stands for, and no payload.
fn as_committed(expected: &Expected<'_>, arrivals: &[Arrival], breaches: &mut Vec<String>) {
    for arrival in arrivals {
        let data = (arrival.kind != SKIPPED).then(|| payload(&arrival.id));
        let place = expected.places.get(&arrival.id).copied();
        if (arrival.data.as_deref(), arrival.place) != (data.as_deref(), place) {
            breaches.push(format!("committed at {place:?} with payload {data:?}, and arrived otherwise: {arrival:?}"));
        }
    }
}

/// No more came again after a crash than the status says.
fn repeated(world: &mut World, arrivals: &[Arrival], breaches: &mut Vec<String>) {
    let status = world.rig.status();
    let Some(bound) = status["routes"][0]["duplicates_after_crash"].as_u64() else {
        breaches.push(format!("the status does not say how many come again after a crash: {status}"));
        return;
    };
    for (again, allowed) in repetitions(&world.breaks, arrivals, bound, breaches) {
        world.tally.repeat(again, allowed);
    }
}

/// How often something came again before each break, and how often it might.
fn repetitions(breaks: &[Break], arrivals: &[Arrival], bound: u64, breaches: &mut Vec<String>) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut first = BTreeMap::new();
    let mut from = 0;
    // A request that the proxy delivers late may come after the relay's end: what was lost before counts, too.
    let (mut doubled, mut doubled_before) = (0, 0);
    let beginning = Break { arrivals: 0, doubled: 0, more: 0, whole: true, what: "the beginning".to_owned() };
    let mut before = &beginning;
    for end in breaks {
        let came = arrivals[..end.arrivals].iter().enumerate().skip(from);
        let published = came.filter(|(_, arrival)| arrival.accepted && arrival.replay.is_none());
        let seen: Vec<_> = published
            .filter_map(|(number, arrival)| {
                let first = *first.entry((&arrival.id, &arrival.kind)).or_insert(number);
                (first < number).then_some(first)
            })
            .collect();
        let again = seen.len();
        let allowed = usize::try_from(bound).unwrap() + before.more + (end.doubled - doubled_before);
        if again > allowed {
            breaches
                .push(format!("{again} came again between `{}` and `{}`, and {allowed} may", before.what, end.what));
        }
        let settled = seen.iter().filter(|first| **first < from).count();
        if before.whole && settled > 0 {
            breaches.push(format!("{settled} came again behind `{}`, which had left nothing to send", before.what));
        }
        found.push((again, allowed));
        from = end.arrivals;
        (doubled, doubled_before) = (end.doubled, doubled);
        before = end;
    }
    let late = &arrivals[from..];
    if !late.is_empty() {
        breaches.push(format!("arrived after the end: {late:?}"));
    }
    found
}

/// All of each replay.
fn replayed(world: &World, arrivals: &[Arrival], breaches: &mut Vec<String>) {
    for asked in &world.replays {
        let of_it = arrivals.iter().filter(|arrival| arrival.accepted && arrival.replay.as_ref() == Some(&asked.id));
        let came: BTreeSet<_> = of_it.filter_map(|arrival| arrival.place).collect();
        // A place is that of an entry: its first event.
        if asked.places.iter().any(|place| !came.contains(place)) {
            breaches.push(format!("asked for again {:?}, came again {came:?}", asked.places));
        }
    }
}

/// No checkpoint went back, and no epoch had two owners.
fn owned(watch: &Watch, breaches: &mut Vec<String>) {
    if let Some(pair) = watch.checkpoints().windows(2).find(|pair| pair[0] > pair[1]) {
        breaches.push(format!("a checkpoint (epoch, position) went back: {pair:?}"));
    }
    let mut owners: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for (epoch, holder) in watch.leases() {
        owners.entry(epoch).or_default().insert(holder);
    }
    for (epoch, holders) in owners.into_iter().filter(|(_, holders)| holders.len() > 1) {
        breaches.push(format!("epoch {epoch} had several owners: {holders:?}"));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;

    fn arrival(id: &str, kind: &str) -> Arrival {
        let (key, kind) = (Some("a".to_owned()), kind.to_owned());
        Arrival { id: id.to_owned(), key, place: None, kind, data: None, replay: None, relay: None, accepted: true }
    }

    /// What is wrong if key `a` has committed 1, 2 and 3, where 2 was discarded, and 4 was rolled back.
    fn wrong(arrivals: &[(&str, &str)]) -> Vec<String> {
        let named = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>();
        let committed = BTreeMap::from([("a".to_owned(), ["1", "2", "3"].map(str::to_owned).to_vec())]);
        let (rolled_back, discarded) = (named(&["4"]), named(&["2"]));
        let places = BTreeMap::new();
        let expected =
            Expected { committed: &committed, places: &places, rolled_back: &rolled_back, discarded: &discarded };
        let arrivals: Vec<_> = arrivals.iter().map(|(id, kind)| arrival(id, kind)).collect();
        let mut breaches = Vec::new();
        arrived(&expected, &arrivals, &mut breaches);
        breaches
    }

    const PLAIN: &str = "order.placed";

    #[test]
    fn what_is_whole_in_order_and_marked_is_right_though_it_comes_again() {
        assert_eq!(wrong(&[("1", PLAIN), ("2", SKIPPED), ("1", PLAIN), ("3", PLAIN)]), [""; 0]);
    }

    #[test]
    fn a_loss_an_inversion_a_ghost_and_a_missing_marker_are_wrong() {
        assert_ne!(wrong(&[("1", PLAIN), ("2", SKIPPED)]), [""; 0], "a loss");
        assert_ne!(wrong(&[("2", SKIPPED), ("1", PLAIN), ("3", PLAIN)]), [""; 0], "an inversion");
        assert_ne!(wrong(&[("1", PLAIN), ("2", SKIPPED), ("3", PLAIN), ("4", PLAIN)]), [""; 0], "a ghost");
        assert_ne!(wrong(&[("1", PLAIN), ("2", PLAIN), ("3", PLAIN)]), [""; 0], "no marker");
    }

    #[test]
    fn another_payload_another_place_and_a_marker_with_a_payload_are_wrong() {
        let place = Place::new(1, 1, 0);
        let (nothing, nobody, places) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::from([("1".to_owned(), place)]));
        let expected = Expected { committed: &nothing, places: &places, rolled_back: &nobody, discarded: &nobody };
        let wrong = |kind: &str, data: Option<&'static str>, place| {
            let data = data.map(|data| Bytes::from_static(data.as_bytes()));
            let mut breaches = Vec::new();
            as_committed(&expected, &[Arrival { place, data, ..arrival("1", kind) }], &mut breaches);
            breaches.len()
        };
        assert_eq!(wrong(PLAIN, Some("\"1\""), Some(place)), 0);
        assert_eq!(wrong(SKIPPED, None, Some(place)), 0);
        assert_eq!(wrong(PLAIN, Some("\"2\""), Some(place)), 1, "of another event");
        assert_eq!(wrong(PLAIN, None, Some(place)), 1, "no payload");
        assert_eq!(wrong(SKIPPED, Some("\"1\""), Some(place)), 1, "a marker with a payload");
        assert_eq!(wrong(PLAIN, Some("\"1\""), Some(Place::new(1, 1, 1))), 1, "the next place");
        assert_eq!(wrong(PLAIN, Some("\"1\""), None), 1, "no place");
    }

    #[test]
    fn more_repetitions_than_a_crash_may_make_are_wrong_and_so_is_what_comes_after_the_end() {
        let arrivals = ["1", "2", "3", "1", "2", "3"].map(|id| arrival(id, PLAIN));
        let end = |arrivals, whole| Break { arrivals, doubled: 0, more: 0, whole, what: String::new() };
        let judge = |bound, whole, last| {
            let mut breaches = Vec::new();
            (repetitions(&[end(3, whole), end(last, false)], &arrivals, bound, &mut breaches), breaches.len())
        };
        assert_eq!(judge(3, false, 6), (vec![(0, 3), (3, 3)], 0));
        assert_eq!(judge(2, false, 6).1, 1, "one too many");
        assert_eq!(judge(3, false, 5).1, 1, "one after the end");
        assert_eq!(judge(3, true, 6).1, 1, "again, though all was done with");
    }

    #[test]
    fn what_comes_twice_within_a_life_is_no_fault_of_the_orderly_end_before_it() {
        let arrivals = ["1", "2", "2"].map(|id| arrival(id, PLAIN));
        let end = |arrivals| Break { arrivals, doubled: 0, more: 0, whole: true, what: String::new() };
        let mut breaches = Vec::new();
        repetitions(&[end(1), end(3)], &arrivals, 1, &mut breaches);
        assert_eq!(breaches, [""; 0]);
    }
}
