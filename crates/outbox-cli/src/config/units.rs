//! Durations, sizes, rates and times as people write them. Never a bare number: `10` of what?

use std::time::Duration;

use jiff::Timestamp;

/// Units of time and their milliseconds.
const TIME_UNITS: [(&str, u64); 11] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
];

/// Units of size and their bytes.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// Reads `10s`, `5m`, `200ms`, `1h30m`, `7 days`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the text.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err("is empty: write a number and a unit, as `10s`, `5m` or `200ms`".to_owned());
    }
    while !rest.is_empty() {
        let (number, unit, behind) = number_and_unit(rest);
        let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let amount = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        let Some(sum) = amount.and_then(|amount| millis.checked_add(amount)) else {
            return Err(match unit {
                "" => "has no unit: write it as `10s`, `5m` or `200ms`".to_owned(),
                _ => "is not a duration: write whole numbers with ms, s, m, h or d, as `10s` or `1h30m`".to_owned(),
            });
        };
        millis = sum;
        rest = behind.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// Reads `256 KiB`, `8MB`, `512 B`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the text.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (number, unit, behind) = number_and_unit(text.trim());
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.filter(|_| behind.is_empty()).ok_or_else(|| {
        match unit {
            "" => "has no unit: write it as `256 KiB` or `8 MB`",
            _ => "is not a size: write a whole number with B, KB, KiB, MB, MiB, GB or GiB, as `256 KiB`",
        }
        .to_owned()
    })
}

/// Reads `500/s`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the text.
pub(crate) fn rate(text: &str) -> Result<u32, String> {
    let number = text.trim().strip_suffix("/s").and_then(|number| number.trim().parse::<u32>().ok());
    number.filter(|number| *number > 0).ok_or_else(|| "is not a rate: write events a second, as `500/s`".to_owned())
}

/// Reads a time: RFC 3339, a date (midnight UTC), or a duration, which means so long before `now`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the text.
pub(crate) fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && let Ok(midnight) = date.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(midnight.timestamp());
    }
    duration(text).ok().and_then(|ago| now.checked_sub(ago).ok()).ok_or_else(|| {
        "is not a time: write `2026-05-01T12:00:00Z`, a date as `2026-05-01` (midnight UTC), or how long ago, as `2h`"
            .to_owned()
    })
}

/// Splits off the first number and the unit behind it.
fn number_and_unit(text: &str) -> (&str, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, behind) = rest.split_at(letters);
    (number, unit, behind)
}

/// A duration as [`duration`] reads it back, in the largest unit that fits.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let fitting = units.into_iter().find(|(_, factor)| millis > 0 && millis.is_multiple_of(*factor));
    fitting.map_or_else(|| format!("{millis}ms"), |(unit, factor)| format!("{}{unit}", millis / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units() {
        for (text, millis) in [
            ("200ms", 200),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1 h 30 m", 5_400_000),
            ("7d", 604_800_000),
            ("7 days", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "10 parsecs", "99999999999999d", "1h30", "1s!"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_units() {
        for (text, bytes) in [("256 KiB", 262_144), ("8MB", 8_000_000), ("512 B", 512), ("1 GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "256", "KiB", "1.5 MB", "8 mb 2", "8 bytes", "99999999999 GiB", "-1 B"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_events_a_second() {
        assert_eq!(rate("500/s"), Ok(500));
        for text in ["500", "0/s", "5/m", "-5/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_absolute_a_date_or_how_long_ago() {
        let now: Timestamp = "2026-05-02T12:00:00Z".parse().unwrap();
        assert_eq!(time("2026-05-01T12:00:00+02:00", now), Ok("2026-05-01T10:00:00Z".parse().unwrap()));
        assert_eq!(time("2026-05-01", now), Ok("2026-05-01T00:00:00Z".parse().unwrap()));
        assert_eq!(time("36h", now), Ok("2026-05-01T00:00:00Z".parse().unwrap()));
        assert!(time("yesterday", now).is_err());
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 3_600_000, 604_800_000, 86_400_001] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
    }
}
