//! Where in a partition a position is: what stands behind the `@` ([`EntryName`] stands before it).
//!
//! | place | where |
//! |---|---|
//! | `s111/1795000000` | behind record 111 of a shard; nothing behind it was created before that second |
//! | `s/1795000000` | before the first record of a shard |
//! | `…/r1795000000123` | the same; what comes is passed over until something was recorded at that millisecond or later |
//! | `…/c1795000000` | the same, until something was created in that second or later |
//! | `t1795000000123/7` | behind row 7 of a recovery that reads what was recorded since that millisecond |
//! | `t1795000000123/7/12/1797/cart/42` | the same, where the table goes on behind that row, which was not handed out |

use std::{cmp::Ordering, fmt};

use outbox::{ErrorKind, Position, StoreError};

use crate::dynamodb::position::EntryName;

/// A record's number within a shard: decimal digits, up to 40 of them.
///
/// Rule: "`StreamRecord`" of the API reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SequenceNumber(String);

impl SequenceNumber {
    pub(super) fn parse(digits: &str) -> Option<Self> {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| Self(digits.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Of two numbers without leading zeros the longer one is larger.
    fn significant(&self) -> (usize, &str) {
        let digits = self.0.trim_start_matches('0');
        (digits.len(), digits)
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.significant().cmp(&other.significant())
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is passed over, up to the first record that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// What was recorded before this millisecond.
    Recorded(i64),
    /// What was created before this second.
    Created(i64),
}

/// A place in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InShard {
    /// The record before it; none before the first.
    pub(super) after: Option<SequenceNumber>,
    /// Nothing that is behind was created before this second.
    pub(super) since: i64,
    pub(super) skip: Option<Skip>,
}

impl InShard {
    /// Before everything in a shard, in which nothing was created before `since`.
    pub(super) fn beginning(since: i64) -> Self {
        Self { after: None, since, skip: None }
    }

    pub(super) fn parse(position: &Position) -> Result<Self, StoreError> {
        match Place::of(position) {
            Some(Place::Shard(place)) => Ok(place),
            Some(Place::Scan(_)) | None => Err(foreign(position)),
        }
    }

    /// Whether the same comes behind both.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.after == other.after && self.skip == other.skip
    }

    /// Behind which second it is, where it is the place at which a shard goes on behind a recovery.
    fn recovered(&self) -> Option<i64> {
        match (&self.after, self.skip) {
            (None, Some(Skip::Created(from))) => Some(from),
            (None, Some(Skip::Recorded(_)) | None) | (Some(_), _) => None,
        }
    }

    /// The position there, behind no record that anybody is given.
    pub(super) fn position(&self) -> Position {
        Position::new(format!("@{self}"))
    }
}

impl fmt::Display for InShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.as_ref().map_or("", SequenceNumber::as_str);
        write!(f, "s{after}/{}", self.since)?;
        match self.skip {
            None => Ok(()),
            Some(Skip::Recorded(time)) => write!(f, "/r{time}"),
            Some(Skip::Created(time)) => write!(f, "/c{time}"),
        }
    }
}

/// A place in a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InScan {
    /// What was recorded since then is read; in milliseconds.
    pub(super) begin: i64,
    /// How many rows are before it.
    pub(super) rows: u64,
    /// The row before it; none before the first.
    pub(super) row: Option<EntryName>,
}

impl InScan {
    /// Before everything that was recorded since `begin`.
    pub(super) fn beginning(begin: i64) -> Self {
        Self { begin, rows: 0, row: None }
    }

    pub(super) fn parse(position: &Position) -> Result<Self, StoreError> {
        match Place::of(position) {
            Some(Place::Scan(place)) => Ok(place),
            Some(Place::Shard(_)) | None => Err(foreign(position)),
        }
    }

    /// The position behind its row, which is handed out.
    pub(super) fn position(&self) -> Position {
        match &self.row {
            Some(row) => row.at(&format!("t{}/{}", self.begin, self.rows)),
            None => Position::new(format!("@t{}/{}", self.begin, self.rows)),
        }
    }

    /// The position behind its row, which is not handed out.
    pub(super) fn position_between(&self) -> Position {
        match &self.row {
            Some(row) => Position::new(format!("@t{}/{}/{row}", self.begin, self.rows)),
            None => self.position(),
        }
    }
}

/// A place of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Shard(InShard),
    Scan(InScan),
}

