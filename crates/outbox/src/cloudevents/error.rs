//! What is wrong with an encoded event.

pub(super) use crate::event::shown;
use crate::{event::AttributeError, place::PlaceError};

/// Something that is not a CloudEvent, or one that Outbox cannot take. The message names the member and the remedy, and
/// shows nothing of the payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not UTF-8.
    #[error("the event is not UTF-8 from byte {0} on: encode it as UTF-8")]
    NotUtf8(usize),
    /// The bytes are not JSON.
    #[error("the event is not JSON at line {line}, column {column}: send one complete JSON text")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 for an empty line.
        column: usize,
    },
    /// JSON of another shape.
    #[error("the JSON is not {0}")]
    Shape(&'static str),
    /// More events than a batch may hold.
    #[error("the batch has more than {0} events: send smaller batches")]
    TooManyEvents(usize),
    /// A member or header that is there more than once.
    #[error("`{0}` is there twice: send it once")]
    Duplicate(String),
    /// An attribute that is missing, or whose name or value is not allowed.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// Another version of CloudEvents.
    #[error("`specversion` is not `1.0` but `{0}`: send CloudEvents 1.0")]
    Version(String),
    /// A value of a type that its attribute cannot have.
    #[error("`{name}` is {found}: write it as {expected}")]
    Type {
        /// The member.
        name: String,
        /// What was found.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A place that cannot be read.
    #[error("`place` or `after`: {0}, with the count of its entry behind `place`, as `1.42.0/3`")]
    Place(#[from] PlaceError),
    /// A text with an escape that stands for no character.
    #[error("`{0}` holds half of a surrogate pair: write whole characters")]
    Surrogate(String),
    /// A header whose value is not UTF-8 once its percent-encoding is undone.
    #[error("the header of `{0}` is not percent-encoded UTF-8: encode it as the CloudEvents HTTP binding says")]
    Header(String),
    /// Two payloads.
    #[error("`data` and `data_base64` are both there: send one of them")]
    TwoPayloads,
    /// A payload that is not base64.
    #[error("`data_base64` is not base64: use the standard alphabet with padding")]
    Base64,
    /// A JSON payload that is not of its media type.
    #[error("`data` is {0}, but `datacontenttype` is not JSON: write a string, or use `data_base64`")]
    DataType(&'static str),
    /// A request in none of the three modes of the HTTP binding.
    #[error(
        "the request is no CloudEvent: send the header `ce-specversion: 1.0` and the other attributes as `ce-` headers, or the content type `application/cloudevents+json`"
    )]
    NotACloudEvent,
    /// A CloudEvents format other than JSON.
    #[error("the content type `{0}` is not known: send `application/cloudevents+json`")]
    Format(String),
}

impl DecodeError {
    pub(super) fn missing(name: &'static str) -> Self {
        AttributeError::Missing(name).into()
    }

    pub(super) fn duplicate(name: &str) -> Self {
        Self::Duplicate(shown(name))
    }

    pub(super) fn wrong_type(name: &str, found: &'static str, expected: &'static str) -> Self {
        Self::Type { name: shown(name), found, expected }
    }

    pub(super) fn syntax(error: &serde_json::Error) -> Self {
        Self::Syntax { line: error.line(), column: error.column() }
    }
}
