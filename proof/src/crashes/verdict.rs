//! Whether the contract was kept.

use std::collections::{BTreeMap, BTreeSet};

use outbox::event::SKIPPED;
use rusqlite::Connection;

use super::{
    arrivals::Arrival,
    rig::{PATIENCE, Rig},
    world::{Break, World},
};

/// Notes every write of the route's checkpoint and of the lease in the bookkeeping itself, in their order.
const WATCH: &str = "
    CREATE TABLE seen_checkpoints (number INTEGER PRIMARY KEY, epoch INTEGER, position INTEGER);
    CREATE TABLE seen_leases (number INTEGER PRIMARY KEY, epoch INTEGER, holder TEXT);
    CREATE TRIGGER watch_insert AFTER INSERT ON checkpoints WHEN NEW.route = 'main' BEGIN
        INSERT INTO seen_checkpoints (epoch, position) SELECT epoch, CAST(NEW.position AS INTEGER) FROM leases;
    END;
    CREATE TRIGGER watch_update AFTER UPDATE ON checkpoints WHEN NEW.route = 'main' BEGIN
        INSERT INTO seen_checkpoints (epoch, position) SELECT epoch, CAST(NEW.position AS INTEGER) FROM leases;
    END;
    CREATE TRIGGER watch_take AFTER INSERT ON leases BEGIN
        INSERT INTO seen_leases (epoch, holder) VALUES (NEW.epoch, NEW.holder);
    END;
    CREATE TRIGGER watch_renew AFTER UPDATE ON leases BEGIN
        INSERT INTO seen_leases (epoch, holder) VALUES (NEW.epoch, NEW.holder);
    END;";

/// Has the bookkeeping of `rig` note who writes to it.
pub(super) fn watch(rig: &Rig) {
    bookkeeping(rig).execute_batch(WATCH).unwrap();
}

fn bookkeeping(rig: &Rig) -> Connection {
    let connection = Connection::open(rig.path("orders.db.relay")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

/// What a service did, as its ledger has it.
struct Expected<'l> {
    committed: &'l BTreeMap<String, Vec<String>>,
    rolled_back: &'l BTreeSet<String>,
    discarded: &'l BTreeSet<String>,
}

/// Everything that is wrong once everything is drained.
pub(super) fn at_the_end(world: &mut World) -> Vec<String> {
    let mut breaches = Vec::new();
    let arrivals = world.target.arrivals();
    let ledger = &world.ledger;
    let expected =
        Expected { committed: ledger.committed(), rolled_back: ledger.rolled_back(), discarded: ledger.discarded() };
    arrived(&expected, &arrivals, &mut breaches);
    repeated(world, &arrivals, &mut breaches);
    replayed(world, &arrivals, &mut breaches);
    fenced(&world.rig, &mut breaches);
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
    let mut seen = BTreeSet::new();
    let mut from = 0;
    // A request that the proxy delivers late may come after the relay's end: what was lost before counts, too.
    let (mut doubled, mut doubled_before) = (0, 0);
    let mut before = ("the beginning", 0);
    for end in breaks {
        let came = &arrivals[from..end.arrivals];
        let published = came.iter().filter(|arrival| arrival.accepted && arrival.replay.is_none());
        let again = published.filter(|arrival| !seen.insert((&arrival.id, &arrival.kind))).count();
        let allowed = usize::try_from(bound).unwrap() + before.1 + (end.doubled - doubled_before);
        if again > allowed {
            breaches.push(format!("{again} came again between `{}` and `{}`, and {allowed} may", before.0, end.what));
        }
        found.push((again, allowed));
        from = end.arrivals;
        (doubled, doubled_before) = (end.doubled, doubled);
        before = (&end.what, end.more);
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

/// No write of a relay whose epoch is over, and no checkpoint that went back.
fn fenced(rig: &Rig, breaches: &mut Vec<String>) {
    let connection = bookkeeping(rig);
    let seen = |sql: &str| -> Vec<(i64, i64)> {
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let checkpoints = seen("SELECT epoch, position FROM seen_checkpoints ORDER BY number");
    if let Some(pair) = checkpoints.windows(2).find(|pair| pair[0] > pair[1]) {
        breaches.push(format!("a checkpoint (epoch, position) went back: {pair:?}"));
    }
    let owners = seen("SELECT epoch, count(DISTINCT holder) FROM seen_leases GROUP BY epoch");
    for (epoch, holders) in owners.into_iter().filter(|(_, holders)| *holders > 1) {
        breaches.push(format!("epoch {epoch} had {holders} owners"));
    }
}

#[cfg(test)]
mod tests {
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
        let expected = Expected { committed: &committed, rolled_back: &rolled_back, discarded: &discarded };
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
    fn more_repetitions_than_a_crash_may_make_are_wrong_and_so_is_what_comes_after_the_end() {
        let arrivals = ["1", "2", "3", "1", "2", "3"].map(|id| arrival(id, PLAIN));
        let ends = |last| [3, last].map(|arrivals| Break { arrivals, doubled: 0, more: 0, what: String::new() });
        let judge = |bound, last| {
            let mut breaches = Vec::new();
            (repetitions(&ends(last), &arrivals, bound, &mut breaches), breaches.len())
        };
        assert_eq!(judge(3, 6), (vec![(0, 3), (3, 3)], 0));
        assert_eq!(judge(2, 6).1, 1, "one too many");
        assert_eq!(judge(3, 5).1, 1, "one after the end");
    }
}
