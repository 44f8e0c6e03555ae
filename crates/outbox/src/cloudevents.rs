//! The encodings of CloudEvents 1.0: [`json`] (structured), [`batch`] (several in one JSON array) and [`http`] (binary,
//! and whatever a receiver is sent).
//!
//! Payloads come back byte for byte. A payload that is JSON and says so is embedded as it is, so that any consumer can
//! read it; every other one travels as base64 in JSON, and as the plain body in HTTP's binary mode.
//!
//! Key and place travel as the extension attributes `partitionkey`, `sequence`, `place` and `after`, and become
//! [`Event::key`](crate::Event::key) and [`Event::placing`](crate::Event::placing) again. An event that another system
//! made is read as well: its key is its `partitionkey`, and it has no place. Only an event with both `place` and
//! `after` has a place; one of the two alone is an extension like any other.

pub mod batch;
pub mod http;
pub mod json;

mod assembly;
mod attributes;
mod error;

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod conformance;

pub use error::DecodeError;

/// What a route adds on the wire to the events it publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The route takes every event of a key: the attribute `gapless`.
    pub gapless: bool,
    /// The replay that publishes the events again: the attribute `replayid`.
    pub replay: Option<&'a str>,
}

/// Whether a payload of this media type is JSON: no media type at all, the subtype `json`, or the suffix `+json`.
///
/// Rule: CloudEvents JSON format 1.0, 3.1.
pub fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return true };
    let Some((_, subtype)) = essence(content_type).split_once('/') else { return false };
    let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
    suffix.eq_ignore_ascii_case("json")
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split_once(';').map_or(content_type, |(essence, _)| essence).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_subtype_and_suffix_whatever_the_case_and_parameters() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.a+json", "text/json"] {
            assert!(is_json(Some(json)), "{json}");
        }
        for other in ["json", "application/jsonx", "text/plain; a=/json", "application/vnd.a+json+xml", "a/b"] {
            assert!(!is_json(Some(other)), "{other}");
        }
        assert!(is_json(None));
    }
}
