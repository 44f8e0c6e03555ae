//! Two relays of one source.

use std::{thread, time::Duration};

use proof::crashes::watch::Watch;

use crate::{
    arrivals::{assert_whole_and_in_order, duplicates},
    process::RelayProcess,
    rig::{Books, Rig, eventually, now},
    target::{Answer, Target},
};

/// Calls at a time, each of one event.
const CONCURRENCY: usize = 8;
const WINDOW: usize = 500;

/// A rig with two relays, each of which says who it is, that stand in for each other.
fn pair(target: &Target, failover: &str) -> Rig {
    let config = |relay: &str| {
        let headers = format!("concurrency = {CONCURRENCY}, headers = {{ x-relay = '{relay}' }}");
        let sink = target.sink(&headers);
        format!(
            "[relay]\nfailover = '{failover}'\n\
             [[route]]\nname = 'main'\nwindow = {{ events = {WINDOW}, key_share = 100 }}\n{sink}"
        )
    };
    let rig = Rig::new(&config("status"));
    for relay in ["a", "b"] {
        rig.configure(&format!("{relay}.toml"), &config(relay));
    }
    rig
}

/// Starts relay `a`, and once it owns the source its standby `b`.
fn start(rig: &Rig) -> (RelayProcess, RelayProcess) {
    let owner = rig.relay_of("a.toml");
    rig.wait_status("a owns the source", |status| status["relay"]["epoch"] == 1);
    let standby = rig.relay_of("b.toml");
    (owner, standby)
}

fn of(target: &Target, relay: &str) -> usize {
    target.arrivals().iter().filter(|arrival| arrival.relay.as_deref() == Some(relay)).count()
}

#[test]
fn a_standby_takes_over_within_the_failover_time_when_the_owner_is_killed() {
    let target = Target::new();
    target.set_mood(|_| Answer::AcceptAfter(Duration::from_millis(2)));
    let rig = pair(&target, "2s");
    let (owner, standby) = start(&rig);
    rig.write(0..2_000, 20, 20);
    target.wait_count(400);
    assert_eq!(of(&target, "b"), 0, "one publishes, the other waits");
    owner.kill();
    let killed = now();
    eventually("the standby publishes", || (of(&target, "b") > 0).then_some(()));
    let took = now().since(killed);
    assert!(took < Duration::from_secs(2 + 10), "taking over took {took:?} at a failover time of 2 s");
    rig.wait_published();
    assert_eq!(standby.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_standby_takes_over_at_once_when_the_owner_is_stopped() {
    let target = Target::new();
    target.set_mood(|_| Answer::AcceptAfter(Duration::from_millis(2)));
    let rig = pair(&target, "30s");
    let (owner, standby) = start(&rig);
    rig.write(0..2_000, 20, 20);
    target.wait_count(400);
    let stopped = owner.stop();
    let since = now();
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    let before = target.count();
    eventually("the standby publishes", || (of(&target, "b") > 0).then_some(()));
    let took = now().since(since);
    assert!(took < Duration::from_secs(5), "taking over took {took:?}: it waited for the failover time");
    rig.wait_published();
    assert_eq!(standby.stop().code, 0);
    let arrivals = target.arrivals();
    assert_whole_and_in_order(&arrivals, &rig.committed());
    // What was accepted behind an event that was not sent any more is no prefix, and comes again.
    let again = duplicates(&arrivals[before..], &arrivals[..before]);
    assert!(again <= WINDOW, "{again} duplicates after a clean end, and the window is {WINDOW}");
}

#[test]
fn a_clean_end_with_nothing_left_to_send_leaves_nothing_to_be_published_again() {
    let target = Target::new();
    let rig = pair(&target, "30s");
    for round in 0..3_u32 {
        let relay = rig.relay_of("a.toml");
        rig.write(round * 200..(round + 1) * 200, 20, 20);
        target.wait_count((round as usize + 1) * 200);
        assert_eq!(relay.stop().code, 0);
    }
    assert_eq!(target.count(), 600, "nothing twice");
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn an_owner_stopped_past_its_lease_writes_nothing_more_and_stands_by() {
    let target = Target::new();
    target.set_mood(|_| Answer::AcceptAfter(Duration::from_millis(3)));
    let rig = pair(&target, "1s");
    let watch = Watch::new(&rig.path("orders.db.relay"));
    let (zombie, successor) = start(&rig);
    rig.write(0..6_000, 40, 50);
    target.wait_count(500);
    rig.stop_between_writes(&zombie);
    eventually("the other takes over and publishes", || (of(&target, "b") > 300).then_some(()));
    let (before, taken) = (target.count(), rig.books().unwrap());
    assert_eq!((taken.epoch, taken.holder.ends_with(&format!(":{}", successor.id()))), (2, true), "{taken:?}");
    zombie.signal("CONT");
    eventually("the old owner notices", || zombie.log().contains("standing by").then_some(()));
    rig.wait_published();
    let arrivals = target.arrivals();
    let takeover = arrivals.iter().position(|arrival| arrival.relay.as_deref() == Some("b")).unwrap();
    for (since, what) in [(takeover, "the takeover"), (before, "it went on")] {
        let late = arrivals[since..].iter().filter(|arrival| arrival.relay.as_deref() == Some("a")).count();
        assert!(late <= CONCURRENCY, "{late} publications after {what}, with {CONCURRENCY} in flight at most");
    }
    // It stands by: with its successor gone it owns the source again.
    successor.kill();
    rig.write(6_000..7_000, 40, 50);
    let again: Books = eventually("the old owner takes over", || rig.books().filter(|books| books.epoch == 3));
    assert!(again.holder.ends_with(&format!(":{}", zombie.id())), "{again:?}");
    rig.wait_published();
    assert_eq!(zombie.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());

    let checkpoints = watch.checkpoints();
    assert!(checkpoints.is_sorted(), "a checkpoint went back: {checkpoints:?}");
    assert!([1, 2, 3].iter().all(|epoch| checkpoints.iter().any(|(found, _)| found == epoch)), "{checkpoints:?}");
    let leases = watch.leases();
    assert!(leases.is_sorted_by_key(|(epoch, _)| *epoch), "an epoch went back: {leases:?}");
    let mut owners = leases;
    owners.dedup();
    assert_eq!(owners.len(), 3, "one owner for each epoch: {owners:?}");
}

#[test]
fn ten_relays_that_start_together_have_one_owner_at_a_time() {
    let target = Target::new();
    let rig = pair(&target, "1s");
    rig.write(0..500, 20, 20);
    let mut relays: Vec<_> = (0..10).map(|_| rig.relay()).collect();
    rig.wait_published();
    assert_eq!(rig.books().unwrap().epoch, 1);
    assert_eq!(target.count(), 500, "nothing twice");
    assert!(relays.iter_mut().all(RelayProcess::runs));
    // The owner and its successors go, one after the other.
    for count in 1..=3_u32 {
        let holder = rig.books().unwrap().holder;
        let index = relays.iter().position(|relay| holder.ends_with(&format!(":{}", relay.id()))).unwrap();
        relays.swap_remove(index).kill();
        rig.write(500 * count..500 * (count + 1), 20, 20);
        rig.wait_published();
    }
    thread::scope(|scope| {
        for relay in relays {
            scope.spawn(|| assert_eq!(relay.stop().code, 0));
        }
    });
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}
