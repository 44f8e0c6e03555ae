//! The thread that has the connection, and commits for many calls at once.
//!
//! A thread of its own, because neither jobs nor the handlers in them have to be able to move between threads. It waits for
//! the server like any other task, on a runtime that is its own.

use std::{future::Future, pin::Pin};

use outbox::{
    ErrorKind, StoreError,
    inbox_store::{Abort, Isolation, Job},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    driver::{Driver, Open},
    schema,
    tx::{NotCommitted, PostgresTx, Producers, Sign},
};

/// Events in one transaction at most, unless one call has more.
const GROUP_EVENTS: usize = 1_000;
/// Calls in one transaction at most.
const GROUP_CALLS: usize = 64;
/// How often a transaction that the server ended for another one's sake is made again.
const TURNS: usize = 10;

/// Work on the inbox's thread.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Abort>> + 'a>>;

/// A job in the queue, whatever it gives.
pub(super) trait Queued<D: Driver>: Send {
    fn weight(&self) -> usize;
    fn only_reads(&self) -> bool;
    fn again(&mut self) -> bool;
    fn run<'a>(&'a mut self, tx: &'a mut PostgresTx<'_, D>, isolation: Isolation) -> Running<'a>;
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

impl<D, J, O> Queued<D> for Ticket<J, O>
where
    D: Driver,
    J: for<'t> Job<PostgresTx<'t, D>, Output = O>,
    O: Send + 'static,
{
    fn weight(&self) -> usize {
        Job::<PostgresTx<'static, D>>::weight(&self.job)
    }

    fn only_reads(&self) -> bool {
        Job::<PostgresTx<'static, D>>::only_reads(&self.job)
    }

    fn again(&mut self) -> bool {
        Job::<PostgresTx<'static, D>>::again(&mut self.job)
    }

    fn run<'a>(&'a mut self, tx: &'a mut PostgresTx<'_, D>, isolation: Isolation) -> Running<'a> {
        Box::pin(async move {
            self.output = Some(self.job.run(tx, isolation).await?);
            Ok(())
        })
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let lost = || Err(StoreError::new(ErrorKind::Invalid, "a job of the inbox committed without having run"));
        let Self { output, answer, .. } = *self;
        // Whoever asked may have gone; what was done is done.
        let _ = answer.send(committed.and_then(|()| output.map_or_else(lost, Ok)));
    }
}

/// Runs until the last handle to the inbox is dropped.
pub(super) async fn run<D: Driver>(driver: D, consumer: String, mut jobs: mpsc::Receiver<Box<dyn Queued<D>>>) {
    let mut worker = Worker { driver, consumer, producers: Producers::new(), checked: false };
    while let Some(first) = jobs.recv().await {
        let mut events = first.weight();
        let mut group = vec![first];
        while group.len() < GROUP_CALLS && events < GROUP_EVENTS {
            let Ok(next) = jobs.try_recv() else { break };
            events += next.weight();
            group.push(next);
        }
        worker.work(group).await;
    }
}

struct Worker<D> {
    driver: D,
    consumer: String,
    producers: Producers,
    /// Whether the inbox was found to be there.
    checked: bool,
}

/// Why a transaction did not commit.
enum Failure {
    /// A job failed; the others might not.
    Job(Abort),
    /// The server ended the transaction so that another one could go on.
    Again(StoreError),
    /// The database did not even begin, or not commit, so none of the jobs would fare better alone.
    Database(StoreError),
}

impl<D: Driver> Worker<D> {
    /// Commits `group` in one transaction; or, if that fails because of one of its jobs, each by itself.
    async fn work(&mut self, mut group: Vec<Box<dyn Queued<D>>>) {
        let committed = if group.len() > 1 { Some(self.attempt(&mut group).await) } else { None };
        match committed {
            Some(Ok(())) => group.into_iter().for_each(|job| job.finish(Ok(()))),
            Some(Err(Failure::Database(error))) => {
                for job in group {
                    job.finish(Err(same(&error)));
                }
            }
            Some(Err(Failure::Job(_) | Failure::Again(_))) | None => {
                for job in group {
                    self.alone(job).await;
                }
            }
        }
    }

    /// Commits one job in a transaction of its own.
    async fn alone(&mut self, mut job: Box<dyn Queued<D>>) {
        let mut turns = 0;
        let failed = loop {
            match self.attempt(std::slice::from_mut(&mut job)).await {
                Ok(()) => return job.finish(Ok(())),
                Err(Failure::Again(_)) if turns < TURNS => turns += 1,
                Err(Failure::Job(Abort::Store(_))) if job.again() => {}
                Err(Failure::Job(Abort::Store(error)) | Failure::Again(error) | Failure::Database(error)) => {
                    break error;
                }
                Err(Failure::Job(Abort::Redo)) => {
                    let message = "a job of the inbox wants to be done again and again: this is a bug";
                    break StoreError::new(ErrorKind::Invalid, message);
                }
            }
        };
        job.finish(Err(failed));
    }

    async fn attempt(&mut self, group: &mut [Box<dyn Queued<D>>]) -> Result<(), Failure> {
        match self.commit(group, Isolation::Whole).await {
            Err(Failure::Job(Abort::Redo)) => self.commit(group, Isolation::Each).await,
            result => result,
        }
    }

    async fn commit(&mut self, group: &mut [Box<dyn Queued<D>>], isolation: Isolation) -> Result<(), Failure> {
        let mut open = self.driver.begin().await.map_err(Failure::Database)?;
        if !self.checked {
            if let Err(error) = schema::check(&mut open, &self.consumer).await {
                open.rollback().await;
                return Err(Failure::Database(error));
            }
            self.checked = true;
        }
        let mut tx = PostgresTx::new(open, &self.consumer, &mut self.producers);
        let only_reads = group.iter().all(|job| job.only_reads());
        let mut done = Ok(());
        for job in group {
            done = job.run(&mut tx, isolation).await;
            if done.is_err() {
                break;
            }
        }
        let (ended, sign) = match done {
            Ok(()) => tx.commit(only_reads).await,
            Err(abort) => {
                let sign = tx.sign();
                tx.rollback().await;
                (Err(NotCommitted::Job(abort)), sign)
            }
        };
        let result = ended.map_err(|why| match (why, sign, isolation) {
            (NotCommitted::Commit(error), _, _) => Failure::Database(error),
            (NotCommitted::Job(Abort::Store(error)), Some(Sign::Again), _) => Failure::Again(error),
            // Done again, whoever wrote what is refused is found by a check behind each handler.
            (NotCommitted::Refused(_), _, Isolation::Whole)
            | (NotCommitted::Job(Abort::Store(_)), Some(Sign::Aborted), Isolation::Whole) => Failure::Job(Abort::Redo),
            (NotCommitted::Refused(error), _, Isolation::Each) => Failure::Job(error.into()),
            (NotCommitted::Job(abort), _, _) => Failure::Job(abort),
        });
        // A rollback takes back the numbers that were given to new producers.
        if result.is_err() {
            self.producers.clear();
        }
        result
    }
}

/// The same error for another call.
fn same(error: &StoreError) -> StoreError {
    let copy = StoreError::new(error.kind(), error.to_string());
    if error.is_uncertain() { copy.uncertain() } else { copy }
}
