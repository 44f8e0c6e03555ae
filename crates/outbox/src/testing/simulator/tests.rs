//! What is promised of runs, whatever happens in them.

use std::{
    collections::BTreeSet,
    io,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::{
    Campaign, Fault, Findings, Rule, Schedule,
    attempt::{attended, told},
    play,
    rule::Breach,
    shrink::{shrink, shrink_with, smallest},
    world::{Played, World},
};

/// Longer than any schedule of these tests takes, on however busy a machine.
const LONG: Duration = Duration::from_secs(20);
/// Not longer than a test may take that waits for it.
const SHORT: Duration = Duration::from_millis(600);

fn campaign(threads: usize, schedules: u64) -> Campaign {
    Campaign { threads: NonZeroUsize::new(threads).unwrap(), patience: LONG, ..Campaign::new(0..schedules) }
}

/// A run in which nothing happened.
fn nothing() -> Played {
    play(&Schedule::draw(0).only(&[]), false).unwrap()
}

fn rules(findings: &Findings) -> Vec<(u64, Rule)> {
    findings.failures.iter().map(|failure| (failure.seed, failure.breaches[0].rule)).collect()
}

/// All that can be said of a run.
fn whole(played: &Played) -> String {
    format!("{played:#?}")
}

#[test]
fn the_same_seed_plays_the_same_way_to_the_byte_of_its_trace_on_any_thread() {
    let traced = |seed| whole(&play(&Schedule::draw(seed), true).unwrap());
    let elsewhere: Vec<_> = (0..2).map(|_| thread::spawn(move || (0..8).map(traced).collect::<Vec<_>>())).collect();
    let here: Vec<String> = (0..8).map(traced).collect();
    for runs in elsewhere {
        for (own, other) in here.iter().zip(runs.join().unwrap()) {
            assert!(*own == other, "{own}\nand then\n{other}");
        }
    }
    assert_ne!(here[0], here[1]);
}

#[test]
fn a_run_is_the_same_whether_it_is_traced_or_not() {
    for seed in 8..16 {
        let [plain, mut traced] = [false, true].map(|traced| play(&Schedule::draw(seed), traced).unwrap());
        assert!(plain.trace.is_empty() && !traced.trace.is_empty());
        traced.trace.clear();
        assert_eq!(whole(&plain), whole(&traced));
    }
}

#[test]
fn a_campaign_finds_the_same_on_however_many_threads() {
    let [alone, together] = [1, 3].map(|threads| {
        let mut told_of = 0;
        let findings = campaign(threads, 24)
            .run(|played| {
                told_of += played;
                true
            })
            .unwrap();
        assert_eq!((findings.schedules, findings.next, told_of), (24, 24, 24));
        findings
    });
    assert_eq!(format!("{alone:?}"), format!("{together:?}"));
}

#[test]
fn a_panic_is_a_failure_with_its_seed_and_the_others_are_played() {
    let player = |seed: u64| if seed.is_multiple_of(5) { panic!("at {seed}, of all places") } else { Ok(nothing()) };
    let findings = campaign(2, 12).run_with(player, |_| true).unwrap();
    assert_eq!(rules(&findings), [(0, Rule::Panicked), (5, Rule::Panicked), (10, Rule::Panicked)]);
    let what = &findings.failures[1].breaches[0].what;
    assert!(what.contains("at 5, of all places") && what.contains("simulator/tests.rs:"), "{what}");
    assert_eq!((findings.schedules, findings.next), (12, 12));
}

#[test]
fn a_panic_that_somebody_caught_is_told_all_the_same() {
    let played = told(|| {
        let caught = catch_unwind(AssertUnwindSafe(|| panic!("in a task")));
        assert!(caught.is_err());
        Ok(nothing())
    });
    let breaches = played.unwrap().breaches;
    assert_eq!(breaches[0].rule, Rule::Panicked);
    assert!(breaches[0].what.starts_with("in a task ("), "{}", breaches[0]);
}

#[test]
fn a_schedule_without_an_end_is_told_with_its_seed_and_ends_the_run() {
    let (end, ended) = mpsc::channel::<()>();
    let ended = Mutex::new(ended);
    let player = move |seed| {
        if seed == 3 {
            // Until the test is over.
            let _ = ended.lock().unwrap().recv();
        }
        Ok(nothing())
    };
    let endless = Campaign { patience: SHORT, ..campaign(2, 1_000_000) };
    let findings = endless.run_with(player, |_| true).unwrap();
    assert_eq!(rules(&findings), [(3, Rule::Hung)]);
    assert_eq!(findings.schedules, findings.next);
    assert!((4..1_000_000).contains(&findings.next), "{}", findings.next);
    drop(end);
}

#[test]
fn one_schedule_without_an_end_is_given_up_on() {
    let (end, ended) = mpsc::channel::<()>();
    let played = attended(SHORT, move || {
        let _ = ended.recv();
        Ok(nothing())
    });
    assert_eq!(played.unwrap().breaches[0].rule, Rule::Hung);
    drop(end);
    assert!(attended(LONG, || Ok(nothing())).unwrap().breaches.is_empty());
    let panicked = attended(LONG, || panic!("alone")).unwrap();
    assert_eq!(panicked.breaches[0].rule, Rule::Panicked);
}

#[test]
fn nothing_below_the_seed_to_go_on_with_is_unplayed() {
    for stops_after in [1, 40, 400] {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let player = {
            let seen = seen.clone();
            move |seed| {
                // Some take longer than the others.
                thread::sleep(Duration::from_micros(if seed % 7 == 0 { 900 } else { 20 }));
                seen.lock().unwrap().insert(seed);
                Ok(nothing())
            }
        };
        let mut told_of = 0;
        let findings = campaign(3, 1_000_000)
            .run_with(player, |more| {
                told_of += more;
                told_of < stops_after
            })
            .unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.iter().copied().eq(0..findings.next), "{seen:?}, next {}", findings.next);
        assert_eq!((findings.schedules, told_of), (findings.next, findings.next));
    }
}

