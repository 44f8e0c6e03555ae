//! Group commit: every write of a bookkeeping goes through one thread, which puts what waits into one transaction.
//!
//! All routes of a relay share the file, and each durable commit waits for the disk; so while one commit is under way
//! the next writes gather, and go together. Each write is answered when its transaction is durable. One that fails
//! before it changed anything does not disturb the others; if one fails halfway, or the commit does, the group is rolled
//! back and done again one by one.

use std::{path::PathBuf, sync::mpsc, thread};

use outbox::{ErrorKind, StoreError};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::sqlite::{connection::FileIdentity, failure::meaning};

/// Writes that share a transaction at most.
const GROUP: usize = 256;

/// The way to the writing thread. To drop this waits until that has ended, its connection closed: a process that ends before
/// leaves what it wrote beside the file, in the WAL, and whoever copies the file then has a copy without it.
pub(super) struct Commits {
    /// There is one until this is dropped.
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Whether it panicked was said by those who waited for an answer.
            let _ = thread.join();
        }
    }
}

/// A write that waits for its turn.
trait Job: Send {
    /// Does it within the open transaction and holds what came out. `false` if it failed.
    fn work(&mut self, connection: &Connection) -> bool;

    /// Gives what came out to the caller.
    fn answer(self: Box<Self>);

    /// Tells the caller that nothing is known to have been stored.
    fn fail(self: Box<Self>, error: StoreError);
}

struct Write<T, W> {
    attempted: &'static str,
    work: W,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W> Job for Write<T, W>
where
    T: Send,
    W: Fn(&Connection) -> Result<T, StoreError> + Send,
{
    fn work(&mut self, connection: &Connection) -> bool {
        let result = (self.work)(connection);
        let done = result.is_ok();
        self.result = Some(result);
        done
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // Whoever asked may be gone; the write stands all the same.
            let _ = self.reply.send(result);
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error.context(self.attempted)));
    }
}

/// The writing thread's side.
pub(super) struct Committer {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    /// The file that was opened.
    pub(super) file: FileIdentity,
}

impl Commits {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub(super) fn start(committer: Committer) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel::<Box<dyn Job>>();
        let thread = thread::Builder::new()
            .name("outbox-bookkeeping".to_owned())
            .spawn(move || {
                while let Ok(first) = waiting.recv() {
                    let group = std::iter::once(first).chain(waiting.try_iter()).take(GROUP).collect();
                    committer.commit(group);
                }
            })
            .map_err(|error| {
                StoreError::new(ErrorKind::Unavailable, format!("starting the bookkeeping's thread: {error}"))
                    .because(error)
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `work` done in a transaction and waits until that is durable. `work` may be run again after a rollback.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        attempted: &'static str,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Write { attempted, work, result: None, reply });
        let gone = || {
            let message = format!("{attempted}: the bookkeeping's thread has ended: start the relay anew");
            StoreError::new(ErrorKind::Invalid, message).uncertain()
        };
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Why a group was not committed.
enum Failed {
    /// Nothing was begun.
    Begin(StoreError),
    /// A write failed halfway: all is rolled back.
    Halfway,
    /// The commit failed.
    Commit(StoreError),
}

impl Committer {
    fn commit(&self, mut group: Vec<Box<dyn Job>>) {
        match self.attempt(&mut group).err() {
            Some(Failed::Begin(error)) => {
                for job in group {
                    job.fail(StoreError::new(error.kind(), error.to_string()));
                }
            }
            Some(Failed::Halfway | Failed::Commit(_)) if group.len() > 1 => {
                for job in group {
                    self.commit(vec![job]);
                }
            }
            Some(Failed::Commit(error)) => {
                if let Some(job) = group.pop() {
                    job.fail(error.uncertain());
                }
            }
            // Done, or alone and rolled back: then its own error says why.
            None | Some(Failed::Halfway) => group.into_iter().for_each(Job::answer),
        }
    }

    fn attempt(&self, group: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        self.check_file().map_err(Failed::Begin)?;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|error| Failed::Begin(said(error)))?;
        for job in group {
            let before = transaction.total_changes();
            let done = job.work(&transaction);
            // Some failures make SQLite roll the transaction back by itself, and the writes before this one with it.
            if !done && (transaction.total_changes() != before || transaction.is_autocommit()) {
                return Err(Failed::Halfway);
            }
        }
        transaction.commit().map_err(|error| Failed::Commit(said(error)))
    }

    /// What is written to a file that was moved away is lost with the next start.
    fn check_file(&self) -> Result<(), StoreError> {
        if FileIdentity::of(&self.path).is_ok_and(|file| file == self.file) {
            return Ok(());
        }
        let message = format!(
            "the bookkeeping `{}` was moved, replaced or deleted while in use: put it back and start the relay anew; if it is lost, run `outbox adopt`",
            self.path.display()
        );
        Err(StoreError::new(ErrorKind::Ownership, message))
    }
}

fn said(error: rusqlite::Error) -> StoreError {
    let (kind, remedy) = meaning(&error);
    StoreError::new(kind, format!("{error}{remedy}")).because(error)
}
