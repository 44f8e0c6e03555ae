//! Where an event stands within its key.
//!
//! A key's entries are numbered 1, 2, 3 … and an entry holds one or more events, so one number cannot say where an
//! event stands: a consumer that remembers only "7" would take the second event of entry 7 for a duplicate.

use std::{fmt, str::FromStr};

use crate::event::shown;

/// An event's position within its key: which history, which entry, which event of the entry.
///
/// Places of one key are ordered as their events were committed. Places of different keys are not comparable in any
/// meaningful way, though the type allows it.
///
/// ```
/// use outbox::Place;
/// let place: Place = "1.42.0".parse()?;
/// assert!(place < Place::new(1, 42, 1));
/// assert_eq!(place.to_string(), "1.42.0");
/// # Ok::<(), outbox::PlaceError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Rises when a store's history went backwards, as after a restored backup. Starts at 1.
    pub incarnation: u32,
    /// The entry's number within its key. Starts at 1, and stays below 2⁶³: stores keep it in signed columns.
    pub sequence: u64,
    /// The event's number within its entry. Starts at 0.
    pub index: u32,
}

impl Place {
    /// Before every event of a key: what the first event names as its predecessor.
    pub const ORIGIN: Self = Self::new(0, 0, 0);

    /// The place of event `index` of entry `sequence` in `incarnation`.
    pub const fn new(incarnation: u32, sequence: u64, index: u32) -> Self {
        Self { incarnation, sequence, index }
    }

    /// The CloudEvents `sequence` of this place: zero-padded, so that the order of the text is the order of places.
    ///
    /// Rule: CloudEvents sequence extension 1.0, "lexicographically-orderable string".
    pub fn sequence_text(self) -> String {
        format!("{:010}.{:020}.{:010}", self.incarnation, self.sequence, self.index)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.incarnation, self.sequence, self.index)
    }
}

/// A text that is not a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a place: write incarnation, sequence and index as `1.42.0`")]
pub struct PlaceError(String);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let parse = || {
            let mut parts = text.split('.');
            let place = Self {
                incarnation: digits(parts.next()?)?,
                // In a signed column a larger one would stand before all others.
                sequence: digits::<i64>(parts.next()?)?.unsigned_abs(),
                index: digits(parts.next()?)?,
            };
            parts.next().is_none().then_some(place)
        };
        parse().ok_or_else(|| PlaceError(shown(text)))
    }
}

/// `FromStr` of integers takes a leading `+`; a place does not.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// An event's place together with what a consumer needs to judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placing {
    /// Where the event stands.
    pub place: Place,
    /// How many events its entry holds; at least 1.
    pub count: u32,
    /// The place of the event before it in its key, or [`Place::ORIGIN`]. The event is next in turn for a consumer
    /// whose mark is this place.
    pub after: Place,
}

impl Placing {
    /// The `place` attribute on the wire: the place and its entry's count, as `1.42.0/3`.
    pub fn wire(&self) -> String {
        format!("{}/{}", self.place, self.count)
    }

    /// Reads the two wire attributes `place` and `after`.
    ///
    /// # Errors
    /// [`PlaceError`] names the text that is not a place, or an index that its count does not allow.
    pub fn from_wire(place: &str, after: &str) -> Result<Self, PlaceError> {
        let refused = || PlaceError(shown(place));
        let (position, count) = place.split_once('/').ok_or_else(refused)?;
        let count: u32 = digits(count).ok_or_else(refused)?;
        let place: Place = position.parse()?;
        if place.index >= count || place.sequence == 0 || place.incarnation == 0 {
            return Err(refused());
        }
        Ok(Self { place, count, after: after.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_sequence_texts_is_the_order_of_places() {
        let places =
            [Place::ORIGIN, Place::new(1, 9, 0), Place::new(1, 9, 10), Place::new(1, 10, 2), Place::new(2, 1, 0)];
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(places.windows(2).all(|pair| pair[0].sequence_text() < pair[1].sequence_text()));
    }

    #[test]
    fn a_place_is_read_back_from_its_wire_form() {
        let placing = Placing { place: Place::new(1, 42, 2), count: 3, after: Place::new(1, 42, 1) };
        assert_eq!(Placing::from_wire(&placing.wire(), &placing.after.to_string()), Ok(placing));
    }

    #[test]
    fn what_is_not_a_place_is_refused() {
        for text in ["", "1", "1.2", "1.2.3.4", "+1.2.3", "1.2.x", "99999999999.1.0", "1.9223372036854775808.0"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        for text in ["1.2.3", "1.2.3/3", "0.2.0/1", "1.0.0/1", "1.2.0/-1"] {
            assert!(Placing::from_wire(text, "0.0.0").is_err(), "{text}");
        }
    }
}
