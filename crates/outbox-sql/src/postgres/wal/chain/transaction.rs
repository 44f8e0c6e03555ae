//! What a transaction gives its rows: the position behind each.

use outbox::Position;

use crate::postgres::position::{LogPlace, Reading, Snapshot, Standing};

/// What the rows of a transaction have in common.
pub(super) struct Transaction {
    /// What was passed before it.
    pub(super) passed: Snapshot,
    pub(super) xid: u64,
    pub(super) log: LogPlace,
    /// The texts before and behind the number of the row in its position.
    around: (String, String),
}

impl Transaction {
    pub(super) fn new(passed: Snapshot, xid: u64, log: LogPlace) -> Self {
        let standing = Standing { passed, reading: Reading::Log { inside: None }, log };
        let text = standing.position();
        // The number of rows stands behind the only tilde, and a slash behind it.
        let (before, behind) = text.as_str().split_once('~').unwrap_or_default();
        let behind = behind.split_once('/').map_or("", |(_, behind)| behind);
        let around = (format!(".{xid}{before}~"), format!("/{behind}"));
        Self { passed: standing.passed, xid, log, around }
    }

    /// The position behind its row `id`, which is the `number`th.
    pub(super) fn behind(&self, id: i64, number: u64) -> Position {
        let (before, behind) = &self.around;
        let mut text = String::with_capacity(40 + before.len() + behind.len());
        let mut digits = itoa::Buffer::new();
        text.push_str(digits.format(id));
        text.push_str(before);
        text.push_str(digits.format(number));
        text.push_str(behind);
        Position::new(text)
    }
}
