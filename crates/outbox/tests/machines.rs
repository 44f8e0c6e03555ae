//! Pipeline and keeper together under seeded faults: refusals, outages, lost answers, failing stores, crashes and
//! operators, against the bookkeeping in memory. The contract is checked at every step and at the end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "machines/world.rs"]
mod world;

use world::{Faults, World};

const EVERYTHING: Faults =
    Faults { poison: true, outages: true, bombs: true, crashes: true, store: true, operator: true, disorder: true };

fn run(seeds: std::ops::Range<u64>, faults: Faults) {
    for seed in seeds {
        let mut world = World::new(seed, faults);
        world.run(400);
        world.heal_and_finish();
    }
}

#[test]
fn every_event_arrives_in_order_without_faults() {
    run(0..50, Faults::default());
}

#[test]
fn events_refused_by_name_hold_back_only_their_key() {
    run(0..150, Faults { poison: true, ..Faults::default() });
}

#[test]
fn an_outage_of_the_sink_loses_and_condemns_nothing() {
    run(0..150, Faults { outages: true, ..Faults::default() });
}

#[test]
fn an_event_that_makes_the_sink_fail_as_a_whole_is_found_out() {
    run(0..150, Faults { bombs: true, ..Faults::default() });
}

#[test]
fn a_crash_at_any_effect_loses_nothing_and_keeps_order() {
    run(0..200, Faults { crashes: true, ..Faults::default() });
}

#[test]
fn a_failing_bookkeeping_loses_nothing_and_keeps_order() {
    run(0..200, Faults { store: true, crashes: true, poison: true, ..Faults::default() });
}

#[test]
fn all_faults_together_lose_nothing_and_keep_order() {
    let all = Faults { disorder: false, ..EVERYTHING };
    run(0..3000, all);
}

#[test]
fn a_source_that_doubles_reorders_and_leaves_out_is_put_right() {
    run(0..200, Faults { disorder: true, ..Faults::default() });
}

#[test]
fn a_disordered_source_is_put_right_under_all_faults_but_crashes() {
    run(0..1000, Faults { crashes: false, ..EVERYTHING });
}

#[test]
fn a_disordered_source_loses_nothing_over_crashes() {
    run(0..1000, EVERYTHING);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let mut world = World::new(seed, EVERYTHING);
        world.run(300);
        world.trace
    };
    assert_eq!(trace(42), trace(42));
}