#[test]
fn the_lowest_seed_that_fails_is_found_on_however_many_threads() {
    for _ in 0..20 {
        let player = |seed| if seed >= 30 { panic!("broken") } else { Ok(nothing()) };
        let first = Campaign { most_failures: 1, ..campaign(3, 1_000) };
        let findings = first.run_with(player, |_| true).unwrap();
        assert_eq!(findings.failures[0].seed, 30);
    }
}

#[test]
fn a_campaign_without_a_runtime_is_an_error() {
    let player = |_| Err(io::Error::other("no threads left"));
    let error = campaign(2, 100).run_with(player, |_| true).unwrap_err();
    assert_eq!(error.to_string(), "no threads left");
}

#[test]
fn a_part_has_the_incidents_that_were_asked_for_once_and_in_their_order() {
    let schedule = Schedule::draw(3);
    let part = schedule.only(&[4, 1, 4, 9_999]);
    assert_eq!(part.numbers().collect::<Vec<_>>(), [1, 4]);
    // A part of a part has the same numbers.
    assert_eq!(part.only(&[4]).numbers().collect::<Vec<_>>(), [4]);
    let lines = part.incidents();
    assert!(lines[0].starts_with("   1 ") && lines[1].starts_with("   4 "), "{lines:#?}");
    let whole = schedule.to_string();
    assert!(lines.iter().all(|line| whole.contains(line)), "{whole}");
}

#[test]
fn shrinking_leaves_what_cannot_be_spared() {
    let needs = |needed: &'static [usize]| {
        let kept = smallest((0..40).collect(), |kept| Ok(Some(needed.iter().all(|number| kept.contains(number)))));
        kept.unwrap()
    };
    assert_eq!(needs(&[3, 17, 38]), [3, 17, 38]);
    assert_eq!(needs(&[39]), [39]);
    assert!(needs(&[]).is_empty());
}