impl Place {
    pub(super) fn of(position: &Position) -> Option<Self> {
        let (_, place) = position.as_str().split_once('@')?;
        if let Some(shard) = place.strip_prefix('s') {
            return in_shard(shard).map(Self::Shard);
        }
        let mut parts = place.strip_prefix('t')?.splitn(3, '/');
        let (begin, rows) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let row = match parts.next() {
            Some(row) => Some(EntryName::in_position(&Position::new(format!("{row}@")))?),
            None => EntryName::in_position(position),
        };
        Some(Self::Scan(InScan { begin, rows, row }))
    }

    /// Which of two places of one partition comes first. What is passed over is no part of where one stands: a replay that
    /// begins at the end of an empty shard is done. But behind a recovery, one is behind all that was created before: past
    /// every place that is older, for such a one may be forgotten.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Scan(one), Self::Scan(other)) => one.rows.cmp(&other.rows),
            (Self::Shard(one), Self::Shard(other)) => match (one.recovered(), other.recovered()) {
                (Some(from), None) if other.since < from => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (None, Some(from)) if one.since < from => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.cmp(&other),
                (None, None) => one.after.cmp(&other.after),
            },
            (Self::Shard(_), Self::Scan(_)) => Ordering::Less,
            (Self::Scan(_), Self::Shard(_)) => Ordering::Greater,
        }
    }
}

fn in_shard(text: &str) -> Option<InShard> {
    let mut parts = text.splitn(3, '/');
    let (after, since) = (parts.next()?, parts.next()?.parse().ok()?);
    let after = if after.is_empty() { None } else { Some(SequenceNumber::parse(after)?) };
    let skip = match parts.next().map(|skip| skip.split_at_checked(1)) {
        None => None,
        Some(Some(("r", time))) => Some(Skip::Recorded(time.parse().ok()?)),
        Some(Some(("c", time))) => Some(Skip::Created(time.parse().ok()?)),
        Some(_) => return None,
    };
    Some(InShard { after, since, skip })
}

fn foreign(position: &Position) -> StoreError {
    StoreError::new(ErrorKind::Invalid, format!("`{position}` is not a position of this partition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(digits: &str) -> SequenceNumber {
        SequenceNumber::parse(digits).unwrap()
    }

    #[test]
    fn places_come_back_from_their_text() {
        let name = EntryName { key: "c@rt/4/2".to_owned(), sequence: "12".to_owned(), expires: Some(1797) };
        for skip in [None, Some(Skip::Recorded(-3)), Some(Skip::Created(7))] {
            for after in [None, Some(number("00049590338271490256608559692538361571095921575989136588898"))] {
                let place = InShard { after, since: 1_795_000_000, skip };
                assert_eq!(InShard::parse(&place.position()).unwrap(), place);
                assert_eq!(InShard::parse(&name.at(&place.to_string())).unwrap(), place);
                InScan::parse(&place.position()).unwrap_err();
            }
        }
        for row in [None, Some(name)] {
            let place = InScan { begin: -5, rows: 7, row };
            for position in [place.position(), place.position_between()] {
                assert_eq!(InScan::parse(&position).unwrap(), place, "{position}");
                InShard::parse(&position).unwrap_err();
            }
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in
            ["", "7", "s1/2", "@", "@s", "@s1", "@sx/1", "@s1/2/", "@s1/2/k3", "@s1/2/r", "@t1", "@t1/x", "@q1/2"]
        {
            assert_eq!(Place::of(&Position::new(text)), None, "{text}");
        }
    }

    #[test]
    fn behind_a_recovery_one_is_past_every_older_place_and_before_every_younger_one() {
        let at = |after: &str, since| Place::Shard(InShard { after: SequenceNumber::parse(after), since, skip: None });
        let recovered = Place::Shard(InShard { skip: Some(Skip::Created(500)), ..InShard::beginning(500) });
        for (other, order) in [
            (at("", 499), Ordering::Greater),
            (at("7", 499), Ordering::Greater),
            (at("7", 500), Ordering::Less),
            (at("9", 501), Ordering::Less),
            (recovered.clone(), Ordering::Equal),
        ] {
            assert_eq!(recovered.order(&other), order, "{other:?}");
            assert_eq!(other.order(&recovered), order.reverse(), "{other:?}");
        }
        let replayed = Place::Shard(InShard { skip: Some(Skip::Recorded(1)), ..InShard::beginning(1) });
        assert_eq!(replayed.order(&at("", 499)), Ordering::Equal);
    }

    #[test]
    fn numbers_of_any_length_are_compared_as_numbers() {
        let long = "9".repeat(40);
        for (smaller, larger) in [("9", "10"), ("007", "8"), (&*"9".repeat(39), &*long), ("0", "1")] {
            assert!(number(smaller) < number(larger), "{smaller} {larger}");
        }
        assert_eq!(number("07").cmp(&number("7")), Ordering::Equal);
    }
}
