//! What a position says of the record that it is behind: which item of the table that is, and when it expires. Shared by the
//! source, which makes positions, and the business store, which looks in the table whether what was read is still there.
//!
//! A position is `NAME@PLACE`. The name is the same however the record was read; what the place is, the source alone knows.
//! A position that is behind no record has an empty name.

use std::fmt::Write;

use jiff::Timestamp;
use outbox::Position;

use super::item::{self, Item, number, number_of, text, text_of};
use crate::dynamodb::attribute::digits_in;

/// Which item of the table of entries a record is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EntryName {
    /// The item's partition key.
    pub(super) key: String,
    /// Its sort key, as DynamoDB writes it: of an entry a whole number, of what is none any.
    pub(super) sequence: String,
    /// When it expires, in seconds since 1970, as the item says.
    pub(super) expires: Option<i64>,
}

impl EntryName {
    /// The name of an item as it was read, if it has a key that can be read.
    pub(super) fn of(item: &Item) -> Option<Self> {
        let (key, sequence) = (text_of(item, "key")?, digits_in(item, "sequence")?);
        Some(Self { key: key.to_owned(), sequence: sequence.to_owned(), expires: number_of(item, "expires_at") })
    }

    /// The name in a position, if it has one.
    pub(super) fn in_position(position: &Position) -> Option<Self> {
        let (name, _) = position.as_str().split_once('@')?;
        let mut parts = name.splitn(3, '/');
        let (sequence, expires, key) = (parts.next()?, parts.next()?, parts.next()?);
        let expires = if expires.is_empty() { None } else { Some(expires.parse().ok()?) };
        let is_number = sequence.bytes().any(|byte| byte.is_ascii_digit())
            && sequence.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        is_number.then_some(Self { key: unescaped(key)?, sequence: sequence.to_owned(), expires })
    }

    /// A position with this name.
    pub(super) fn at(&self, place: &str) -> Position {
        Position::new(format!("{self}@{place}"))
    }

    /// The item's primary key.
    pub(super) fn primary_key(&self) -> Item {
        item::item([("key", text(&self.key)), ("sequence", number(&self.sequence))])
    }

    /// Whether the item may have been deleted because its time had come: deletions come late, clocks go wrong by less than
    /// an hour.
    pub(super) fn may_have_expired(&self, now: Timestamp) -> bool {
        const SLACK: i64 = 60 * 60;
        self.expires.is_some_and(|expires| now.as_second() >= expires.saturating_sub(SLACK))
    }
}

impl std::fmt::Display for EntryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/", self.sequence)?;
        if let Some(expires) = self.expires {
            write!(f, "{expires}")?;
        }
        f.write_char('/')?;
        for character in self.key.chars() {
            match character {
                '@' => f.write_str("%40")?,
                '%' => f.write_str("%25")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut key = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        key.push(match code {
            "40" => '@',
            "25" => '%',
            _ => return None,
        });
        key.push_str(rest);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_its_position() {
        for (key, sequence, expires) in [
            ("cart/42", "18446744073709551615", Some(1_795_000_000)),
            ("a@b%40/c", "-1", None),
            ("", "1.5", Some(-1)),
            ("100%", "1E+30", Some(0)),
        ] {
            let name = EntryName { key: key.to_owned(), sequence: sequence.to_owned(), expires };
            let position = name.at("111/222");
            assert_eq!(EntryName::in_position(&position), Some(name.clone()), "{position}");
            assert_eq!(position.record(), name.to_string(), "the name is what stands before the first @");
        }
    }

    #[test]
    fn a_position_behind_no_record_has_no_name() {
        for text in ["", "@", "@111", "7", "7/1@2", "x/1/key@2", "/1/key@2", "-/1/key@2", "1//%4@2"] {
            assert_eq!(EntryName::in_position(&Position::new(text)), None, "{text}");
        }
    }

    #[test]
    fn an_item_may_have_expired_from_an_hour_before_its_time_on() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let name = EntryName { key: "a".to_owned(), sequence: "1".to_owned(), expires: Some(100_000) };
        assert!(name.may_have_expired(at(100_000)) && name.may_have_expired(at(96_400)));
        assert!(!name.may_have_expired(at(96_399)));
        assert!(!EntryName { expires: None, ..name }.may_have_expired(at(1_000_000)));
    }
}
