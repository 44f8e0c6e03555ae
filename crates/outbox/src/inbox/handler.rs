//! Handlers: what a consumer does with an event.

use std::{fmt::Display, time::Duration};

use crate::event::Event;

/// What a handler answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The effect is written.
    Done,
    /// Not now. What was written is taken back, and the event is tried again.
    Retry {
        /// After so long; `None` leaves it to the inbox's schedule.
        after: Option<Duration>,
        /// Why, for people; without payload or secrets.
        reason: String,
    },
    /// Never: the event is a dead letter of this consumer. What was written is taken back.
    GiveUp {
        /// Why, for people; without payload or secrets.
        reason: String,
    },
}

impl Answer {
    /// Asks for another attempt on the inbox's schedule.
    pub fn retry(reason: impl Display) -> Self {
        Self::Retry { after: None, reason: reason.to_string() }
    }

    /// Gives the event up.
    pub fn give_up(reason: impl Display) -> Self {
        Self::GiveUp { reason: reason.to_string() }
    }
}

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// An error asks for another attempt, so that a handler can use `?`.
impl<T: Into<Self>, E: Display> From<Result<T, E>> for Answer {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Self::retry, Into::into)
    }
}

/// What a consumer does with an event, in the transaction `Tx` of its store.
///
/// Everything it writes goes through `Tx`, so that it commits with the record that it was done, or not at all. It may be
/// called several times for an event, in transactions of which at most one commits: what it does elsewhere (a call to
/// another service, a line in a file) may happen several times, and belongs in a [`ClaimHandler`](super::ClaimHandler).
/// A panic counts as [`Answer::Retry`]. It must not commit or roll back the transaction itself.
///
/// For most stores a plain closure will do: `handler_fn` of [`memory`](super::memory), or of the SQLite backend.
pub trait Handler<Tx>: Send + Sync + 'static {
    /// Applies `event`.
    #[expect(async_fn_in_trait, reason = "futures need not be Send: a transaction stays on the thread of its store")]
    async fn handle(&self, tx: &mut Tx, event: &Event) -> Answer;
}
