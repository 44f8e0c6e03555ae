//! The thread that works on the inbox, and commits for several calls at once.
//!
//! A thread of its own, because neither jobs nor the handlers in them have to be able to move between threads.

use std::{future::Future, pin::Pin};

use outbox::{
    ErrorKind, StoreError,
    inbox_store::{Abort, Isolation, Job},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    commit::Ended,
    effect::Doer,
    table::Table,
    tx::{DynamoTx, Hints},
};

/// Events in one transaction at most, unless one call has more.
const GROUP_EVENTS: usize = 20;
/// Calls in one transaction at most.
const GROUP_CALLS: usize = 16;
/// How often a handler whose action's condition failed is asked anew.
const TURNS: u32 = 2;

/// Work on the inbox's thread.
type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Abort>> + 'a>>;

/// A job in the queue, whatever it gives.
pub(super) trait Queued: Send {
    fn weight(&self) -> usize;
    fn again(&mut self) -> bool;
    fn less(&mut self) -> bool;
    fn run<'a>(&'a mut self, tx: &'a mut DynamoTx<'_>, isolation: Isolation) -> Running<'a>;
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
    J: for<'t> Job<DynamoTx<'t>, Output = O>,
    O: Send + 'static,
{
    fn weight(&self) -> usize {
        Job::<DynamoTx<'static>>::weight(&self.job)
    }

    fn again(&mut self) -> bool {
        Job::<DynamoTx<'static>>::again(&mut self.job)
    }

    fn less(&mut self) -> bool {
        Job::<DynamoTx<'static>>::less(&mut self.job)
    }

    fn run<'a>(&'a mut self, tx: &'a mut DynamoTx<'_>, isolation: Isolation) -> Running<'a> {
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
pub(super) async fn run(table: Table, reads_marks: bool, mut jobs: mpsc::Receiver<Box<dyn Queued>>) {
    let mut worker = Worker { table, reads_marks, checked: false };
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

struct Worker {
    table: Table,
    /// Whether marks are read before they are moved on.
    reads_marks: bool,
    /// Whether the inbox was found to be there.
    checked: bool,
}

impl Worker {
    /// Commits `group` in one transaction; or, if that fails, each by itself.
    async fn work(&mut self, mut group: Vec<Box<dyn Queued>>) {
        if let Err(error) = self.check().await {
            for job in group {
                job.finish(Err(same(&error)));
            }
            return;
        }
        if group.len() > 1 {
            match self.together(&mut group).await {
                Together::Done => return group.into_iter().for_each(|job| job.finish(Ok(()))),
                Together::Unreachable(error) => {
                    for job in group {
                        job.finish(Err(same(&error)));
                    }
                    return;
                }
                Together::Apart => {}
            }
        }
        for job in group {
            self.alone(job).await;
        }
    }

    async fn check(&mut self) -> Result<(), StoreError> {
        if !self.checked {
            self.table.consumer().await?;
            self.checked = true;
        }
        Ok(())
    }

    async fn together(&self, group: &mut [Box<dyn Queued>]) -> Together {
        let hints = Hints { reads_marks: self.reads_marks, ..Hints::default() };
        let mut tx = DynamoTx::new(&self.table, &hints);
        for job in group {
            if job.run(&mut tx, Isolation::Whole).await.is_err() {
                return Together::Apart;
            }
        }
        match tx.commit().await {
            Ended::Done => Together::Done,
            // None of them would fare better alone.
            Ended::Failed(error) if error.kind().retry() => Together::Unreachable(error),
            Ended::Failed(_) | Ended::Changed | Ended::Refused { .. } | Ended::TooMuch(_) => Together::Apart,
        }
    }

    /// Commits one job in a transaction of its own, as often as it takes.
    async fn alone(&self, mut job: Box<dyn Queued>) {
        let hints = Hints { reads_marks: self.reads_marks, ..Hints::default() };
        let mut plan = Plan { hints, isolation: Isolation::Whole };
        let mut pauses = self.table.calls.pauses();
        let ended = loop {
            match self.attempt(&mut *job, &mut plan).await {
                Step::Done => break Ok(()),
                Step::Again => {}
                Step::Later if pauses.wait(&*self.table.calls.clock).await => {}
                Step::Later => {
                    let message = "committing to the inbox: other consumers of its keys were faster each time";
                    break Err(StoreError::new(ErrorKind::Unavailable, message));
                }
                Step::Failed(error) => break Err(error),
            }
        };
        job.finish(ended);
    }

    /// Runs and commits a job once.
    async fn attempt(&self, job: &mut dyn Queued, plan: &mut Plan) -> Step {
        let mut tx = DynamoTx::new(&self.table, &plan.hints);
        if let Err(abort) = job.run(&mut tx, plan.isolation).await {
            let clashes = tx.clashes;
            return plan.aborted(job, abort, clashes);
        }
        let acts = tx.effect.len() > 0;
        let ended = tx.commit().await;
        plan.ended(job, ended, acts)
    }
}

/// How a job is tried next.
struct Plan {
    hints: Hints,
    isolation: Isolation,
}

/// What follows an attempt.
enum Step {
    Done,
    /// Another one at once.
    Again,
    /// Another one after a pause.
    Later,
    Failed(StoreError),
}

impl Plan {
    /// The job did not run to its end.
    fn aborted(&mut self, job: &mut dyn Queued, abort: Abort, clashes: bool) -> Step {
        match abort {
            Abort::Redo if self.isolation == Isolation::Whole => self.isolation = Isolation::Each,
            Abort::Redo => return Step::Failed(invalid("a job wants to be done again and again: this is a bug")),
            // It may have failed because something was not as it was taken to be.
            Abort::Store(error) if !self.hints.reads_all() && !error.kind().retry() || clashes => self.hints.read_all(),
            Abort::Store(_) if job.again() => self.isolation = Isolation::Whole,
            Abort::Store(error) => return Step::Failed(error),
        }
        Step::Again
    }

    /// The job ran, and this became of its transaction, with actions of handlers or without.
    fn ended(&mut self, job: &mut dyn Queued, ended: Ended, acts: bool) -> Step {
        match ended {
            Ended::Done => Step::Done,
            Ended::Changed => {
                self.hints.read_all();
                Step::Later
            }
            Ended::Refused { doer, reason, for_good } => {
                self.isolation = Isolation::Each;
                self.hints.note_refusal(doer, reason, for_good);
                Step::Later
            }
            Ended::TooMuch(reason) if self.does_less(job, &reason, acts) => Step::Again,
            Ended::TooMuch(reason) => Step::Failed(invalid(&reason)),
            // A handler's action may be what is refused, and there is no telling whose but when it is alone.
            Ended::Failed(error)
                if error.kind() == ErrorKind::Invalid && acts && self.does_less(job, &error.to_string(), acts) =>
            {
                Step::Again
            }
            Ended::Failed(error) => Step::Failed(error),
        }
    }

    /// Whether there is less to be done the next time: a part of the job, or nothing of what handlers do.
    fn does_less(&mut self, job: &mut dyn Queued, reason: &str, acts: bool) -> bool {
        let does_less = job.less() || (acts && self.hints.refuse_all(reason));
        if does_less && self.hints.refuses_all.is_some() {
            // What is left out is so by each handler's own point.
            self.isolation = Isolation::Each;
        }
        does_less
    }
}

impl Hints {
    /// Takes nothing for granted any more.
    fn read_all(&mut self) {
        (self.reads_marks, self.reads_ids) = (true, true);
    }

    fn reads_all(&self) -> bool {
        self.reads_marks && self.reads_ids
    }

    /// Whose actions were refused: they are asked anew, and left out if that does not help.
    fn note_refusal(&mut self, doer: Doer, reason: String, for_good: bool) {
        let failed = self.failed.entry(doer.clone()).or_default();
        *failed += 1;
        if for_good || *failed > TURNS {
            self.refused.insert(doer, reason);
        }
    }

    /// Leaves out what handlers do. False if that did not help before.
    fn refuse_all(&mut self, reason: &str) -> bool {
        self.refuses_all.replace(reason.to_owned()).is_none()
    }
}

fn invalid(reason: &str) -> StoreError {
    StoreError::new(ErrorKind::Invalid, format!("committing to the inbox: {reason}"))
}

/// What became of several jobs in one transaction.
enum Together {
    Done,
    /// One of them is in the way of the others.
    Apart,
    Unreachable(StoreError),
}

/// The same error for another call.
fn same(error: &StoreError) -> StoreError {
    let copy = StoreError::new(error.kind(), error.to_string());
    if error.is_uncertain() { copy.uncertain() } else { copy }
}
