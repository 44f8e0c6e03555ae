//! Where a route stands in a log that is read alone.

use std::cmp::Ordering;

use outbox::{ErrorKind, Position, StoreError};

use crate::postgres::{
    position::{LogPlace, Reading, Row, Snapshot, Standing},
    wal::lsn::Lsn,
};

/// A place in the log: behind a row, or behind all that was committed before a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the commit of the row's transaction is.
    pub(super) lsn: Lsn,
    /// Which of its transaction's rows it is, from 1; 0 if no row is meant.
    pub(super) number: u64,
    /// The transaction; 0 if no row is meant.
    pub(super) xid: u64,
    /// Of which of the histories of the log; 0 if none is known.
    pub(super) timeline: u32,
}

impl Place {
    /// Where the log begins, wherever that is.
    pub(super) const BEGINNING: Self = Self { lsn: Lsn(0), number: 0, xid: 0, timeline: 0 };

    /// Behind all that was committed before `lsn`.
    pub(super) fn before(lsn: Lsn, timeline: u32) -> Self {
        Self { lsn, timeline, ..Self::BEGINNING }
    }

    /// As it is stored: as a position in the log of the entries is, with nothing that a snapshot sees.
    pub(super) fn position(self) -> Position {
        let row = Row { id: i64::try_from(self.number).unwrap_or(i64::MAX), xid: self.xid };
        let inside = (self.number > 0).then_some((row, self.number));
        let log = LogPlace { timeline: self.timeline, lsn: self.lsn.0 };
        Standing { passed: Snapshot::EMPTY, reading: Reading::Log { inside }, log }.position()
    }

    /// Reads a stored position.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is none, or one in a table.
    pub(super) fn parse(position: &Position) -> Result<Self, StoreError> {
        let Standing { passed, reading, log } = Standing::parse(position)?;
        match reading {
            Reading::Log { inside } if passed == Snapshot::EMPTY => {
                let (xid, number) = inside.map_or((0, 0), |(row, number)| (row.xid, number));
                Ok(Self { lsn: Lsn(log.lsn), number, xid, timeline: log.timeline })
            }
            Reading::Log { .. } | Reading::Rest | Reading::Range { .. } => {
                let message = format!(
                    "`{position}` is a position in a table, not in a log that is read alone: a mapping with an id and one \
                     without cannot be exchanged; give it a bookkeeping of its own"
                );
                Err(StoreError::new(ErrorKind::Invalid, message))
            }
        }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.lsn, self.number).cmp(&(other.lsn, other.number)).then_with(|| self.xid.cmp(&other.xid))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_look_as_documented() {
        let place = Place { lsn: Lsn(0x16B_3748), number: 3, xid: 763, timeline: 1 };
        assert_eq!(place.position().as_str(), "3.763@0~3/1/16B3748");
        assert_eq!(Place::BEGINNING.position().as_str(), "@0~0/0/0");
        for text in ["@0/0/0", "1.5@0>9/1/A", "12.12@12~1/1/D", ""] {
            assert_eq!(Place::parse(&Position::new(text)).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_place_is_read_back(lsn: u64, number in 1_u64..1 << 40, xid: u64, timeline: u32) {
            let place = Place { lsn: Lsn(lsn), number, xid, timeline };
            prop_assert_eq!(Place::parse(&place.position()).unwrap(), place);
            let before = Place::before(Lsn(lsn), timeline);
            prop_assert_eq!(Place::parse(&before.position()).unwrap(), before);
            prop_assert!(before < place);
        }
    }
}
