//! What an event was caused by, as its attributes say.

use std::fmt;

use super::settings::Mode;
use crate::{
    bookkeeping::Lane,
    event::{Event, Key, extension},
    inbox_store::{EventId, LaneId},
    place::Place,
};

/// The event that has to be applied before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A numbered event: seen once its key's mark has reached its place.
    Place { lane: LaneId, place: Place },
    /// An event without a place: seen once its id is done with.
    Id(EventId),
}

impl Cause {
    /// The cause that `event`, which belongs to `lane`, has to wait for: none if it names none, if its producer is not
    /// one that the consumer subscribes to, or if it is of the same lane, which is in order anyway.
    pub(crate) fn to_wait_for(mode: &Mode, lane: &LaneId, event: &Event) -> Option<Self> {
        let Mode::AfterCause { producers, .. } = mode else { return None };
        let producer = event.extension_text(extension::CAUSE_SOURCE).unwrap_or(event.source());
        if !producers.contains(producer) {
            return None;
        }
        let id = event.extension_text(extension::CAUSATION_ID);
        let key = event.extension_text(extension::CAUSE_KEY).and_then(|key| Key::new(key).ok());
        let place: Option<Place> = event.extension_text(extension::CAUSE_PLACE).and_then(|text| text.parse().ok());
        let cause = match (key, place, id) {
            (Some(key), Some(place), _) => {
                Self::Place { lane: LaneId { producer: producer.into(), lane: Lane::Key(key) }, place }
            }
            (_, _, Some(id)) => Self::Id(EventId { producer: producer.into(), id: id.into() }),
            (_, _, None) => return None,
        };
        (cause.lane() != *lane).then_some(cause)
    }

    /// The lane in which it is applied.
    pub(crate) fn lane(&self) -> LaneId {
        match self {
            Self::Place { lane, .. } => lane.clone(),
            Self::Id(id) => LaneId { producer: id.producer.clone(), lane: Lane::Event(id.id.clone()) },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { lane: LaneId { producer, lane: Lane::Key(key) }, place } => {
                write!(f, "event {place} of `{key}` from `{producer}`")
            }
            Self::Place { lane, place } => write!(f, "event {place} of {lane:?}"),
            Self::Id(id) => write!(f, "event `{}` from `{}`", id.id, id.producer),
        }
    }
}
