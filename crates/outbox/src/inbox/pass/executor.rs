//! How attempts are made: by calling the handler, or by leaving them to whoever claims the event.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;

use crate::{
    clock::Moment,
    event::Event,
    inbox::handler::{Answer, Handler},
    inbox_store::{Abort, InboxTx, Isolation},
};

/// What an attempt at an event came to.
pub(crate) enum Attempt {
    /// The handler answered.
    Answered(Answer),
    /// It will be made outside of the transaction, under a claim.
    Deferred(Deferring),
}

/// Makes attempts: by calling the handler, or by leaving them to whoever claims the event.
pub(crate) trait Executor<T>: Send + 'static {
    /// Whether an attempt is answered within its transaction.
    const AT_ONCE: bool;

    async fn attempt(&mut self, tx: &mut T, isolation: Isolation, event: &Event) -> Result<Attempt, Abort>;
}

/// Calls the handler in the transaction.
pub(crate) struct Direct<H>(pub(crate) Arc<H>);

impl<T: InboxTx, H: Handler<T>> Executor<T> for Direct<H> {
    const AT_ONCE: bool = true;

    async fn attempt(&mut self, tx: &mut T, isolation: Isolation, event: &Event) -> Result<Attempt, Abort> {
        if isolation == Isolation::Each {
            tx.guard().await?;
        }
        let answer = AssertUnwindSafe(self.0.handle(tx, event)).catch_unwind().await;
        let mut answer = answer.unwrap_or_else(|_| Answer::retry("the handler panicked"));
        match (&answer, isolation) {
            (Answer::Done, Isolation::Each) => {
                if let Some(reason) = tx.accept().await? {
                    tx.undo().await?;
                    answer = Answer::retry(reason);
                }
            }
            (Answer::Done, Isolation::Whole) => tx.still_open().await?,
            (Answer::Retry { .. } | Answer::GiveUp { .. }, Isolation::Each) => tx.undo().await?,
            (Answer::Retry { .. } | Answer::GiveUp { .. }, Isolation::Whole) => return Err(Abort::Redo),
        }
        Ok(Attempt::Answered(answer))
    }
}

/// Leaves every attempt to the holder of a claim.
#[derive(Clone, Copy)]
pub(crate) struct Deferring {
    /// How long the claim lasts.
    pub(crate) expiry: Duration,
    /// When it ends, by a clock that nobody sets.
    pub(crate) ends: Moment,
}

impl<T> Executor<T> for Deferring {
    const AT_ONCE: bool = false;

    async fn attempt(&mut self, _: &mut T, _: Isolation, _: &Event) -> Result<Attempt, Abort> {
        Ok(Attempt::Deferred(*self))
    }
}
