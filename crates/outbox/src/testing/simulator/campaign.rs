//! Many runs, on all processors, and what came of them.

use std::{
    io,
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use super::{
    attempt::{Endless, LOOK, PATIENCE, Watch, told},
    fault::Tally,
    play::play,
    rule::{Breach, Rule},
    schedule::Schedule,
    world::Played,
};

/// Below so many schedules a fault that never struck is no wonder.
const EXERCISES_ALL: u64 = 5_000;
/// The same of an I/O at which no relay was killed.
const KILLS_EVERYWHERE: u64 = 20_000;

/// Which schedules are to be played.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seeds, one a schedule. A range that follows another goes on where that ended.
    pub seeds: Range<u64>,
    /// On how many threads, at most: never on more than there are seeds.
    pub threads: NonZeroUsize,
    /// After so many failures no more schedules are begun.
    pub most_failures: usize,
    /// A schedule that takes longer, in real time, is taken for one without an end, and ends the campaign.
    pub patience: Duration,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Schedules that were played.
    pub schedules: u64,
    /// The seed to go on with: all below it were played.
    pub next: u64,
    /// Events that were committed in them.
    pub events: u64,
    /// I/Os that relays did in them.
    pub steps: u64,
    /// How often each fault struck.
    pub tally: Tally,
    /// The schedules that broke the contract, by seed: the lowest that does is always the first.
    pub failures: Vec<Failure>,
}

impl Findings {
    /// What never struck: faults, and from 20,000 schedules on kills before and after an I/O.
    pub fn never(&self) -> Vec<String> {
        let faults = self.tally.never().into_iter().map(|fault| fault.name().to_owned());
        let points = self.tally.never_killed().filter(|_| self.schedules >= KILLS_EVERYWHERE);
        faults.chain(points.map(|(io, side)| format!("relay killed {side} {io}"))).collect()
    }

    /// Whether all struck that should have in so many schedules: with fewer than 5,000 it is no wonder that something did not.
    pub fn is_exercised(&self) -> bool {
        self.schedules < EXERCISES_ALL || self.never().is_empty()
    }
}

/// A schedule that broke the contract.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// How it did.
    pub breaches: Vec<Breach>,
}

/// Plays the schedule of a seed.
type Player = dyn Fn(u64) -> io::Result<Played> + Send + Sync;

impl Campaign {
    /// The schedules of `seeds`, on every processor there is, until ten have failed.
    pub fn new(seeds: Range<u64>) -> Self {
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { seeds, threads, most_failures: 10, patience: PATIENCE }
    }

    /// Plays the schedules, in the order of their seeds. `goes_on` is told some times a second how many more were played,
    /// and says whether to begin others.
    ///
    /// A schedule that panics has failed by [`Rule::Panicked`], and the others are played all the same. One that comes to no
    /// end has failed by [`Rule::Hung`], or by [`Rule::Grown`] if the process has 3 GiB more memory than before, and no
    /// more are begun. Nothing can stop it: its thread is left behind, and ends with the process.
    ///
    /// # Errors
    /// If no runtime or no thread could be made.
    pub fn run(&self, goes_on: impl FnMut(u64) -> bool) -> io::Result<Findings> {
        self.run_with(|seed| play(&Schedule::draw(seed), false), goes_on)
    }

    /// The same, where `player` plays the schedule of a seed.
    pub(super) fn run_with(
        &self,
        player: impl Fn(u64) -> io::Result<Played> + Send + Sync + 'static,
        mut goes_on: impl FnMut(u64) -> bool,
    ) -> io::Result<Findings> {
        let shared = Arc::new(Mutex::new(Course::new(self)));
        let threads = self.start(&shared, &(Arc::new(player) as Arc<Player>))?;
        let mut told_of = 0;
        loop {
            thread::park_timeout(LOOK);
            let mut course = lock(&shared);
            let all_ended = threads.iter().all(JoinHandle::is_finished);
            course.look();
            let more = course.findings.schedules - told_of;
            told_of += more;
            if course.is_over() {
                let findings = course.end();
                drop(course);
                goes_on(more);
                return findings;
            }
            if all_ended {
                return Err(io::Error::other("every thread of the campaign died"));
            }
            drop(course);
            if !goes_on(more) {
                lock(&shared).stops = true;
            }
        }
    }

