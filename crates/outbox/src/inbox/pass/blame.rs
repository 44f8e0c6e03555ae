//! Which kept message a transaction failed over.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Executor, Pass, Subject};
use crate::{
    bookkeeping::KeptId,
    error::StoreError,
    inbox::{decision::Basis, handler::Answer},
    inbox_store::{Abort, InboxTx, KeptMessage, LaneId, TroubleState},
};

/// The first kept message of a lane.
#[derive(Clone, Debug)]
pub(crate) struct Blamed {
    pub(crate) lane: LaneId,
    pub(crate) kept: KeptId,
}

/// What a sweep is at; it outlives the sweep's transaction, which a handler can make fail without an answer.
#[derive(Clone, Default)]
pub(crate) struct Blame(Arc<Mutex<Option<Blamed>>>);

impl Blame {
    pub(crate) fn set(&self, blamed: Option<Blamed>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = blamed;
    }

    pub(crate) fn take(&self) -> Option<Blamed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes `blamed` unless something is noted; gives whether it did.
    fn note(&self, blamed: impl FnOnce() -> Blamed) -> bool {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = noted.is_none();
        if free {
            *noted = Some(blamed());
        }
        free
    }
}

impl<'a, T: InboxTx, X: Executor<T>> Pass<'a, T, X> {
    /// Notes in `blame` what the pass is at.
    pub(crate) fn blaming(mut self, blame: &'a Blame) -> Self {
        self.blame = Some(blame);
        self
    }

    /// Blames what is kept until [`relieve`](Self::relieve); what is done within its attempt is its own. Gives whether
    /// it is blamed.
    pub(super) fn blame(&self, lane: &LaneId, kept: KeptId) -> bool {
        self.blame.is_some_and(|blame| blame.note(|| Blamed { lane: lane.clone(), kept }))
    }

    pub(super) fn relieve(&self, blamed: bool) {
        if let Some(blame) = self.blame.filter(|_| blamed) {
            blame.set(None);
        }
    }

    /// Counts the transaction that failed as an attempt at what is blamed for it. Gives whether that is still the first
    /// of its lane.
    pub(crate) async fn fail(mut self, blamed: &Blamed, reason: &str) -> Result<bool, Abort> {
        let Blamed { lane, kept } = blamed;
        let mut record = self.open(lane).await?;
        let Some(first) = self.tx.first(lane).await?.filter(|first| first.id == *kept) else { return Ok(false) };
        match &first.message {
            KeptMessage::Event(event) => {
                self.tx.stop_waiting(lane).await?;
                let basis = Basis::of(&self.settings.mode, event, self.now);
                let subject = Subject { lane, event, basis: &basis, kept: Some(*kept) };
                self.settle(&subject, &mut record, Answer::retry(reason)).await?;
            }
            KeptMessage::Raw { .. } => {
                let trouble = super::trouble_of(&mut record, self.now);
                trouble.state = TroubleState::Dead;
                trouble.due = None;
                trouble.reason = super::shorten(reason);
            }
        }
        self.put(lane, record);
        self.finish().await?;
        Ok(true)
    }
}

/// What is said of an attempt that took its transaction with it.
pub(crate) fn reason(error: &StoreError) -> String {
    format!("its transaction failed: {error}")
}
