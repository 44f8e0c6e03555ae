//! Iterators, as text: nothing of them is kept.

use super::Refusal;

/// Where a client reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Iterator {
    /// The so-manieth that was given.
    pub(super) given: u64,
    pub(super) label: String,
    pub(super) shard: String,
    /// Behind the record with this number.
    pub(super) after: u128,
    /// Empty pages that come first.
    pub(super) empty: u32,
    /// The page behind it was given already, and comes again.
    pub(super) again: bool,
}

impl Iterator {
    pub(super) fn text(&self) -> String {
        let Self { given, label, shard, after, empty, again } = self;
        format!("{given}|{label}|{shard}|{after}|{empty}|{again}")
    }

    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let read = || {
            let mut parts = text.split('|');
            let given = parts.next()?.parse().ok()?;
            let (label, shard) = (parts.next()?.to_owned(), parts.next()?.to_owned());
            let (after, empty) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Self { given, label, shard, after, empty, again: parts.next()?.parse().ok()? })
        };
        read().ok_or_else(|| Refusal::new("ValidationException", "Invalid ShardIterator"))
    }
}
