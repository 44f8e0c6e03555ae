//! Headers that decide something.

use http::{HeaderMap, HeaderName, header};

use crate::{carts::Version, problem::Problem};

/// Rule: draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LONGEST_KEY: usize = 255;

/// The versions that the client takes: `None` for any. Several headers count as one list.
///
/// Rule: RFC 9110, 13.1.1. Weak tags never match.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<Vec<Version>>, Problem> {
    const WRONG: &str = "is no list of entity tags: send the `ETag` that the cart was answered with, quotes included";
    let mut versions = None;
    for value in headers.get_all(header::IF_MATCH) {
        let text = value.to_str().map_err(|_| Problem::of_header("If-Match", WRONG))?;
        if text.trim() == "*" {
            return Ok(None);
        }
        let versions = versions.get_or_insert_with(Vec::new);
        for tag in text.split(',').map(str::trim) {
            if !is_tag(tag.strip_prefix("W/").unwrap_or(tag)) {
                return Err(Problem::of_header("If-Match", WRONG));
            }
            versions.extend(Version::of_etag(tag));
        }
    }
    Ok(versions)
}

/// Whether the client has what is tagged `etag` already.
///
/// Rule: RFC 9110, 13.1.2. Weak tags match as strong ones.
pub(super) fn knows(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|text| text.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// The key under which a request may be sent again, with or without the quotes of the draft.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    const WRONG: &str = "is not one key: send 1 to 255 visible ASCII characters, as a UUID of your own";
    let wrong = || Problem::of_header("Idempotency-Key", WRONG);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_right =
        (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if !is_right || values.next().is_some() {
        return Err(wrong());
    }
    Ok(Some(key))
}

/// Whether the body is said to be JSON.
pub(super) fn says_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| outbox::cloudevents::is_json(Some(content_type)))
}

fn is_tag(tag: &str) -> bool {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    inner.is_some_and(|inner| !inner.contains('"'))
}

#[cfg(test)]
mod tests {
    use outbox::Place;

    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    fn matching(values: &[&str]) -> Option<Vec<String>> {
        let versions = if_match(&headers(&header::IF_MATCH, values)).unwrap();
        versions.map(|versions| versions.iter().map(Version::etag).collect())
    }

    #[test]
    fn strong_tags_of_one_or_several_headers_are_taken_and_weak_ones_never_match() {
        assert_eq!(matching(&[]), None);
        assert_eq!(matching(&["*"]), None);
        assert_eq!(matching(&["\"1.2.0\", \"1.3.0\"", "\"1.4.0\""]).unwrap(), ["\"1.2.0\"", "\"1.3.0\"", "\"1.4.0\""]);
        assert!(matching(&["W/\"1.2.0\""]).unwrap().is_empty());
        assert!(matching(&["\"of another service\""]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_tag_is_refused_with_the_remedy() {
        for wrong in ["1.2.0", "", "\"1.2.0", "\"a\"b\"", "\"1.2.0\",", "1"] {
            let problem = if_match(&headers(&header::IF_MATCH, &[wrong])).unwrap_err();
            assert_eq!((problem.status, problem.errors[0].field.as_str()), (400, "If-Match"), "{wrong}");
        }
    }

    #[test]
    fn a_tag_that_is_known_is_recognised_weak_or_not() {
        let etag = Version::of(Place::new(1, 2, 0)).etag();
        for (sent, known) in [("\"1.2.0\"", true), ("W/\"1.2.0\"", true), ("\"a\", *", true), ("\"1.3.0\"", false)] {
            assert_eq!(knows(&headers(&header::IF_NONE_MATCH, &[sent]), &etag), known, "{sent}");
        }
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        for sent in ["abc", "\"abc\""] {
            assert_eq!(idempotency_key(&headers(&IDEMPOTENCY_KEY, &[sent])).unwrap(), Some("abc"));
        }
        let long = "x".repeat(256);
        for wrong in [&["", ""][..], &["a b"], &["\"\""], &["a", "b"], &[long.as_str()]] {
            assert!(idempotency_key(&headers(&IDEMPOTENCY_KEY, wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        for (sent, json) in [("application/json; charset=utf-8", true), ("application/x-www-form-urlencoded", false)] {
            assert_eq!(says_json(&headers(&header::CONTENT_TYPE, &[sent])), json);
        }
        assert!(!says_json(&HeaderMap::new()));
    }
}
