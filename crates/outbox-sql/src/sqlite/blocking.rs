//! Work that waits for the disk, kept off the threads that run futures.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use outbox::{ErrorKind, StoreError};
use tokio::sync::oneshot;

/// Runs `work` on a thread that may block. Dropping the future does not stop work that has begun.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ended_early().because(error)),
    }
}

fn ended_early() -> StoreError {
    let message = "the thread that worked on the database ended before it was done: this is a bug, report it";
    StoreError::new(ErrorKind::Invalid, message).uncertain()
}

/// Looks into the empty queue, each of which lets other threads run, before the thread goes to sleep: who reads through
/// a backlog asks again at once, and waking a thread takes as long as reading a hundred rows.
const LOOKS: usize = 100;

type Job = Box<dyn FnOnce(&AtomicBool) + Send>;

/// A thread for work that comes one after the other. Ends with this.
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    is_free: Arc<AtomicBool>,
}

impl Worker {
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub(crate) fn start(name: &str) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let is_free = Arc::new(AtomicBool::new(true));
        let free = is_free.clone();
        let work = move || {
            while let Some(job) = next(&waiting) {
                job(&free);
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
            StoreError::new(ErrorKind::Unavailable, format!("starting the thread {name}: {error}")).because(error)
        })?;
        Ok(Self { jobs, is_free })
    }

    /// As [`run`], on this thread if it is free.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if !self.is_free.swap(false, Ordering::AcqRel) {
            return run(work).await;
        }
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |is_free: &AtomicBool| {
            let result = work();
            is_free.store(true, Ordering::Release);
            // Whoever asked may have gone.
            let _ = reply.send(result);
        });
        self.jobs.send(job).map_err(|_| ended_early())?;
        answer.await.map_err(|_| ended_early())?
    }
}

fn next(waiting: &mpsc::Receiver<Job>) -> Option<Job> {
    for _ in 0..LOOKS {
        match waiting.try_recv() {
            Ok(job) => return Some(job),
            Err(mpsc::TryRecvError::Empty) => thread::yield_now(),
            Err(mpsc::TryRecvError::Disconnected) => return None,
        }
    }
    waiting.recv().ok()
}

/// Locks; what a panicking thread left is used as it is, for everything guarded here is whole between two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
