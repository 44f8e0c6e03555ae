//! Plays schedules of the simulator until one breaks the contract, and says which. What `planted` builds for each bug: it
//! needs `outbox` and `serde_json`, and nothing else.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::exit,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use outbox::{
    Clock as _, Moment, System,
    testing::simulator::{Schedule, play},
};
use serde_json::json;

/// A sound schedule takes milliseconds: one that takes so long has no end.
const HUNG: Duration = Duration::from_secs(20);
/// A sound one needs a few MiB: so many KiB in all mean that something grows without bound.
const GROWN: u64 = 3 << 20;
const USAGE: &str = "usage: campaign FIRST-SEED SCHEDULES";

#[derive(Default)]
struct Progress {
    next: u64,
    end: u64,
    /// What is being played, and since when.
    playing: BTreeMap<u64, Moment>,
    /// The lowest seed that broke the contract, by which rule and how.
    broken: Option<(u64, String, String)>,
}

type Shared = Mutex<Progress>;

fn lock(shared: &Shared) -> MutexGuard<'_, Progress> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    let &[first, schedules] = &numbers[..] else {
        eprintln!("error: {USAGE}");
        exit(2);
    };
    // A schedule that panics is told like one that breaks a rule.
    std::panic::set_hook(Box::new(|_| {}));
    let shared = Mutex::new(Progress { next: first, end: first.saturating_add(schedules), ..Progress::default() });
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&shared))).collect();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
            look(&shared, first);
        }
    });
    tell(&lock(&shared), first);
}

/// Plays seeds in their order. All that are below the lowest broken one are played, whichever thread has them.
fn work(shared: &Shared) {
    loop {
        let seed = {
            let mut progress = lock(shared);
            let seed = progress.next;
            if seed >= progress.end || progress.broken.is_some() {
                return;
            }
            progress.next += 1;
            progress.playing.insert(seed, System.moment());
            seed
        };
        let broken = breach(seed);
        let mut progress = lock(shared);
        progress.playing.remove(&seed);
        if let Some((rule, what)) = broken {
            note(&mut progress, seed, rule, what);
        }
    }
}

fn note(progress: &mut Progress, seed: u64, rule: String, what: String) {
    if progress.broken.as_ref().is_none_or(|(lowest, ..)| seed < *lowest) {
        progress.broken = Some((seed, rule, what));
    }
}

/// The rule that this schedule breaks first, and how.
fn breach(seed: u64) -> Option<(String, String)> {
    let played = catch_unwind(AssertUnwindSafe(|| play(&Schedule::draw(seed), false)));
    match played {
        Ok(Ok(played)) => {
            let first = played.breaches.into_iter().next()?;
            Some((first.rule.name().to_owned(), first.what))
        }
        Ok(Err(error)) => {
            eprintln!("error: no runtime could be made: {error}");
            exit(2);
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Some(("panicked".to_owned(), text.unwrap_or_default()))
        }
    }
}

/// Ends the run where a schedule does not end by itself: nothing else can stop it.
fn look(shared: &Shared, first: u64) {
    let now = System.moment();
    let mut progress = lock(shared);
    let Some((&seed, &since)) = progress.playing.iter().next() else { return };
    let grown = resident().is_some_and(|kib| kib > GROWN);
    if now.since(since) < HUNG && !grown {
        return;
    }
    let rule = if grown { "grown" } else { "hung" };
    note(&mut progress, seed, rule.to_owned(), "the schedule does not end, and its clock stands still".to_owned());
    tell(&progress, first);
    exit(0);
}

/// How much memory this process has, in KiB, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

fn tell(progress: &Progress, first: u64) {
    let broken = progress.broken.as_ref();
    let played = broken.map_or(progress.next, |(seed, ..)| seed + 1) - first;
    let broken = broken.map(|(seed, rule, what)| json!({ "seed": seed, "rule": rule, "what": what }));
    println!("{}", json!({ "played": played, "broken": broken }));
}
