//! Bad habits of streams: each of them is allowed by what the real ones promise, or was seen in them.

use fastrand::Rng;

/// What a stream does that nobody would wish for; nothing unless told. Which records it befalls is the seed's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own; none excludes another")]
pub struct Habits {
    /// Decides what befalls which record.
    pub seed: u64,
    /// Some records come twice in a row.
    pub doubling: bool,
    /// Some neighbouring records of different keys change places.
    pub swapping: bool,
    /// Some pages come empty before those with records.
    pub empty_pages: bool,
    /// Some neighbouring records change places, whatever their keys, and those that come twice may come later: the order
    /// of a key is not promised then.
    pub reordering: bool,
}

impl Habits {
    /// Puts what one shard got at a time in the order in which it is handed out. `same_key` tells records of one key.
    pub(super) fn arrange<T: Clone>(
        &self,
        records: Vec<T>,
        row: impl Fn(&T) -> u64,
        same_key: impl Fn(&T, &T) -> bool,
    ) -> Vec<T> {
        let mut arranged: Vec<T> = Vec::with_capacity(records.len());
        for record in records {
            let mut rng = self.rng(row(&record));
            let last = arranged.len().checked_sub(1);
            let may_swap = last.is_some_and(|last| !same_key(&arranged[last], &record));
            let swaps = self.reordering || self.swapping && may_swap;
            let again = (self.doubling && rng.u8(..4) == 0).then(|| record.clone());
            match last {
                Some(last) if swaps && rng.u8(..3) == 0 => arranged.insert(last, record),
                _ => arranged.push(record),
            }
            if let Some(again) = again {
                // Next to the first one, so that it comes before what follows it in its key.
                let at = arranged.iter().rposition(|found| row(found) == row(&again)).unwrap_or(0);
                let at = if self.reordering { arranged.len() } else { at };
                arranged.insert(at, again);
            }
        }
        arranged
    }

    /// Whether the page behind record `sequence` comes empty first.
    pub(super) fn is_empty_first(&self, sequence: u64) -> bool {
        self.empty_pages && self.rng(!sequence).u8(..3) == 0
    }

    fn rng(&self, number: u64) -> Rng {
        Rng::with_seed(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}
