//! The thread that owns the connection, and commits for many calls at once.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use outbox::{
    ErrorKind, StoreError,
    inbox_store::{Abort, Isolation, Job},
};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    super::failure::store_error,
    tx::{Producers, SqliteTx},
};

/// Events in one transaction at most, unless one call has more.
const GROUP_EVENTS: usize = 1_000;
/// Calls in one transaction at most.
const GROUP_CALLS: usize = 64;

/// Looks into the empty queue, each of which lets other threads run, before the thread goes to sleep: who works through
/// a backlog calls again at once, and waking a thread takes as long as several small effects do.
const LOOKS: usize = 100;

/// A job in the queue, whatever it gives.
pub(super) trait Queued: Send {
    fn weight(&self) -> usize;
    fn only_reads(&self) -> bool;
    fn again(&mut self) -> bool;
    fn run(&mut self, tx: &mut SqliteTx<'_>, isolation: Isolation) -> Result<(), Abort>;
    /// Answers whoever waits: with what the last run gave, or with why it did not commit.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A job, and whoever waits for its output.
pub(super) struct Ticket<J, O> {
    job: J,
    output: Option<O>,
    answer: oneshot::Sender<Result<O, StoreError>>,
}

impl<J, O> Ticket<J, O> {
    pub(super) fn new(job: J, answer: oneshot::Sender<Result<O, StoreError>>) -> Self {
        Self { job, output: None, answer }
    }
}

impl<J, O> Queued for Ticket<J, O>
where
    J: for<'t> Job<SqliteTx<'t>, Output = O>,
    O: Send + 'static,
{
    fn weight(&self) -> usize {
        weight_of(&self.job)
    }

    fn only_reads(&self) -> bool {
        reads_of(&self.job)
    }

    fn again(&mut self) -> bool {
        Job::<SqliteTx<'static>>::again(&mut self.job)
    }

    fn run(&mut self, tx: &mut SqliteTx<'_>, isolation: Isolation) -> Result<(), Abort> {
        // Nothing in a SQLite transaction waits; only a handler could, and the whole file would wait with it.
        let waited = || {
            let message =
                "a handler waited for something outside of its SQLite transaction: do that in a `ClaimHandler`";
            Err(Abort::Store(StoreError::new(ErrorKind::Invalid, message)))
        };
        self.output = Some(at_once(self.job.run(tx, isolation)).unwrap_or_else(waited)?);
        tx.check_open()?;
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let lost = || Err(StoreError::new(ErrorKind::Invalid, "a job of the inbox committed without having run"));
        let Self { output, answer, .. } = *self;
        // Whoever asked may have gone; what was done is done.
        let _ = answer.send(committed.and_then(|()| output.map_or_else(lost, Ok)));
    }
}

/// What a future gives that has nothing to wait for; `None` if it waits nevertheless.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn weight_of<J: for<'t> Job<SqliteTx<'t>>>(job: &J) -> usize {
    Job::<SqliteTx<'static>>::weight(job)
}

fn reads_of<J: for<'t> Job<SqliteTx<'t>>>(job: &J) -> bool {
    Job::<SqliteTx<'static>>::only_reads(job)
}

/// Runs until the last handle to the inbox is dropped.
pub(super) fn run(connection: &Connection, consumer: &str, mut jobs: mpsc::Receiver<Box<dyn Queued>>) {
    let mut worker = Worker { connection, consumer, producers: Producers::default() };
    while let Some(first) = next(&mut jobs) {
        let mut events = first.weight();
        let mut group = vec![first];
        while group.len() < GROUP_CALLS && events < GROUP_EVENTS {
            let Ok(next) = jobs.try_recv() else { break };
            events += next.weight();
            group.push(next);
        }
        worker.work(group);
    }
}

/// The next job; `None` once there will be none.
fn next(jobs: &mut mpsc::Receiver<Box<dyn Queued>>) -> Option<Box<dyn Queued>> {
    for _ in 0..LOOKS {
        if let Ok(job) = jobs.try_recv() {
            return Some(job);
        }
        std::thread::yield_now();
    }
    jobs.blocking_recv()
}

struct Worker<'c> {
    connection: &'c Connection,
    consumer: &'c str,
    producers: Producers,
}

/// Why a transaction did not commit.
enum Failure {
    /// A job failed; the others might not.
    Job(Abort),
    /// The database did not even begin, or not commit, so none of the jobs would fare better alone.
    Database(StoreError),
}

impl Worker<'_> {
    /// Commits `group` in one transaction; or, if that fails because of one of its jobs, each by itself.
    fn work(&mut self, mut group: Vec<Box<dyn Queued>>) {
        let mut result = self.commit(&mut group, Isolation::Whole);
        if matches!(result, Err(Failure::Job(Abort::Redo))) {
            result = self.commit(&mut group, Isolation::Each);
        }
        match result {
            Ok(()) => group.into_iter().for_each(|job| job.finish(Ok(()))),
            Err(Failure::Job(_)) if group.len() > 1 => {
                for job in group {
                    self.work(vec![job]);
                }
            }
            Err(Failure::Job(Abort::Store(_))) if group.iter_mut().any(|job| job.again()) => self.work(group),
            Err(Failure::Job(Abort::Store(error)) | Failure::Database(error)) => {
                for job in group {
                    job.finish(Err(again(&error)));
                }
            }
            Err(Failure::Job(Abort::Redo)) => {
                let message = "a job of the inbox wants to be done again and again: this is a bug";
                for job in group {
                    job.finish(Err(StoreError::new(ErrorKind::Invalid, message)));
                }
            }
        }
    }

    fn commit(&mut self, group: &mut [Box<dyn Queued>], isolation: Isolation) -> Result<(), Failure> {
        let reads = group.iter().all(|job| job.only_reads());
        let behavior = if reads { TransactionBehavior::Deferred } else { TransactionBehavior::Immediate };
        let transaction = Transaction::new_unchecked(self.connection, behavior)
            .map_err(|error| Failure::Database(store_error("locking the inbox's database")(error)))?;
        let mut tx = SqliteTx::new(&transaction, self.consumer, &mut self.producers);
        let done = group.iter_mut().try_for_each(|job| job.run(&mut tx, isolation));
        let result = match done {
            Ok(()) => transaction
                .commit()
                .map_err(|error| Failure::Database(store_error("committing the inbox")(error).uncertain())),
            Err(abort) => {
                drop(transaction);
                Err(Failure::Job(abort))
            }
        };
        // A rollback takes back the numbers that were given to new producers.
        if result.is_err() {
            self.producers.clear();
        }
        result
    }
}

/// The same error for another call.
fn again(error: &StoreError) -> StoreError {
    let copy = StoreError::new(error.kind(), error.to_string());
    if error.is_uncertain() { copy.uncertain() } else { copy }
}
