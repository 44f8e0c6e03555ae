//! Which events a route takes: by type, key and attributes, never by payload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::event::{AttributeValue, Event};

/// Lists and globs (`*` and `?`) on type and key, equality on attributes. Empty parts match everything; parts that are
/// given must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Types, at least one of which has to match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Keys, at least one of which has to match. An event without a key matches none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Extension attributes, or `subject`, and the text each has to have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Filter {
    /// Whether every event passes.
    pub fn is_open(&self) -> bool {
        self.types.is_empty() && self.keys.is_empty() && self.attributes.is_empty()
    }

    /// Whether every event of a key passes if one does: then the route is gapless. Only a filter by key alone keeps
    /// this, for whatever else it looks at may differ between a key's events.
    pub fn keeps_keys_whole(&self) -> bool {
        self.types.is_empty() && self.attributes.is_empty()
    }

    /// Prepares the filter for matching.
    pub fn compile(&self) -> Matcher {
        let globs = |patterns: &[String]| patterns.iter().map(|pattern| WildMatch::new(pattern)).collect();
        Matcher { types: globs(&self.types), keys: globs(&self.keys), attributes: self.attributes.clone() }
    }
}

/// A [`Filter`] ready to match.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    types: Vec<WildMatch>,
    keys: Vec<WildMatch>,
    attributes: BTreeMap<String, String>,
}

impl Matcher {
    /// Whether `event` passes.
    pub fn matches(&self, event: &Event) -> bool {
        let any = |globs: &[WildMatch], text: Option<&str>| {
            globs.is_empty() || text.is_some_and(|text| globs.iter().any(|glob| glob.matches(text)))
        };
        any(&self.types, Some(event.kind()))
            && any(&self.keys, event.key().map(crate::Key::as_str))
            && self.attributes.iter().all(|(name, wanted)| match name.as_str() {
                "subject" => event.subject() == Some(wanted),
                name => event.extension(name).map(AttributeValue::text).as_deref() == Some(wanted),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing_event;

    #[test]
    fn an_empty_filter_takes_everything() {
        assert!(Filter::default().compile().matches(&testing_event("order.placed", Some("a"), 1)));
        assert!(Filter::default().compile().matches(&testing_event("order.placed", None, 1)));
    }

    #[test]
    fn types_and_keys_match_by_glob_and_both_must() {
        let filter = Filter { types: vec!["order.*".into()], keys: vec!["customer/?".into()], ..Filter::default() };
        let matcher = filter.compile();
        assert!(matcher.matches(&testing_event("order.placed", Some("customer/1"), 1)));
        assert!(!matcher.matches(&testing_event("cart.placed", Some("customer/1"), 1)));
        assert!(!matcher.matches(&testing_event("order.placed", Some("customer/12"), 1)));
        assert!(!matcher.matches(&testing_event("order.placed", None, 1)));
    }

    #[test]
    fn only_a_filter_by_key_keeps_keys_whole() {
        let by_type = Filter { types: vec!["a".into()], ..Filter::default() };
        let by_key = Filter { keys: vec!["a*".into()], ..Filter::default() };
        assert!(by_key.keeps_keys_whole() && !by_type.keeps_keys_whole());
    }
}
