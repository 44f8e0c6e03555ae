//! Taking in what has arrived.

use std::collections::BTreeSet;

use super::{Executor, Pass, Subject, UNORDERED, forget_empty, later, trouble_of, wait_again};
use crate::{
    bookkeeping::{KeptId, Lane},
    error::{ErrorKind, StoreError},
    event::Event,
    inbox::{
        applied::{Applied, Waits},
        cause::Cause,
        decision::{Basis, Verdict, judge, mark_met},
        raw::RawMessage,
        service::Incoming,
        settings::Mode,
    },
    inbox_store::{Abort, EventId, InboxKept, InboxTx, KeptMessage, LaneId, LaneRecord, Trouble, TroubleState},
};

/// An event that has arrived, and what it will be judged by.
pub(super) struct Arrival<'e> {
    index: usize,
    pub(super) event: &'e Event,
    pub(super) basis: Basis,
    pub(super) lane: LaneId,
    /// For an event that is recognised by its id: whether the id is new.
    new: bool,
    /// Whether its key's mark was moved on for it already.
    pub(super) advanced: bool,
}

impl<T: InboxTx, X: Executor<T>> Pass<'_, T, X> {
    /// Takes all of `incoming`. Gives the lanes it touched.
    pub(super) async fn admit_all(&mut self, incoming: &[Incoming]) -> Result<BTreeSet<LaneId>, Abort> {
        let mut outcomes = vec![None; incoming.len()];
        let mut arrivals = self.arrivals(incoming);
        self.advance(&mut arrivals).await?;
        let touched = self.load_lanes(&arrivals).await?;
        self.refuse_unnumbered(&mut arrivals);
        self.remember(&mut arrivals).await?;
        self.look_for_causes(&arrivals).await?;
        for arrival in &arrivals {
            let applied = if arrival.advanced { self.follow(arrival.event).await } else { self.admit(arrival).await };
            outcomes[arrival.index] = Some(applied?);
        }
        for (index, message) in incoming.iter().enumerate() {
            if let Incoming::Undecodable { message, reason } = message {
                outcomes[index] = Some(self.set_aside(message, reason).await?);
            }
        }
        self.done.applied = all_judged(outcomes)?;
        Ok(touched)
    }

    /// The events, those of a key by their place, keys sorted; those without a key in the order they came.
    fn arrivals<'e>(&self, incoming: &'e [Incoming]) -> Vec<Arrival<'e>> {
        let events = incoming.iter().enumerate().filter_map(|(index, message)| match message {
            Incoming::Event(event) => Some((index, event)),
            Incoming::Undecodable { .. } => None,
        });
        let mut arrivals: Vec<_> = events
            .map(|(index, event)| {
                let basis = Basis::of(&self.settings.mode, event, self.now);
                let lane = basis.lane(event);
                Arrival { index, event, basis, lane, new: true, advanced: false }
            })
            .collect();
        arrivals.sort_by(|left, right| {
            let order = |arrival: &Arrival<'e>| (arrival.event.key(), arrival.basis.place(), arrival.index);
            order(left).cmp(&order(right))
        });
        arrivals
    }

    /// Refuses events without a place whose key has places, before their ids are remembered: what is refused leaves no
    /// trace, or its repetition would be taken for a duplicate.
    fn refuse_unnumbered(&self, arrivals: &mut [Arrival<'_>]) {
        for Arrival { basis, lane, event, .. } in arrivals {
            if let (Basis::Time(_), Some(slot)) = (&*basis, self.slots.get(lane))
                && let Verdict::Refuse(reason) = judge(self.settings, &slot.now, basis, event)
            {
                *basis = Basis::Refused(reason);
            }
        }
    }

    async fn remember(&mut self, arrivals: &mut [Arrival<'_>]) -> Result<(), StoreError> {
        let by_id = || arrivals.iter().filter(|arrival| arrival.basis.by_id());
        let ids: Vec<_> = by_id().map(|arrival| EventId::of(arrival.event)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let expires = later(self.now, self.settings.remember_ids_for);
        // Where others may wait for an event, its id is not enough before the event itself is done with.
        let done = !matches!(self.settings.mode, Mode::AfterCause { .. });
        let new = self.tx.remember(&ids, expires, done).await?;
        for (arrival, new) in arrivals.iter_mut().filter(|arrival| arrival.basis.by_id()).zip(new) {
            arrival.new = new;
        }
        Ok(())
    }

    /// Loads the keys of the arrivals and of what caused them, in one go.
    async fn load_lanes(&mut self, arrivals: &[Arrival<'_>]) -> Result<BTreeSet<LaneId>, StoreError> {
        let keyed = |lane: &LaneId| matches!(lane.lane, Lane::Key(_));
        let loaded = || arrivals.iter().filter(|arrival| !arrival.advanced);
        let touched: BTreeSet<_> = loaded().map(|arrival| &arrival.lane).filter(|lane| keyed(lane)).cloned().collect();
        let causes = loaded()
            .filter_map(|arrival| Cause::to_wait_for(&self.settings.mode, &arrival.lane, arrival.event))
            .map(|cause| cause.lane())
            .filter(keyed);
        let lanes: Vec<_> = touched.iter().cloned().chain(causes).collect::<BTreeSet<_>>().into_iter().collect();
        if !lanes.is_empty() {
            self.load(&lanes).await?;
        }
        Ok(touched)
    }

    /// Asks in one go which of the causes that have no key are done with. One that is not may be by its turn, if it is
    /// among the arrivals: it is asked for again then. Behind the ids of the arrivals: of two passes that take the same
    /// events, the second waits there and holds nothing that the first needs.
    async fn look_for_causes(&mut self, arrivals: &[Arrival<'_>]) -> Result<(), StoreError> {
        let causes = arrivals.iter().filter_map(|arrival| {
            match Cause::to_wait_for(&self.settings.mode, &arrival.lane, arrival.event)? {
                Cause::Id(id) => Some(id),
                Cause::Place { .. } => None,
            }
        });
        let ids: Vec<_> = causes.collect::<BTreeSet<_>>().into_iter().collect();
        if ids.len() < 2 {
            return Ok(());
        }
        let done = self.tx.are_done(&ids).await?;
        self.seen.extend(ids.into_iter().zip(done).filter(|(_, done)| *done).map(|(id, _)| id));
        Ok(())
    }

    async fn admit(&mut self, arrival: &Arrival<'_>) -> Result<Applied, Abort> {
        let Arrival { event, basis, lane, .. } = arrival;
        if basis.by_id() && !arrival.new {
            self.done.counts.duplicates += 1;
            return Ok(Applied::Duplicate);
        }
        let subject = Subject { lane, event, basis, kept: None };
        // An id that is new has no lane yet.
        let mut record = match lane.lane {
            Lane::Key(_) => self.open(lane).await?,
            Lane::Event(_) => LaneRecord::default(),
        };
        record.mark = mark_met(self.settings, &record, basis);
        let applied = match judge(self.settings, &record, basis, event) {
            Verdict::Refuse(reason) => {
                tracing::error!(
                    ?lane,
                    event = event.id(),
                    reason,
                    "an event cannot be taken, and stays with its sender"
                );
                return Ok(Applied::Refused { reason });
            }
            Verdict::Stop(reason) => {
                tracing::error!(?lane, event = event.id(), reason, "a key stops");
                return Ok(Applied::Stopped { reason });
            }
            Verdict::Duplicate => {
                self.done.counts.duplicates += 1;
                Applied::Duplicate
            }
            Verdict::Superseded => {
                self.done.counts.superseded += 1;
                Applied::Superseded
            }
            Verdict::Nothing => {
                self.done.counts.ignored += 1;
                Applied::Ignored
            }
            Verdict::Wait(Waits::Create) => self.park_newest(&subject, &mut record).await?,
            Verdict::Wait(_) => self.park(&subject, &mut record).await?,
            Verdict::Ignore if record.trouble.is_none() => {
                self.done.counts.ignored += 1;
                self.pass_by(&subject, &mut record).await?;
                Applied::Ignored
            }
            verdict @ (Verdict::Ignore | Verdict::Try { .. }) if self.settings.mode == Mode::Latest => {
                self.newest(&subject, &mut record, &verdict).await?
            }
            verdict @ (Verdict::Ignore | Verdict::Try { .. }) => {
                self.next_in_turn(&subject, &mut record, &verdict).await?
            }
        };
        if record != LaneRecord::default() && !self.slots.contains_key(lane) {
            self.load(std::slice::from_ref(lane)).await?;
        }
        self.put(lane, record);
        Ok(applied)
    }

    /// Parks an event that is not next in its key.
    async fn park(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<Applied, Abort> {
        if self.keep_behind(subject, record).await?.is_none() {
            self.done.counts.duplicates += 1;
            return Ok(Applied::Duplicate);
        }
        if subject.basis.by_id() {
            self.tx.set_done(&EventId::of(subject.event), false).await?;
        }
        let trouble = trouble_of(record, self.now);
        trouble.kept += 1;
        Ok(Applied::Parked(match trouble.state {
            TroubleState::Waiting => {
                self.done.counts.early += 1;
                Waits::Predecessor
            }
            TroubleState::Cause | TroubleState::Retrying | TroubleState::Dead => Waits::Trouble,
            TroubleState::Claimed => Waits::Claim,
        }))
    }

    /// Keeps an event that is not to be the first of its lane; `None` if it is kept already. One that is judged by its
    /// time stands behind whatever is kept of that time: those are other events, for its id is new. It leaves the first
    /// place of that time to the create that it may wait for.
    async fn keep_behind(&mut self, subject: &Subject<'_>, record: &LaneRecord) -> Result<Option<KeptId>, StoreError> {
        let message = KeptMessage::Event(subject.event.clone());
        let mut place = subject.basis.place();
        if !matches!(subject.basis, Basis::Time(_)) {
            return self.tx.keep(subject.lane, place, &message, self.now).await;
        }
        let kept = record.trouble.as_ref().map_or(0, |trouble| u32::try_from(trouble.kept).unwrap_or(u32::MAX));
        let first = self.tx.first(subject.lane).await?.filter(|first| subject.basis.met(first.place) == place);
        // Behind the front, and so far behind it that there is rarely another.
        place.index = first.map_or(1, |first| first.place.index.saturating_add(kept.max(1)));
        loop {
            if let Some(kept) = self.tx.keep(subject.lane, place, &message, self.now).await? {
                return Ok(Some(kept));
            }
            let full = || {
                let message = format!("a key keeps too many events of one time to keep `{}`", subject.event.id());
                StoreError::new(ErrorKind::Full, message)
            };
            place.index = place.index.checked_add(1).ok_or_else(full)?.max(kept);
        }
    }

    /// Parks a change whose create has not come, in the place of an older one that waits for the same.
    async fn park_newest(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<Applied, Abort> {
        let waiting = record.trouble.as_ref().is_some_and(|trouble| trouble.state == TroubleState::Waiting);
        if waiting && let Some(first) = self.tx.first(subject.lane).await? {
            let (kept, place) = (subject.basis.met(first.place), subject.basis.place());
            if kept > place {
                self.done.counts.superseded += 1;
                return Ok(Applied::Superseded);
            }
            // Of events of one time the one that came last is the newest.
            if kept < place || subject.basis.by_id() {
                self.supersede(subject.lane, record, &first).await?;
            }
        }
        match self.park(subject, record).await? {
            Applied::Parked(Waits::Predecessor) => Ok(Applied::Parked(Waits::Create)),
            other => Ok(other),
        }
    }

    /// Tries the newest state of a key, in mode `latest`: it takes the place of whatever older one is kept.
    async fn newest(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        verdict: &Verdict,
    ) -> Result<Applied, Abort> {
        let place = subject.basis.place();
        while let Some(Trouble { state, .. }) = record.trouble {
            let Some(first) = self.tx.first(subject.lane).await? else { break };
            let kept = subject.basis.met(first.place);
            if kept == place && !subject.basis.by_id() {
                self.done.counts.duplicates += 1;
                return Ok(Applied::Duplicate);
            }
            let creates = self.settings.kinds.create.contains(subject.event.kind());
            match state {
                // Somebody handles an older one at this moment, and must not finish after this one.
                TroubleState::Claimed if kept <= place => return self.park(subject, record).await,
                // What is kept waits for its create, which this may be.
                TroubleState::Waiting if kept > place || (kept == place && creates) => break,
                _ if kept > place => {
                    self.done.counts.superseded += 1;
                    return Ok(Applied::Superseded);
                }
                // What becomes of this one depends on that.
                _ if *verdict == Verdict::Ignore || !self.takes_the_place(subject.event, &first.message) => {
                    return self.park(subject, record).await;
                }
                _ => self.supersede(subject.lane, record, &first).await?,
            }
        }
        let applied = self.effect(subject, record, verdict).await?;
        forget_empty(record);
        Ok(applied)
    }

    /// Tries an event whose turn has come, in the modes that keep order.
    async fn next_in_turn(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        verdict: &Verdict,
    ) -> Result<Applied, Abort> {
        let place = subject.basis.place();
        while let Some(Trouble { state, .. }) = record.trouble {
            let Some(first) = self.tx.first(subject.lane).await? else { break };
            if first.place == place {
                // The drain that follows applies it, if it may be tried now.
                self.done.counts.duplicates += 1;
                return Ok(Applied::Duplicate);
            }
            if state == TroubleState::Claimed {
                // Somebody handles what its producer lost at this moment; a key has one handler at a time.
                return self.park(subject, record).await;
            }
            if first.place > place {
                break;
            }
            // Nothing comes between an event and its turn in one history: what is kept before it, its producer lost.
            self.lost(subject.lane, record, &first).await?;
        }
        forget_empty(record);
        if let Some(trouble) = &mut record.trouble {
            wait_again(trouble);
        }
        self.effect(subject, record, verdict).await
    }

    async fn effect(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        verdict: &Verdict,
    ) -> Result<Applied, Abort> {
        if *verdict == Verdict::Ignore {
            self.done.counts.ignored += 1;
            self.pass_by(subject, record).await?;
            return Ok(Applied::Ignored);
        }
        if *verdict == (Verdict::Try { history_back: true }) {
            self.note_history(subject, record);
        }
        if let Some(cause) = self.unseen_cause(subject.lane, subject.event).await? {
            self.hold(subject, record).await?;
            self.await_cause(subject.lane, record, &cause).await?;
            return Ok(Applied::Parked(Waits::Cause));
        }
        self.attempt(subject, record).await
    }

    pub(super) fn note_history(&mut self, subject: &Subject<'_>, record: &LaneRecord) {
        self.done.counts.history_back += 1;
        tracing::warn!(
            lane = ?subject.lane, mark = %record.mark, place = %subject.basis.place(),
            "the producer's history went back: it no longer knows the last events that were applied here"
        );
    }

    async fn lost(&mut self, lane: &LaneId, record: &mut LaneRecord, kept: &InboxKept) -> Result<(), Abort> {
        tracing::warn!(
            ?lane, place = %kept.place, event = kept.message.id(),
            "a kept event belongs to a history that its producer has lost; it is dropped"
        );
        self.supersede(lane, record, kept).await
    }

    /// Keeps what could not be decoded as a dead letter. Its key is unknown, so it parks nothing.
    async fn set_aside(&mut self, message: &RawMessage, reason: &str) -> Result<Applied, Abort> {
        let id: std::sync::Arc<str> = message.name().into();
        let lane = LaneId { producer: "".into(), lane: Lane::Event(id.clone()) };
        let mut record = self.open(&lane).await?;
        let message = KeptMessage::Raw { id, message: message.clone() };
        if self.tx.keep(&lane, UNORDERED, &message, self.now).await?.is_none() {
            self.done.counts.duplicates += 1;
            return Ok(Applied::Duplicate);
        }
        let trouble = trouble_of(&mut record, self.now);
        trouble.state = TroubleState::Dead;
        trouble.reason = super::shorten(reason);
        trouble.kept = 1;
        self.put(&lane, record);
        tracing::warn!(id = message.id(), reason, "a message that cannot be decoded is a dead letter of this inbox");
        Ok(Applied::DeadLetter { reason: super::shorten(reason) })
    }
}

/// The outcome of each event; a pass that forgot one must not be committed.
fn all_judged(outcomes: Vec<Option<Applied>>) -> Result<Vec<Applied>, StoreError> {
    let missing = || StoreError::new(ErrorKind::Invalid, "the inbox did not judge every event: nothing was recorded");
    outcomes.into_iter().collect::<Option<_>>().ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_an_outcome_fails_its_pass() {
        assert_eq!(all_judged(vec![Some(Applied::Applied)]).unwrap(), [Applied::Applied]);
        assert_eq!(all_judged(vec![Some(Applied::Applied), None]).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
