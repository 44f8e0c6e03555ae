//! The I/O that the pipeline asked for, each a task of its own, and what its result means for it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use outbox::{
    Batch, ErrorKind, Event, EventRef, Fault, Key, Lane, Outcome, Position, Record, Sink, SinkError, Source,
    StoreError,
    bookkeeping::{Keep, KeepOutcome, Lease},
    pipeline::{CallId, FetchId, Input, WriteId},
};
use tokio::{task::JoinError, time::timeout};

use super::{Parts, invocation::Invocation, partition, standing};

/// What came of a job.
pub(super) enum Done {
    Called {
        call: CallId,
        events: Vec<EventRef>,
        result: Result<Vec<Outcome>, SinkError>,
    },
    Kept {
        write: WriteId,
        keep: Keep,
        buried: Vec<(Arc<str>, Position)>,
        result: Result<KeepOutcome, StoreError>,
        lease: Lease,
    },
    Fetched {
        fetch: FetchId,
        key: Key,
        sequences: Vec<u64>,
        result: Result<Vec<Option<Arc<Record>>>, StoreError>,
    },
}

pub(super) async fn publish(
    sink: Arc<dyn Sink>,
    call: CallId,
    events: Vec<EventRef>,
    gapless: bool,
    limit: Duration,
) -> Done {
    let batch = Batch { events, gapless, replay: None };
    let published = AssertUnwindSafe(timeout(limit, async { sink.publish(&batch).await })).catch_unwind().await;
    let result = match published {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(SinkError::new(Fault::Unknown, "the sink gave no answer in time").uncertain()),
        Err(_) => Err(SinkError::new(Fault::Unknown, "the sink panicked; please report it").uncertain()),
    };
    Done::Called { call, events: batch.events, result }
}

pub(super) async fn keep(parts: Parts, lease: Lease, write: WriteId, keep: Keep) -> Done {
    let mut result = parts.bookkeeping.keep(&lease, &parts.route.name, &partition(), &keep).await;
    let mut buried = Vec::new();
    // The lane may be free because what is in it was discarded just now.
    if let Ok(KeepOutcome::KeyFree) = result {
        match standing::tombstones(&parts).await {
            Ok(tombstones) => buried = tombstones,
            Err(error) => result = Err(error),
        }
    }
    Done::Kept { write, keep, buried, result, lease }
}

pub(super) async fn fetch(entries: Arc<dyn Source>, fetch: FetchId, key: Key, sequences: Vec<u64>) -> Done {
    let result = entries.fetch(&key, &sequences).await;
    Done::Fetched { fetch, key, sequences, result }
}

impl Invocation<'_> {
    pub(super) async fn complete(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Called { call, events, result }) => self.called(call, &events, result),
            Ok(Done::Kept { write, keep, buried, result, lease }) => {
                self.kept(write, &keep, buried, result, lease).await;
            }
            Ok(Done::Fetched { fetch, key, sequences, result }) => {
                if let Ok(records) = &result {
                    self.found(&key, &sequences, records);
                }
                self.fetched(fetch, result);
            }
            Err(error) => {
                let message = "a task of the forwarder failed; please report it";
                self.fatal = Some(StoreError::new(ErrorKind::Invalid, message).because(error));
            }
        }
    }

    fn called(&mut self, call: CallId, events: &[EventRef], result: Result<Vec<Outcome>, SinkError>) {
        self.is_sink_down = result.as_ref().is_err_and(|error| matches!(error.fault, Fault::Sink | Fault::Throttle));
        match result {
            Ok(outcomes) => {
                if outcomes.len() == events.len() {
                    events.iter().zip(&outcomes).for_each(|(event, outcome)| self.answered(event, outcome));
                }
                let refused = outcomes.iter().rev().find_map(|outcome| match outcome {
                    Outcome::Refused { reason, .. } | Outcome::Failed { reason } => Some(reason.clone()),
                    Outcome::Throttled { .. } => Some("the sink throttles it".to_owned()),
                    Outcome::Accepted => None,
                });
                self.said = refused.or(self.said.take());
                self.input(Input::Answered { call, outcomes });
            }
            Err(error) => {
                let reason = error.with_causes();
                self.said = Some(reason.clone());
                self.failed.extend(events.iter().map(|event| Lane::of(event)));
                let SinkError { fault, retry_after, .. } = error;
                self.input(Input::CallFailed { call, fault, retry_after, reason });
            }
        }
    }

    /// Notes what became of an event.
    fn answered(&mut self, event: &EventRef, outcome: &Outcome) {
        let lane = Lane::of(event);
        match outcome {
            Outcome::Accepted => {
                self.accepted = true;
                self.failed.remove(&lane);
                let (position, _) = event.origin();
                self.finish(&position.clone(), index_of(event));
            }
            Outcome::Throttled { .. } | Outcome::Refused { .. } | Outcome::Failed { .. } => {
                self.failed.insert(lane);
            }
        }
    }

    async fn kept(
        &mut self,
        write: WriteId,
        keep: &Keep,
        buried: Vec<(Arc<str>, Position)>,
        result: Result<KeepOutcome, StoreError>,
        lease: Lease,
    ) {
        match result {
            Ok(KeepOutcome::KeyFree) => {
                self.input(Input::Discarded { tombstones: buried });
                self.input(Input::KeyFree { write });
            }
            Ok(KeepOutcome::Stored { .. }) => {
                self.finish_kept(&keep.events);
                self.unwritten = None;
                self.input(Input::Stored { write });
            }
            Err(error) => {
                tracing::warn!(%error, "events could not be kept; trying again");
                self.unwritten = Some(error.to_string());
                if error.kind() == ErrorKind::Fenced && self.lease == lease {
                    self.share.forget().await;
                    match self.share.lease(&*self.parts.bookkeeping).await {
                        Ok(lease) => self.lease = lease,
                        Err(error) => tracing::warn!(%error, "the forwarders' lease cannot be read now"),
                    }
                } else if !(error.kind().retry() || error.kind() == ErrorKind::Fenced) {
                    self.fatal = Some(error.context("keeping events"));
                }
                self.input(Input::StoreFailed { write });
            }
        }
    }

    fn fetched(&mut self, fetch: FetchId, result: Result<Vec<Option<Arc<Record>>>, StoreError>) {
        match result {
            Ok(records) => self.input(Input::Fetched { fetch, records }),
            Err(error) => {
                tracing::warn!(%error, "an entry that the stream left out cannot be read now; trying again");
                if !error.kind().retry() {
                    self.fatal = Some(error.context("reading an entry that the stream left out"));
                }
                self.input(Input::FetchFailed { fetch });
            }
        }
    }
}

/// Which event of its entry it is, as what is kept of it says.
pub(super) fn index_of(event: &Event) -> u32 {
    event.placing().map_or(0, |placing| placing.place.index)
}
