//! Applying what is kept, once its turn has come.

use std::slice;

use super::{Executor, Pass, Subject, forget_empty, later, release, wait_again};
use crate::{
    error::StoreError,
    event::Event,
    inbox::{
        applied::Applied,
        cause::Cause,
        decision::{Basis, Verdict, judge},
        raw::RawMessage,
        service::Incoming,
        settings::Mode,
    },
    inbox_store::{Abort, InboxKept, InboxTx, KeptMessage, LaneId, LaneRecord, TroubleState},
};

/// What can be done about the first kept event of a lane.
enum Ready {
    /// Nothing now.
    No,
    /// Look again: it is done with, or in another state.
    Again,
    /// It can be tried.
    Yes { history_back: bool },
}

impl<T: InboxTx, X: Executor<T>> Pass<'_, T, X> {
    /// Applies what is ready in `lane`, front first, as far as the budget goes.
    pub(super) async fn drain(&mut self, lane: &LaneId) -> Result<(), Abort> {
        let mut blamed = false;
        let mut record = self.open(lane).await?;
        while record.trouble.is_some() {
            let Some(first) = self.tx.first(lane).await? else {
                record.trouble = None;
                break;
            };
            self.relieve(blamed);
            blamed = self.blame(lane, first.id);
            let event = match &first.message {
                KeptMessage::Event(event) => event.clone(),
                KeptMessage::Raw { message, .. } => {
                    self.decode_again(lane, &mut record, &first, message).await?;
                    break;
                }
            };
            let basis = Basis::of(&self.settings.mode, &event, self.now);
            let subject = Subject { lane, event: &event, basis: &basis, kept: Some(first.id) };
            match self.ready(&subject, &mut record, &first).await? {
                Ready::No => break,
                Ready::Again => {}
                Ready::Yes { .. } if self.budget == 0 => {
                    self.leave_for_next(&mut record);
                    break;
                }
                Ready::Yes { history_back } => {
                    self.budget -= 1;
                    if history_back {
                        self.note_history(&subject, &record);
                    }
                    if !matches!(self.attempt(&subject, &mut record).await?, Applied::Applied | Applied::Superseded) {
                        break;
                    }
                }
            }
        }
        self.relieve(blamed);
        self.put(lane, record);
        Ok(())
    }

    /// The first kept event is ready, but this transaction has done enough.
    fn leave_for_next(&mut self, record: &mut LaneRecord) {
        if let Some(trouble) = &mut record.trouble {
            trouble.state = TroubleState::Retrying;
            trouble.due = Some(self.now);
        }
        self.done.more = true;
    }

    async fn ready(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        first: &InboxKept,
    ) -> Result<Ready, Abort> {
        let Some(trouble) = &record.trouble else { return Ok(Ready::No) };
        let state = trouble.state;
        let due = trouble.due.is_some_and(|due| due <= self.now);
        let verdict = judge(self.settings, record, subject.basis, subject.event);
        match (state, &verdict) {
            (TroubleState::Claimed, _) if !due => Ok(Ready::No),
            (_, Verdict::Duplicate | Verdict::Superseded) => {
                self.supersede(subject.lane, record, first).await?;
                self.end_wait(subject.lane, state).await?;
                forget_empty(record);
                Ok(Ready::Again)
            }
            (TroubleState::Dead, _) => Ok(Ready::No),
            (TroubleState::Retrying, _) if !due => Ok(Ready::No),
            (_, Verdict::Wait(_)) => {
                self.end_wait(subject.lane, state).await?;
                record.trouble.as_mut().map(wait_again).unwrap_or_default();
                Ok(Ready::No)
            }
            (_, Verdict::Ignore | Verdict::Nothing) => {
                self.end_wait(subject.lane, state).await?;
                self.done.counts.ignored += 1;
                self.pass_by(subject, record).await?;
                Ok(Ready::Again)
            }
            (_, Verdict::Refuse(reason) | Verdict::Stop(reason)) => {
                let reason = reason.clone();
                self.bury(subject, record, 0, &reason).await?;
                Ok(Ready::No)
            }
            (TroubleState::Waiting | TroubleState::Cause, Verdict::Try { history_back }) => {
                let history_back = *history_back;
                self.ready_by_cause(subject, record, due, history_back).await
            }
            // A redriven event is tried even if its cause was never seen: that is the way out for a cause that is gone.
            (TroubleState::Retrying, Verdict::Try { history_back }) => Ok(Ready::Yes { history_back: *history_back }),
            (TroubleState::Claimed, Verdict::Try { .. }) => self.ready_after_claim(subject, record).await,
        }
    }

    /// A claim that expired is an attempt that failed: an event that takes its worker with it would be tried for ever.
    async fn ready_after_claim(&mut self, subject: &Subject<'_>, record: &mut LaneRecord) -> Result<Ready, Abort> {
        if self.is_overtaken(subject, record).await? {
            return Ok(Ready::Again);
        }
        let reason = "its claim expired without an answer: its worker is gone, or was too slow";
        let trouble = super::trouble_of(record, self.now);
        let attempts = trouble.attempts + 1;
        if attempts >= self.settings.retry.attempts {
            self.bury(subject, record, attempts, reason).await?;
            return Ok(Ready::No);
        }
        trouble.since = if attempts == 1 { self.now } else { trouble.since };
        trouble.attempts = attempts;
        trouble.state = TroubleState::Retrying;
        trouble.due = Some(self.now);
        reason.clone_into(&mut trouble.reason);
        Ok(Ready::Again)
    }

    /// Whether an event whose turn has come has waited long enough for its cause.
    async fn ready_by_cause(
        &mut self,
        subject: &Subject<'_>,
        record: &mut LaneRecord,
        due: bool,
        history_back: bool,
    ) -> Result<Ready, Abort> {
        let waited = record.trouble.as_ref().is_some_and(|trouble| trouble.state == TroubleState::Cause);
        match self.unseen_cause(subject.lane, subject.event).await? {
            None => {
                if waited {
                    self.tx.stop_waiting(subject.lane).await?;
                }
                Ok(Ready::Yes { history_back })
            }
            Some(_) if waited && !due => Ok(Ready::No),
            Some(cause) if waited => {
                self.tx.stop_waiting(subject.lane).await?;
                self.bury(subject, record, 0, &format!("cause not seen: {cause}")).await?;
                Ok(Ready::No)
            }
            Some(cause) => {
                self.await_cause(subject.lane, record, &cause).await?;
                Ok(Ready::No)
            }
        }
    }

    /// The cause of `event`, if it has to be waited for.
    pub(super) async fn unseen_cause(&mut self, lane: &LaneId, event: &Event) -> Result<Option<Cause>, StoreError> {
        let Some(cause) = Cause::to_wait_for(&self.settings.mode, lane, event) else { return Ok(None) };
        let seen = match &cause {
            Cause::Place { lane, place } => self.open(lane).await?.mark >= *place,
            Cause::Id(id) => self.seen.contains(id) || self.tx.are_done(slice::from_ref(id)).await?.contains(&true),
        };
        Ok((!seen).then_some(cause))
    }

    pub(super) async fn await_cause(
        &mut self,
        lane: &LaneId,
        record: &mut LaneRecord,
        cause: &Cause,
    ) -> Result<(), Abort> {
        let Mode::AfterCause { max_wait, .. } = self.settings.mode else { return Ok(()) };
        let trouble = super::trouble_of(record, self.now);
        trouble.state = TroubleState::Cause;
        trouble.since = self.now;
        trouble.due = Some(later(self.now, max_wait));
        trouble.reason = super::shorten(&format!("waits for {cause}"));
        Ok(self.tx.wait_for(&cause.lane(), lane).await?)
    }

    async fn end_wait(&mut self, lane: &LaneId, state: TroubleState) -> Result<(), Abort> {
        if state == TroubleState::Cause {
            self.tx.stop_waiting(lane).await?;
        }
        Ok(())
    }

    /// A redriven message that could not be decoded: perhaps this version can.
    async fn decode_again(
        &mut self,
        lane: &LaneId,
        record: &mut LaneRecord,
        first: &InboxKept,
        message: &RawMessage,
    ) -> Result<(), Abort> {
        if record.trouble.as_ref().is_none_or(|trouble| trouble.state != TroubleState::Retrying) {
            return Ok(());
        }
        let refusal = match message.decode() {
            Ok(events) => {
                let incoming: Vec<_> = events.into_iter().map(Incoming::Event).collect();
                let touched = Box::pin(self.admit_all(&incoming)).await?;
                for lane in touched {
                    Box::pin(self.drain(&lane)).await?;
                }
                self.done.applied.iter().find_map(|applied| match applied {
                    Applied::Refused { reason } | Applied::Stopped { reason } => Some(reason.clone()),
                    _ => None,
                })
            }
            Err(reason) => Some(reason),
        };
        match refusal {
            None => {
                self.tx.remove(first.id).await?;
                release(record);
            }
            // Its sender let go of it long ago: what cannot be taken stays here.
            Some(reason) => {
                let trouble = super::trouble_of(record, self.now);
                trouble.state = TroubleState::Dead;
                trouble.due = None;
                trouble.reason = super::shorten(&reason);
            }
        }
        tracing::info!(?lane, "a message that could not be decoded was tried again");
        Ok(())
    }
}
