//! Beginning anew at a position that was come by elsewhere.

use std::sync::Arc;

use outbox::Position;

use super::{Buffered, Chain, Open, Transaction, is_whole};
use crate::postgres::position::{Snapshot, Standing};

impl Chain {
    /// Begins anew behind `standing`, where nothing is read in part, if that is past all that this chain begins with; tells
    /// whether. What is read there does not come again.
    pub(super) fn begin_anew(&mut self, after: &Position, standing: &Standing) -> bool {
        let (first, inside) = self.first();
        let passed = &standing.passed;
        if !is_whole(standing) || !passed.sees_all_of(first) || inside.is_some_and(|xid| !passed.sees(xid)) {
            return false;
        }
        let records = std::mem::take(&mut self.records);
        let (before, open) = (std::mem::replace(&mut self.passed, passed.clone()), self.open.take());
        self.begin_at(after.clone());
        let last = open.as_ref().map(|open| open.transaction.xid);
        let mut current: Option<Open> = None;
        for Buffered { record, row, transaction, .. } in records {
            if current.as_ref().is_none_or(|open| open.transaction.xid != row.xid) {
                self.end_again(current.take());
                current = Some(self.begin_again(&transaction));
            }
            self.open = current.take();
            self.row(row.id, Arc::unwrap_or_clone(record));
            current = self.open.take();
        }
        self.open = match (current, open) {
            (Some(current), Some(_)) if Some(current.transaction.xid) == last => Some(current),
            (current, open) => {
                self.end_again(current);
                open.map(|open| self.begin_again(&open.transaction))
            }
        };
        self.passed = self.passed.seen_by_either(&before);
        true
    }

    fn begin_again(&self, transaction: &Transaction) -> Open {
        let skipped = self.passed.sees(transaction.xid);
        let transaction = Arc::new(Transaction::new(self.passed.clone(), transaction.xid, transaction.log));
        Open { transaction, rows: 0, highest: i64::MIN, is_ordered: true, skipped }
    }

    fn end_again(&mut self, open: Option<Open>) {
        if let Some(open) = open.filter(|open| !open.skipped && open.rows > 0) {
            self.passed = self.passed.and(open.transaction.xid);
        }
    }

    /// What was passed before the first record, and of which transaction some of it besides.
    fn first(&self) -> (&Snapshot, Option<u64>) {
        match (self.records.front(), &self.open) {
            (Some(first), _) => (&first.transaction.passed, (first.number != 1).then_some(first.row.xid)),
            (None, Some(open)) if open.rows > 0 && !open.skipped => {
                (&open.transaction.passed, Some(open.transaction.xid))
            }
            (None, _) => (&self.passed, None),
        }
    }
}
