//! Many runs, on all processors, and what came of them.

use std::{
    io,
    num::NonZeroUsize,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{fault::Tally, play::play, rule::Breach, schedule::Schedule};

/// Schedules that a thread takes at a time.
const AT_ONCE: u64 = 16;

/// Which schedules are to be played.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seeds, one a schedule. A range that follows another goes on where that ended.
    pub seeds: Range<u64>,
    /// On how many threads.
    pub threads: NonZeroUsize,
    /// After so many failures no more schedules are begun.
    pub most_failures: usize,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Schedules that were played.
    pub schedules: u64,
    /// Events that were committed in them.
    pub events: u64,
    /// I/Os that relays did in them.
    pub steps: u64,
    /// How often each fault struck.
    pub tally: Tally,
    /// The schedules that broke the contract, by seed.
    pub failures: Vec<Failure>,
}

/// A schedule that broke the contract.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// How it did.
    pub breaches: Vec<Breach>,
}

impl Campaign {
    /// The schedules of `seeds`, on every processor there is, until ten have failed.
    pub fn new(seeds: Range<u64>) -> Self {
        Self { seeds, threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN), most_failures: 10 }
    }

    /// Plays the schedules. `goes_on` is told how many more were played, now and then and from any thread, and says
    /// whether to begin others.
    ///
    /// # Errors
    /// If no runtime could be made.
    pub fn run(&self, goes_on: impl Fn(u64) -> bool + Sync) -> io::Result<Findings> {
        let next = AtomicU64::new(self.seeds.start);
        let findings = Mutex::new(Findings::default());
        let work = || self.work(&next, &findings, &goes_on);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads.get()).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        findings.failures.sort_by_key(|failure| failure.seed);
        Ok(findings)
    }

    fn work(
        &self,
        next: &AtomicU64,
        findings: &Mutex<Findings>,
        goes_on: &(impl Fn(u64) -> bool + Sync),
    ) -> io::Result<()> {
        loop {
            let from = next.fetch_add(AT_ONCE, Ordering::Relaxed);
            let to = from.saturating_add(AT_ONCE).min(self.seeds.end);
            let mut own = Findings::default();
            for seed in from..to {
                own.play(seed)?;
            }
            let mut all = findings.lock().unwrap_or_else(PoisonError::into_inner);
            let played = own.schedules;
            all.add(own);
            let failed = all.failures.len() >= self.most_failures;
            drop(all);
            if !goes_on(played) || failed || to >= self.seeds.end {
                return Ok(());
            }
        }
    }
}

impl Findings {
    fn play(&mut self, seed: u64) -> io::Result<()> {
        let played = play(&Schedule::draw(seed), false)?;
        self.schedules += 1;
        self.events += played.events;
        self.steps += played.steps;
        self.tally.add(&played.tally);
        if !played.breaches.is_empty() {
            self.failures.push(Failure { seed, breaches: played.breaches });
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.steps += other.steps;
        self.tally.add(&other.tally);
        self.failures.extend(other.failures);
    }
}
