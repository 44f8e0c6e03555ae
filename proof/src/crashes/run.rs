//! Many worlds, some of them at a time.

use std::{
    any::Any,
    fmt::Write as _,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    consumer, full_disk,
    plan::{Plan, Story},
    tally::Tally,
    world::World,
};

/// How many lines of each log are shown of a world that broke the contract.
const LINES: usize = 12;

/// Where and how worlds are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary, with crash points.
    pub binary: PathBuf,
    /// Where each world gets a folder. That of one that broke the contract stays.
    pub folder: PathBuf,
    /// How many worlds at a time: most of a life is spent waiting for a lease.
    pub at_a_time: usize,
}

/// A world in which something was wrong.
#[derive(Clone, Debug)]
pub struct Breach {
    /// What was to happen.
    pub plan: Plan,
    /// What was wrong.
    pub wrong: Vec<String>,
    /// The folder that is left.
    pub folder: PathBuf,
    /// The last lines of the relays' logs.
    pub logs: String,
}

/// Told of each world that is done.
pub type Progress<'p> = &'p (dyn Fn(&Tally) + Sync);

/// Runs `plans`. Stops early at the first breach: the worlds under way are finished.
pub fn run(settings: &Settings, plans: &[Plan], progress: Progress<'_>) -> (Tally, Vec<Breach>) {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (tally, breaches) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..settings.at_a_time {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    match world(settings, plan) {
                        Ok(done) => {
                            let mut tally = tally.lock().unwrap();
                            tally.add(done);
                            progress(&tally);
                        }
                        Err(breach) => {
                            stop.store(true, Ordering::SeqCst);
                            breaches.lock().unwrap().push(breach);
                        }
                    }
                }
            });
        }
    });
    (tally.into_inner().unwrap(), breaches.into_inner().unwrap())
}

/// One world.
fn world(settings: &Settings, plan: &Plan) -> Result<Tally, Breach> {
    let folder = settings.folder.join(format!("world-{}-{:016x}", plan.world, plan.seed));
    let wrong = match catch_unwind(AssertUnwindSafe(|| play(&settings.binary, &folder, plan))) {
        Ok((tally, wrong)) if wrong.is_empty() => {
            // A process that was killed a moment ago may still be on its way out; what it leaves is temporary.
            let _ = fs::remove_dir_all(&folder);
            return Ok(tally);
        }
        Ok((_, wrong)) => wrong,
        Err(panic) => vec![said(&*panic)],
    };
    let logs = logs(&folder);
    Err(Breach { plan: plan.clone(), wrong, folder, logs })
}

fn play(binary: &Path, folder: &Path, plan: &Plan) -> (Tally, Vec<String>) {
    match &plan.story {
        Story::Relays(faults) => {
            let mut world = World::new(binary, folder, plan.seed, "");
            for fault in faults {
                world.live(fault);
            }
            world.drain();
            world.judge()
        }
        Story::Restored { running } => {
            let mut world = World::new(binary, folder, plan.seed, "");
            world.restore(*running);
            world.judge()
        }
        Story::Consumer(faults) => (consumer::play(binary, folder, plan.seed, faults), Vec::new()),
        Story::FullDisk => (full_disk::play(binary, folder), Vec::new()),
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("something failed without a word").to_owned()
}

/// The last lines of each log in `folder`, the latest first.
fn logs(folder: &Path) -> String {
    let mut logs: Vec<_> =
        fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    logs.retain(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|file| file.modified()).ok()));
    let mut shown = String::new();
    for log in logs.iter().take(3) {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        // Writing to a `String` cannot fail.
        let _ = writeln!(shown, "{}\n    {}", log.display(), last.join("\n    "));
    }
    shown
}
