//! Sinks: where a relay publishes events.

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;

use crate::{cloudevents::Envelope, entry::EventRef, event::Event};

/// What a sink takes in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// Whether the events of one call take effect in their order, so that several events of a key may share a call.
    pub ordered_calls: bool,
    /// Events in a call; at least 1.
    pub max_events: usize,
    /// Bytes in a call, by the sink's own measure.
    pub max_bytes: usize,
    /// Bytes of one event, by the sink's own measure. A larger one becomes a dead letter without a call; from 32 KiB on,
    /// it is refused at the write already.
    pub max_event_bytes: usize,
    /// Calls at the same time; at least 1.
    pub max_calls: usize,
}

impl SinkLimits {
    /// What the writer counts of an event ([`counted_bytes`](crate::writer::counted_bytes)) that surely fits into
    /// `max_event_bytes`, whichever encoding of ours it gets: base64 makes a payload a third larger, percent-encoding
    /// an attribute three times as large, and what of the envelope is not counted takes up to 16 KiB.
    ///
    /// Where a sink takes less than 32 KiB that would leave next to nothing: there it is `max_event_bytes`, and an event
    /// that the writer took may be too large for the sink nevertheless.
    pub fn max_counted_bytes(&self) -> u64 {
        const ENVELOPE: usize = 16 << 10;
        let limit = if self.max_event_bytes >= 2 * ENVELOPE {
            (self.max_event_bytes - ENVELOPE) / 4 * 3
        } else {
            self.max_event_bytes
        };
        u64::try_from(limit).unwrap_or(u64::MAX)
    }

    /// How many of the calls at the same time may be the keeper's: half of them, so that redriving much doesn't stop what
    /// flows.
    pub(crate) fn keeper_calls(&self) -> usize {
        (self.max_calls / 2).max(1)
    }
}

/// The events of one call.
#[derive(Clone, Debug)]
pub struct Batch {
    /// At least one; those of one key in their order.
    pub events: Vec<EventRef>,
    /// Whether the route takes every event of a key: the `gapless` attribute on the wire.
    pub gapless: bool,
    /// The replay that publishes them again: the `replayid` attribute on the wire, and part of a broker's dedup id.
    pub replay: Option<std::sync::Arc<str>>,
}

impl Batch {
    /// What surrounds each of its events on the wire.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope { gapless: self.gapless, replay: self.replay.as_deref() }
    }
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other side has it, durably.
    Accepted,
    /// Not now: this event, and so its key, may come again `after` a while.
    Throttled {
        /// What the other side asked for, if it said.
        after: Option<Duration>,
    },
    /// The other side does not want this event.
    Refused {
        /// Whether asking again is pointless.
        permanent: bool,
        /// What the other side said, shortened, without payload.
        reason: String,
    },
    /// The other side failed at this event, as with an internal error, while it took others: nobody says that the event is to
    /// blame. It becomes a dead letter only if that lasts, as a call that failed by [`Fault::Unknown`].
    Failed {
        /// What the other side said, shortened, without payload.
        reason: String,
    },
}

/// Whose fault it is when a call fails as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The sink's: not connected, no such target, credentials. The route backs off; no event is blamed.
    Sink,
    /// The sink asks for a pause. The route waits; no event is blamed.
    Throttle,
    /// An event's, but which one was not said: the batch is split until the culprit stands alone.
    Event,
    /// Unknown: a 500, or no answer in time. The route backs off and finds out by trying events of other keys.
    Unknown,
}

/// A call that failed as a whole.
#[derive(Debug)]
pub struct SinkError {
    /// Whose fault it is.
    pub fault: Fault,
    /// How long the sink asked to be left alone.
    pub retry_after: Option<Duration>,
    /// Whether the events may have been accepted nevertheless, as when the answer was lost.
    pub uncertain: bool,
    /// What happened and what to do, without payloads or secrets.
    pub message: String,
    /// What caused it.
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// A failure by `fault`, surely without effect.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, retry_after: None, uncertain: false, message: message.into(), cause: None }
    }

    /// The events may have been accepted nevertheless.
    pub fn uncertain(mut self) -> Self {
        self.uncertain = true;
        self
    }

    /// The sink asked to be left alone for `delay`.
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// What happened, with its causes behind it.
    pub fn with_causes(&self) -> String {
        let mut told = self.message.clone();
        let mut cause = self.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(next) = cause {
            told = format!("{told}: {next}");
            cause = next.source();
        }
        told
    }

    /// Adds what caused it.
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}

/// Publishes a batch and answers for each event of it.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What one call takes. Does not change while the sink lives.
    fn limits(&self) -> SinkLimits;

    /// The event's bytes by the sink's own measure, envelope included; never less than what is sent. Pure and cheap:
    /// asked once for every event read.
    fn size(&self, event: &Event) -> usize;

    /// Whether the target is there and would take events, asked at the start and by `outbox check`. Publishes nothing.
    ///
    /// # Errors
    /// [`SinkError`] says what is wrong with the target and the remedy.
    async fn check(&self) -> Result<(), SinkError>;

    /// Publishes `batch` and answers for each event, in the batch's order: exactly one outcome an event.
    ///
    /// *Order*: events of one key take effect in the batch's order if [`SinkLimits::ordered_calls`] says so; otherwise
    /// a key has at most one event in a batch. Behind an event that is not accepted, no later event of its key in the
    /// batch is accepted either: answer [`Outcome::Throttled`] for it. The relay never has two calls for one key under
    /// way, but for those of a replay.
    /// *Duplicates*: an event may come again, with the same id. *Durability*: [`Outcome::Accepted`] only once the other
    /// side has taken responsibility. *Cancellation*: a dropped call may have taken effect.
    ///
    /// # Errors
    /// [`SinkError`] if the call failed as a whole.
    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError>;
}
