//! Whether the table has what the log gave: an older copy of a database soon has other rows under the same ids and
//! transaction numbers, and is as far in its log. Only commits tell, and the table does not know of those that it did not give.

use std::sync::{Arc, PoisonError};

use outbox::{CommitId, PartitionId, Record, StoreError, source::Limit};

use super::shared::Shared;
use crate::postgres::{
    history::missing_row,
    position::{LogPlace, Reading, Row, Snapshot, Standing, row_of},
};

const ONE: Limit = Limit { events: 1, bytes: 1 };

/// What the log gave last.
#[derive(Default)]
pub(super) struct Given {
    record: Option<Arc<Record>>,
    /// The stream that gave it, or during which it was found in the table since; `None` while the table was polled.
    stream: Option<u64>,
}

impl Shared {
    /// `stream` gave this. What another one gave before stays to be looked for.
    pub(super) fn gave(&self, stream: u64, record: &Arc<Record>) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.record.is_none() || given.stream == Some(stream) {
            *given = Given { record: Some(record.clone()), stream: Some(stream) };
        }
    }

    /// Looks whether the table has what was given last, once for each stream, and each time that the table is polled between.
    ///
    /// # Errors
    /// [`HistoryChanged`](outbox::ErrorKind::HistoryChanged) if it has another row in its place; otherwise as the table says.
    pub(super) async fn prove(&self, partition: &PartitionId) -> Result<(), StoreError> {
        let stream = self.stream();
        let last = {
            let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            given.record.clone().filter(|_| given.stream != stream)
        };
        let Some(last) = last else { return Ok(()) };
        let seen = self.beside.snapshot().await?;
        // What cannot be seen yet is looked for with the next read.
        let Some(row) = row_of(&last.position).filter(|row| seen.sees(row.xid)) else { return Ok(()) };
        if self.commit_at(partition, row, seen).await?.is_some_and(|commit| commit != last.commit) {
            return Err(missing_row(&format!("`{}`", self.options), row));
        }
        // That it is gone may be retention's doing, or its owner's; and the other checks tell whether it never was.
        self.given.lock().unwrap_or_else(PoisonError::into_inner).stream = stream;
        Ok(())
    }

    /// The commit of `row`, if the table shows it in what `seen` sees.
    async fn commit_at(
        &self,
        partition: &PartitionId,
        row: Row,
        seen: Snapshot,
    ) -> Result<Option<CommitId>, StoreError> {
        let passed = seen.below(row.xid);
        let reading = Reading::Range { to: seen, last: Some(Row { id: row.id.saturating_sub(1), xid: 0 }), then: None };
        let before = Standing { passed, reading, log: LogPlace::default() };
        let page = self.table.read(partition, &before.position(), ONE).await?;
        let first = page.records.first().filter(|first| row_of(&first.position) == Some(row));
        Ok(first.map(|first| first.commit))
    }
}
