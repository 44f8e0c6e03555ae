//! The `Retry-After` header. Rule: RFC 9110, 10.2.3.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// What a target may ask for at most: a mistaken date would otherwise silence a route for years.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// How long the target asks to be left alone; `None` if it does not say, or says what cannot be read.
pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(seconds(text.parse().unwrap_or(u64::MAX)));
    }
    // A date with the wrong day of the week still says when.
    let then = rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(seconds(u64::try_from(then.as_second().saturating_sub(now.as_second())).unwrap_or(0)))
}

/// `seconds`, at most [`LONGEST`].
pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        // Sun, 06 Nov 1994 08:49:37 GMT
        read(&headers, Timestamp::from_second(784_111_777).unwrap())
    }

    #[test]
    fn seconds_are_read() {
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked(" 120 "), Some(Duration::from_secs(120)));
    }

    #[test]
    fn an_http_date_is_read() {
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(asked("Mon, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_date_in_the_past_means_now() {
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn more_than_an_hour_counts_as_an_hour() {
        assert_eq!(asked("86400"), Some(LONGEST));
        assert_eq!(asked("99999999999999999999999"), Some(LONGEST));
        assert_eq!(asked("Tue, 31 Dec 2999 23:59:59 GMT"), Some(LONGEST));
    }

    #[test]
    fn what_cannot_be_read_is_as_if_it_were_not_there() {
        for text in ["", "soon", "-1", "1.5", "Sun, 06 Nov 1994"] {
            assert_eq!(asked(text), None, "{text}");
        }
        assert_eq!(read(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