    fn start(&self, shared: &Arc<Mutex<Course>>, player: &Arc<Player>) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        let seeds = self.seeds.end.saturating_sub(self.seeds.start);
        for _ in 0..seeds.min(self.threads.get() as u64) {
            let (own, player, waiting) = (shared.clone(), player.clone(), thread::current());
            let started = thread::Builder::new().spawn(move || work(&own, &*player, &waiting));
            // Those that were started must not go on behind the caller's back.
            threads.push(started.inspect_err(|_| lock(shared).stops = true)?);
        }
        Ok(threads)
    }
}

fn lock(shared: &Mutex<Course>) -> MutexGuard<'_, Course> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plays one schedule after the other until there is none.
fn work(shared: &Mutex<Course>, player: &Player, waiting: &Thread) {
    let mut done = None;
    loop {
        let seed = {
            let mut course = lock(shared);
            if let Some((seed, played)) = done {
                course.played(seed, played);
            }
            course.draw()
        };
        let Some(seed) = seed else { break };
        done = Some((seed, told(|| player(seed))));
    }
    waiting.unpark();
}

/// Where a campaign stands.
struct Course {
    next: u64,
    end: u64,
    most_failures: usize,
    stops: bool,
    /// Not even those under way are waited for.
    gives_up: bool,
    watch: Watch,
    findings: Findings,
    error: Option<io::Error>,
}

impl Course {
    fn new(campaign: &Campaign) -> Self {
        Self {
            next: campaign.seeds.start,
            end: campaign.seeds.end,
            most_failures: campaign.most_failures,
            stops: false,
            gives_up: false,
            watch: Watch::new(campaign.patience),
            findings: Findings::default(),
            error: None,
        }
    }

    /// The next seed, in their order: all that are below one that was drawn are played, whichever thread has them.
    fn draw(&mut self) -> Option<u64> {
        if self.stops || self.next >= self.end {
            return None;
        }
        let seed = self.next;
        self.next += 1;
        self.watch.begins(seed);
        Some(seed)
    }

    fn played(&mut self, seed: u64, played: io::Result<Played>) {
        if !self.watch.ends(seed) {
            return;
        }
        match played {
            Ok(played) => {
                self.findings.schedules += 1;
                self.findings.events += played.events;
                self.findings.steps += played.steps;
                self.findings.tally.add(&played.tally);
                if !played.breaches.is_empty() {
                    self.fails(seed, played.breaches);
                }
            }
            Err(error) => {
                self.error = Some(error);
                self.stops = true;
            }
        }
    }

    fn fails(&mut self, seed: u64, breaches: Vec<Breach>) {
        self.findings.failures.push(Failure { seed, breaches });
        self.stops |= self.findings.failures.len() >= self.most_failures;
    }

    /// Looks for schedules that come to no end.
    fn look(&mut self) {
        while let Some(Endless { seed, breach }) = self.watch.look() {
            self.stops = true;
            self.findings.schedules += 1;
            // What little memory is left is not for waiting.
            self.gives_up = breach.rule == Rule::Grown;
            self.fails(seed, vec![breach]);
            if self.gives_up {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        let has_more = !self.stops && self.next < self.end;
        self.gives_up || !has_more && self.watch.lowest().is_none()
    }

    fn end(&mut self) -> io::Result<Findings> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.stops = true;
        let mut findings = std::mem::take(&mut self.findings);
        findings.next = self.watch.lowest().unwrap_or(self.next);
        findings.failures.sort_by_key(|failure| failure.seed);
        Ok(findings)
    }
}
