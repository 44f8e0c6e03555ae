//! A place in the server's log.

use std::{fmt, str::FromStr};

/// A log sequence number: how many bytes of log were written before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lsn(pub(crate) u64);

/// As the server writes it: `16/B374D848`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// That a text is no log sequence number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no log sequence number as `16/B374D848`")]
pub(crate) struct NoLsn;

impl FromStr for Lsn {
    type Err = NoLsn;

    fn from_str(text: &str) -> Result<Self, NoLsn> {
        let half = |text: &str| {
            let is_hex = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_hex { u32::from_str_radix(text, 16).map_err(|_| NoLsn) } else { Err(NoLsn) }
        };
        let (high, low) = text.split_once('/').ok_or(NoLsn)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_written() {
        for lsn in [Lsn(0), Lsn(1), Lsn(0x16_B374_D848), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        assert_eq!(Lsn(0x16_0000_0048).to_string(), "16/48");
        for text in ["", "/", "1", "1/", "/1", "+1/1", "1/123456789", "g/1", "1/2/3"] {
            assert_eq!(text.parse::<Lsn>(), Err(NoLsn), "{text}");
        }
    }
}
