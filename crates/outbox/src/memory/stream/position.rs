//! Positions in a stream, as text: the store's row and commit, so that the store can tell its history by them; then where
//! in the stream that is.
//!
//! `12:<commit>@s3.15.1767225600000` is behind record 15 of shard 3, which was recorded then; `.k` and a time says that
//! what was recorded before it is passed over, `.e` that the empty page there is behind. `12:<commit>@r1767222000000.6162`
//! is behind that row of key `ab` in a recovery that reads what was recorded since then.

use crate::{entry::Position, error::StoreError, memory::store};

use super::invalid;

/// A position of either kind, in their order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cursor {
    Shard(InShard),
    Scan(InScan),
}

/// A position in a shard. Ordered by its first fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InShard {
    pub(super) shard: u64,
    /// The record before it; 0 before the first.
    pub(super) sequence: u64,
    /// Whether the empty page that comes here first is behind.
    pub(super) past_empty: bool,
    /// Up to what time everything before it was recorded, but for the slack; in milliseconds.
    pub(super) recorded: i64,
    /// What was recorded before this is passed over.
    pub(super) skip: Option<i64>,
    /// The store's row and commit, as text; `0` if there is none.
    pub(super) row: String,
}

/// A position in a recovery: first what has no key, then key by key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InScan {
    /// What was recorded since then is read; in milliseconds.
    pub(super) begin: i64,
    /// The key of the row before it; none if that has none.
    pub(super) key: Option<String>,
    /// That row's number; 0 before the first.
    pub(super) number: u64,
    row: String,
}

const NONE: &str = "0";

impl Cursor {
    /// Where it stands alone.
    pub(super) fn without_skip(self) -> Self {
        match self {
            Self::Shard(shard) => Self::Shard(InShard { recorded: 0, skip: None, row: String::new(), ..shard }),
            scan @ Self::Scan(_) => scan,
        }
    }

    pub(super) fn parse(position: &Position) -> Option<Self> {
        let (row, place) = position.as_str().split_once('@')?;
        if row != NONE {
            store::Cursor::parse(&Position::new(row))?;
        }
        let row = row.to_owned();
        let mut parts = place.get(1..)?.split('.');
        if place.starts_with('s') {
            let shard = parts.next()?.parse().ok()?;
            let sequence = parts.next()?.parse().ok()?;
            let recorded = parts.next()?.parse().ok()?;
            let (mut skip, mut past_empty) = (None, false);
            for part in parts {
                match part.split_at_checked(1)? {
                    ("k", time) => skip = Some(time.parse().ok()?),
                    ("e", "") => past_empty = true,
                    _ => return None,
                }
            }
            return Some(Self::Shard(InShard { shard, sequence, past_empty, recorded, skip, row }));
        }
        let begin = parts.next()?.parse().ok()?;
        let key = match parts.next() {
            Some(hex) => Some(text_of(hex)?),
            None => None,
        };
        let number = if row == NONE { 0 } else { row.split_once(':')?.0.parse().ok()? };
        let is_whole = place.starts_with('r') && parts.next().is_none();
        is_whole.then_some(Self::Scan(InScan { begin, key, number, row }))
    }
}

fn foreign(position: &Position) -> StoreError {
    invalid(format!("`{position}` is not a position of this partition"))
}

impl InShard {
    pub(super) fn parse(position: &Position) -> Result<Self, StoreError> {
        match Cursor::parse(position) {
            Some(Cursor::Shard(cursor)) => Ok(cursor),
            Some(Cursor::Scan(_)) | None => Err(foreign(position)),
        }
    }

    /// Before the first record of a shard that was opened then.
    pub(super) fn beginning(shard: u64, opened: i64) -> Self {
        Self { shard, sequence: 0, past_empty: false, recorded: opened, skip: None, row: NONE.to_owned() }
    }

    pub(super) fn position(&self) -> Position {
        let skip = self.skip.map_or_else(String::new, |time| format!(".k{time}"));
        let past = if self.past_empty { ".e" } else { "" };
        Position::new(format!("{}@s{}.{}.{}{skip}{past}", self.row, self.shard, self.sequence, self.recorded))
    }
}

impl InScan {
    pub(super) fn parse(position: &Position) -> Result<Self, StoreError> {
        match Cursor::parse(position) {
            Some(Cursor::Scan(cursor)) => Ok(cursor),
            Some(Cursor::Shard(_)) | None => Err(foreign(position)),
        }
    }

    /// Before everything that was recorded since `begin`.
    pub(super) fn beginning(begin: i64) -> Self {
        Self { begin, key: None, number: 0, row: NONE.to_owned() }
    }

    /// Behind the row that has the position `row` in the store.
    pub(super) fn behind(&self, key: Option<&str>, number: u64, row: &Position) -> Self {
        Self { begin: self.begin, key: key.map(str::to_owned), number, row: row.as_str().to_owned() }
    }

    pub(super) fn position(&self) -> Position {
        let key = self.key.as_deref().map_or_else(String::new, |key| format!(".{}", hex_of(key)));
        Position::new(format!("{}@r{}{key}", self.row, self.begin))
    }
}

/// A key may hold any character.
fn hex_of(text: &str) -> String {
    text.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn text_of(hex: &str) -> Option<String> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
        _ => None,
    };
    String::from_utf8(pairs.map(byte).collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_from_their_text() {
        let row = format!("7:{}", "0a".repeat(16));
        let shard = InShard { sequence: 9, row: row.clone(), ..InShard::beginning(3, -5) };
        for cursor in [
            InShard::beginning(1, 0),
            shard.clone(),
            InShard { skip: Some(-70), ..shard.clone() },
            InShard { past_empty: true, skip: Some(12), ..shard },
        ] {
            assert_eq!(InShard::parse(&cursor.position()).unwrap(), cursor);
            InScan::parse(&cursor.position()).unwrap_err();
        }
        let beginning = InScan::beginning(-3);
        for cursor in [
            beginning.behind(None, 7, &Position::new(&row)),
            beginning.behind(Some("ö/.@"), 7, &Position::new(&row)),
            beginning,
        ] {
            assert_eq!(InScan::parse(&cursor.position()).unwrap(), cursor);
            InShard::parse(&cursor.position()).unwrap_err();
        }
        for foreign in ["", "0", "7", "x@s1.2.3", "0@s1.2", "0@s1.2.3.z", "0@r1.0", "0@q1", "0@r"] {
            assert_eq!(Cursor::parse(&Position::new(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn positions_are_ordered_as_they_are_read() {
        let shard = |sequence, past_empty| InShard { sequence, past_empty, ..InShard::beginning(1, 0) };
        assert!(shard(1, false) < shard(1, true) && shard(1, true) < shard(2, false));
        let beginning = InScan::beginning(0);
        let row = Position::new("0");
        let behind = |key, number| beginning.behind(key, number, &row);
        let rising =
            [beginning.clone(), behind(None, 4), behind(Some("a"), 2), behind(Some("a"), 9), behind(Some("b"), 1)];
        assert!(rising.is_sorted_by(|one, other| one < other));
    }
}
