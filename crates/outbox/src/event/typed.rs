//! Events as types of the user's own.

use serde::{Serialize, de::DeserializeOwned};

use super::{Event, NewEvent, NewEventBuilder};
use crate::cloudevents::is_json;

/// A type of one's own whose values are the payloads of events of one type.
///
/// ```
/// use outbox::{NewEvent, TypedEvent};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct OrderPlaced {
///     customer: u64,
///     units: u32,
/// }
///
/// impl TypedEvent for OrderPlaced {
///     const TYPE: &'static str = "order.placed";
///
///     fn key(&self) -> Option<String> {
///         Some(format!("customer/{}", self.customer))
///     }
/// }
///
/// // The writer's side.
/// let placed = OrderPlaced { customer: 42, units: 3 };
/// let new = NewEvent::typed(&placed).subject("first order").build()?;
/// assert_eq!((new.kind(), new.key().unwrap().as_str()), ("order.placed", "customer/42"));
///
/// // The consumer's side, once a relay has published it.
/// # let identity = outbox::event::Identity {
/// #     source: &"/orders".into(), placing: None, recorded: None, fallback_id: "1" };
/// # let event = outbox::Event::from_new(new, identity)?;
/// assert!(event.is::<OrderPlaced>());
/// assert_eq!(event.typed::<OrderPlaced>()?, placed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TypedEvent: Serialize + DeserializeOwned {
    /// The CloudEvents `type`, as `order.placed`. Never changes once an event of it was published.
    const TYPE: &'static str;

    /// What order is kept by: the identity of the aggregate that the event is about. `None` for an event that needs no
    /// order.
    fn key(&self) -> Option<String>;
}

/// An event that is not the one it was read as. The message shows nothing of the payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// An event of another type: look at [`Event::kind`] first, or leave the event to whoever knows it.
    #[error("the event's type is `{found}`, not `{expected}`: ask `Event::is` before reading it")]
    WrongType {
        /// The type that was asked for.
        expected: &'static str,
        /// The event's type.
        found: String,
    },
    /// The payload's media type is not JSON.
    #[error("the payload of the `{kind}` is `{content_type}`, not JSON: read it with `Event::data`")]
    NotJson {
        /// The event's type.
        kind: &'static str,
        /// The payload's media type.
        content_type: String,
    },
    /// The event has the right type, but its payload does not fit: writer and reader disagree about the type.
    #[error("the payload of the `{kind}` does not fit: {problem}; give new fields a default, and old ones time")]
    Payload {
        /// The event's type.
        kind: &'static str,
        /// What does not fit, and where.
        problem: String,
    },
}

impl NewEvent {
    /// Starts an event from a value of its type: type, key and JSON payload are set.
    pub fn typed<T: TypedEvent>(value: &T) -> NewEventBuilder {
        let builder = Self::builder(T::TYPE).json(value);
        match value.key() {
            Some(key) => builder.key(key),
            None => builder,
        }
    }
}

impl Event {
    /// Whether this is an event of `T`'s type.
    pub fn is<T: TypedEvent>(&self) -> bool {
        self.kind() == T::TYPE
    }

    /// The payload as a `T`. An event without payload reads as `null`.
    ///
    /// # Errors
    /// [`TypedError`] tells an event of another type from one whose payload does not fit.
    pub fn typed<T: TypedEvent>(&self) -> Result<T, TypedError> {
        if !self.is::<T>() {
            return Err(TypedError::WrongType { expected: T::TYPE, found: self.kind().to_owned() });
        }
        if let Some(content_type) = self.content_type()
            && !is_json(Some(content_type))
        {
            return Err(TypedError::NotJson { kind: T::TYPE, content_type: content_type.to_owned() });
        }
        self.json().map_err(|error| TypedError::Payload { kind: T::TYPE, problem: problem(&error) })
    }
}

/// What `serde_json` says, without the parts that quote the payload.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field ") {
        return text;
    }
    match text.rsplit_once(", expected ") {
        Some((quoting, expected)) if quoting.starts_with("invalid ") => format!("expected {expected}"),
        _ => format!("look at line {}, column {}", error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::testing_event;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Placed {
        units: u32,
    }

    impl TypedEvent for Placed {
        const TYPE: &'static str = "order.placed";

        fn key(&self) -> Option<String> {
            (self.units > 1).then(|| "customer/1".to_owned())
        }
    }

    fn event(payload: &'static str) -> Event {
        Event { data: Some(payload.into()), ..testing_event("order.placed", None, 1) }
    }

    #[test]
    fn a_value_becomes_an_event_of_its_type_and_key() {
        let new = NewEvent::typed(&Placed { units: 3 }).build().unwrap();
        assert_eq!((new.kind(), new.key().unwrap().as_str()), ("order.placed", "customer/1"));
        assert_eq!(new.data().unwrap(), r#"{"units":3}"#);
        assert_eq!(NewEvent::typed(&Placed { units: 1 }).build().unwrap().key(), None);
    }

    #[test]
    fn an_event_is_read_back_as_its_type() {
        assert_eq!(event(r#"{"units":3}"#).typed(), Ok(Placed { units: 3 }));
    }

    #[test]
    fn another_type_and_a_bad_payload_are_different_errors() {
        let other = testing_event("order.cancelled", None, 1);
        assert!(!other.is::<Placed>());
        assert!(matches!(other.typed::<Placed>(), Err(TypedError::WrongType { .. })));
        assert!(matches!(event("{}").typed::<Placed>(), Err(TypedError::Payload { .. })));
        let binary = Event { content_type: Some("application/avro".into()), ..event("x") };
        assert!(matches!(binary.typed::<Placed>(), Err(TypedError::NotJson { .. })));
    }

    #[test]
    fn the_error_names_the_field_and_shows_nothing_of_the_payload() {
        let said = |payload| event(payload).typed::<Placed>().unwrap_err().to_string();
        assert!(said("{}").contains("missing field `units`"));
        let wrong = said(r#"{"units":"secret, expected hidden"}"#);
        assert!(wrong.contains("expected u32") && !wrong.contains("secret"), "{wrong}");
        assert!(!said(r#"{"units":1,"units":"secret"}"#).contains("secret"));
        assert!(!said("secret").contains("secret"));
    }
}