#[test]
fn shrinking_that_is_stopped_gives_what_it_has() {
    let mut left = 5;
    let kept = smallest((0..40).collect(), |kept| {
        left -= 1;
        Ok((left > 0).then(|| kept.contains(&7)))
    });
    let kept = kept.unwrap();
    assert!(kept.contains(&7) && (2..40).contains(&kept.len()), "{kept:?}");
}

/// Plays, and takes it for a breach of `rule` that a relay was killed; where none was, something else is wrong.
fn kills_break(rule: Rule) -> impl Fn(&Schedule, bool) -> io::Result<Played> {
    move |schedule, traced| {
        let mut played = play(schedule, traced)?;
        let rule = if played.tally.of(Fault::Killed) > 0 { rule } else { Rule::Visible };
        played.breaches.push(Breach::new(rule, "as this test says"));
        Ok(played)
    }
}

fn with_a_kill() -> Schedule {
    let kills = |schedule: &Schedule| play(schedule, false).unwrap().tally.of(Fault::Killed) > 0;
    (0..100).map(Schedule::draw).find(kills).unwrap()
}

#[test]
fn the_smallest_schedule_breaks_what_the_whole_one_broke_first() {
    let schedule = with_a_kill();
    let (kept, played) = shrink_with(&schedule, || true, kills_break(Rule::InOrder)).unwrap();
    // Whatever else happens, one kill is enough for a relay that runs.
    assert_eq!(kept.len(), 1, "{}", schedule.only(&kept));
    assert_eq!(played.breaches[0].rule, Rule::InOrder);
    let again = play(&schedule.only(&kept), true).unwrap();
    assert!(again.tally.of(Fault::Killed) > 0);
    assert_eq!(played.trace, again.trace);
}

#[test]
fn what_comes_to_no_end_is_played_once() {
    let attempts = AtomicUsize::new(0);
    let (kept, played) = shrink_with(
        &Schedule::draw(1),
        || true,
        |_, _| {
            attempts.fetch_add(1, Ordering::Relaxed);
            Ok(Played { breaches: vec![Breach::new(Rule::Hung, "as this test says")], ..nothing() })
        },
    )
    .unwrap();
    assert_eq!((kept.len(), attempts.into_inner()), (Schedule::draw(1).len(), 1));
    assert_eq!(played.breaches[0].rule, Rule::Hung);
}

#[test]
fn a_part_that_comes_to_no_end_is_the_last_that_is_tried() {
    let (schedule, attempts) = (with_a_kill(), AtomicUsize::new(0));
    let (kept, played) = shrink_with(
        &schedule,
        || true,
        |part, traced| {
            // The whole, its first part, the last of all.
            match attempts.fetch_add(1, Ordering::Relaxed) {
                1 => Ok(Played { breaches: vec![Breach::new(Rule::Hung, "as this test says")], ..nothing() }),
                _ => kills_break(Rule::InOrder)(part, traced),
            }
        },
    )
    .unwrap();
    assert_eq!((kept.len(), attempts.into_inner()), (schedule.len(), 2));
    assert_eq!(played.breaches[0].rule, Rule::InOrder);
}

#[test]
fn a_sound_schedule_stays_whole() {
    let schedule = Schedule::draw(5);
    let (kept, played) = shrink(&schedule, || true).unwrap();
    assert_eq!(kept.len(), schedule.len());
    assert!(played.breaches.is_empty() && !played.trace.is_empty());
}

#[test]
fn a_trace_says_where_the_contract_was_broken_first() {
    let world = World::new(&Schedule::draw(1), true);
    world.note(|| "all was well".to_owned());
    for what in ["overtaken", "overtaken again"] {
        world.breach(Rule::InOrder, what);
    }
    world.note(|| "it went on".to_owned());
    let played = world.end();
    assert_eq!((played.trace.len(), played.broken_at()), (4, Some(1)), "{:?}", played.trace);
    assert_eq!(nothing().broken_at(), None);
}
