//! Money, in whole cents: no fraction of a cent is ever lost in a sum.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount of money in cents. Written as text with two decimals, as `11.77`, in JSON too: a JSON number would pass
/// through somebody's floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cents(pub i64);

/// The largest amount of one order: ten million.
const MAX_UNITS: i64 = 10_000_000;

/// A text that is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an amount: write it as \"11.77\", at least 0 and at most 10 million, with no more than two decimals")]
pub struct NotAnAmount;

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl FromStr for Cents {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "00"));
        if !digits(whole) || !digits(fraction) || !(1..=2).contains(&fraction.len()) {
            return Err(NotAnAmount);
        }
        let whole: i64 = whole.parse().map_err(|_| NotAnAmount)?;
        let tenths = if fraction.len() == 1 { 10 } else { 1 };
        let fraction: i64 = fraction.parse().map_err(|_| NotAnAmount)?;
        if whole > MAX_UNITS {
            return Err(NotAnAmount);
        }
        Ok(Self(whole * 100 + fraction * tenths))
    }
}

impl TryFrom<String> for Cents {
    type Error = NotAnAmount;

    fn try_from(text: String) -> Result<Self, NotAnAmount> {
        text.parse()
    }
}

impl From<Cents> for String {
    fn from(cents: Cents) -> Self {
        cents.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_cent() {
        for (text, cents) in [("0", 0), ("0.5", 50), ("0.05", 5), ("11.77", 1177), ("2500315.63", 250_031_563)] {
            assert_eq!(text.parse(), Ok(Cents(cents)), "{text}");
        }
        assert_eq!(Cents(1205).to_string(), "12.05");
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1.234", "1,5", "1e3", "NaN", "99999999999999999999", "1.0.0"] {
            assert_eq!(text.parse::<Cents>(), Err(NotAnAmount), "{text}");
        }
    }
}
