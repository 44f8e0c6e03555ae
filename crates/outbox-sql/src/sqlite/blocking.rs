//! Work that waits for the disk, kept off the threads that run futures.

use std::sync::{Mutex, MutexGuard, PoisonError};

use outbox::{ErrorKind, StoreError};

/// Runs `work` on a thread that may block. Dropping the future does not stop work that has begun.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let message = "the thread that worked on the database ended before it was done: this is a bug, report it";
            Err(StoreError::new(ErrorKind::Invalid, message).uncertain().because(error))
        }
    }
}

/// Locks; what a panicking thread left is used as it is, for everything guarded here is whole between two statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
