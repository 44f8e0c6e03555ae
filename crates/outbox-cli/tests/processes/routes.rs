//! Routes beside each other, and keys beside each other.

use std::time::Duration;

use crate::{
    arrivals::assert_whole_and_in_order,
    rig::Rig,
    target::{Answer, Target},
};

#[test]
fn a_route_with_a_dead_sink_or_one_that_hangs_does_not_slow_the_others() {
    let (healthy, hanging, dead) = (Target::new(), Target::new(), Target::down_at_first());
    hanging.set_mood(|_| Answer::Hang);
    // The other windows are far smaller than the backlog, so that neither of their routes can follow.
    let window = "window = { events = 50, key_share = 10 }\n";
    let rig = Rig::new(&format!(
        "[relay]\nfailover = '1s'\ndrain = '1s'\n\
         [[route]]\nname = 'main'\n{}[[route]]\nname = 'hanging'\n{window}{}[[route]]\nname = 'dead'\n{window}{}",
        healthy.sink("encoding = 'batch'"),
        hanging.sink("timeout = '10m'"),
        dead.sink(""),
    ));
    rig.write(0..10_000, 100, 500);
    let relay = rig.relay();
    let status = rig.wait_status("the healthy route is done", |status| {
        status["routes"][0]["backlog"] == 0 && healthy.count() >= 10_000
    });
    assert!(hanging.count() <= 50 && dead.count() == 0, "{} {}", hanging.count(), dead.count());
    assert_eq!((&status["routes"][1]["backlog"], &status["routes"][2]["backlog"]), (&10_000.into(), &10_000.into()));
    assert_whole_and_in_order(&healthy.arrivals(), &rig.committed());
    // Calls that hang are given up at the drain limit.
    let stopped = relay.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    assert!(stopped.err.contains("drain limit"), "{}", stopped.err);
}

#[test]
fn a_hot_key_with_half_of_all_events_does_not_starve_the_rest() {
    const HALF: u32 = 2_000;
    let target = Target::new();
    target.set_mood(|_| Answer::AcceptAfter(Duration::from_millis(5)));
    let rig = Rig::new(&target.route("window = { events = 500, key_share = 50 }\n"));
    let both = (0..HALF).flat_map(|number| {
        [("hot".to_owned(), number.to_string()), (format!("key/{}", number % 500), number.to_string())]
    });
    rig.write_events(both, 500);
    let relay = rig.relay();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    let arrivals = target.arrivals();
    assert_whole_and_in_order(&arrivals, &rig.committed());
    let last = arrivals.iter().rposition(|arrival| !arrival.is_of("hot")).unwrap();
    let hot = arrivals[..last].iter().filter(|arrival| arrival.is_of("hot")).count();
    // One call at a time for the hot key, fifteen for the others: with all in one queue it would be nearly all.
    assert!(hot < HALF as usize / 2, "{hot} of {HALF} hot events came before the last of the others");
}
