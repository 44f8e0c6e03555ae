//! What an operator does to a consumer's inbox, while the consumer runs or not.
//!
//! An operator has no handler, so nothing is applied here: what is redriven, and what a discarded or skipped event made
//! ready, is applied by the consumer's next sweep.

use std::sync::Arc;

use crate::{
    bookkeeping::{KeptId, Lane},
    clock::{Clock, System},
    error::StoreError,
    event::Key,
    inbox_store::{InboxStore, InboxTotals, KeptLane, KeptMessage, LaneId, TroubleState},
    place::Place,
};

mod jobs;
#[cfg(test)]
mod tests;

use jobs::{Change, ChangeJob, ForgetJob, KeptJob, RewindJob, ShowJob, SkipJob, TotalsJob};

/// Lanes that one transaction reads.
const PAGE: usize = 200;

/// Which kept events an operator means; all parts that are given have to match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Only this kept event.
    pub id: Option<KeptId>,
    /// Only this producer.
    pub producer: Option<String>,
    /// Only this key.
    pub key: Option<Key>,
    /// Only events of this type.
    pub kind: Option<String>,
}

impl Chosen {
    fn matches(&self, kept: &KeptLane) -> bool {
        let (key, kind) = match &kept.first.message {
            KeptMessage::Event(event) => (event.key(), Some(event.kind())),
            KeptMessage::Raw { .. } => (None, None),
        };
        self.id.is_none_or(|id| id == kept.first.id)
            && self.producer.as_deref().is_none_or(|producer| producer == &*kept.lane.producer)
            && self.key.as_ref().is_none_or(|wanted| key == Some(wanted))
            && self.kind.as_deref().is_none_or(|wanted| kind == Some(wanted))
    }
}

/// Looks into an inbox and puts things right in it. A consumer that runs meanwhile notices at its next sweep.
pub struct InboxOperator<S> {
    store: S,
    clock: Arc<dyn Clock>,
}

impl<S: InboxStore> InboxOperator<S> {
    /// The operator of the inbox in `store`.
    pub fn new(store: S) -> Self {
        Self { store, clock: Arc::new(System) }
    }

    /// The clock; the system's unless set.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What the inbox holds, and what it has done.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn totals(&self) -> Result<InboxTotals, StoreError> {
        self.store.transact(TotalsJob).await
    }

    /// Lanes that keep events, each with the first of them, in the store's order, behind `after`; `limit` at most.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn kept(&self, after: Option<LaneId>, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        self.store.transact(KeptJob { after, limit }).await
    }

    /// Dead letters that `chosen` means, `limit` at most, by lane.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn dead_letters(&self, chosen: &Chosen, limit: usize) -> Result<Vec<KeptLane>, StoreError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.kept(after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|kept| kept.lane.clone());
            found.extend(page.into_iter().filter(|kept| is_dead(kept) && chosen.matches(kept)));
            if !full || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    /// A kept event, its lane, and what is known of that.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn show(&self, id: KeptId) -> Result<Option<KeptLane>, StoreError> {
        self.store.transact(ShowJob { id }).await
    }

    /// Has dead letters tried again, with a full set of attempts, and what is parked behind them after them. An event
    /// whose cause was never seen is tried without it. Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn redrive(&self, chosen: &Chosen) -> Result<u64, StoreError> {
        self.change_all(chosen, is_dead, Change::Redrive).await
    }

    /// Drops dead letters for good: the mark moves past them, and what is parked behind them goes on. With an id, also an
    /// event that is still retried or waits for its cause. Gives how many.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn discard(&self, chosen: &Chosen, reason: &str) -> Result<u64, StoreError> {
        let by_id = chosen.id.is_some();
        let discarded = self
            .change_all(chosen, move |kept| is_dead(kept) || (by_id && its_turn_has_come(kept)), Change::Discard)
            .await?;
        tracing::warn!(discarded, reason, "events of the inbox were discarded");
        Ok(discarded)
    }

    /// Goes on without what is missing: moves the mark of a key to `to`, or to just before the first event that is
    /// parked. What lies between is a duplicate from then on. Gives the new mark.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the mark is there already or beyond, or nothing is parked and no place given.
    pub async fn skip(&self, producer: &str, key: &Key, to: Option<Place>) -> Result<Place, StoreError> {
        let lane = LaneId { producer: producer.into(), lane: Lane::Key(key.clone()) };
        self.store.transact(SkipJob { lane, to, now: self.clock.wall() }).await
    }

    /// Sets the mark of a key back to `to`, so that what follows is applied again when it is published again.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the mark is not beyond `to`.
    pub async fn rewind(&self, producer: &str, key: &Key, to: Place) -> Result<(), StoreError> {
        let lane = LaneId { producer: producer.into(), lane: Lane::Key(key.clone()) };
        self.store.transact(RewindJob { lane, to, now: self.clock.wall() }).await
    }

    /// Forgets every mark and id of a producer, so that everything is applied again when it is published again from
    /// the beginning. Gives how many were forgotten.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn rewind_producer(&self, producer: &str) -> Result<u64, StoreError> {
        let forgotten = self.store.transact(ForgetJob { producer: producer.into() }).await?;
        let chosen = Chosen { producer: Some(producer.to_owned()), ..Chosen::default() };
        self.change_all(&chosen, |kept| matches!(kept.lane.lane, Lane::Key(_)), Change::WaitAgain).await?;
        Ok(forgotten)
    }

    /// Erases every kept copy of a key's events, of one producer or of all; its mark moves past them. Gives how many
    /// lanes had some.
    ///
    /// # Errors
    /// As the store gave it.
    pub async fn erase(&self, producer: Option<&str>, key: &Key) -> Result<u64, StoreError> {
        let chosen = Chosen { key: Some(key.clone()), producer: producer.map(str::to_owned), ..Chosen::default() };
        self.change_all(&chosen, |_| true, Change::Erase).await
    }

    async fn change_all(
        &self,
        chosen: &Chosen,
        eligible: impl Fn(&KeptLane) -> bool,
        change: Change,
    ) -> Result<u64, StoreError> {
        let (mut changed, mut after) = (0, None);
        loop {
            let page = self.kept(after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|kept| kept.lane.clone());
            let mut targets: Vec<_> = page.into_iter().filter(|kept| chosen.matches(kept) && eligible(kept)).collect();
            while !targets.is_empty() {
                let job = ChangeJob::new(targets.clone(), change, self.clock.wall());
                let done = self.store.transact(job).await?;
                changed += done.lanes;
                targets.drain(..done.taken);
                targets.extend(done.partly);
            }
            if !full {
                return Ok(changed);
            }
        }
    }
}

fn is_dead(kept: &KeptLane) -> bool {
    kept.record.trouble.as_ref().is_some_and(|trouble| trouble.state == TroubleState::Dead)
}

/// Not what waits for its predecessor: to drop that would not help, and to move the mark past it would lose the
/// predecessor. Not what somebody handles at this moment either.
fn its_turn_has_come(kept: &KeptLane) -> bool {
    kept.record.trouble.as_ref().is_some_and(|trouble| match trouble.state {
        TroubleState::Dead | TroubleState::Retrying | TroubleState::Cause => true,
        TroubleState::Waiting | TroubleState::Claimed => false,
    })
}
