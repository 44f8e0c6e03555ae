//! Reading the table again: key by key, each key's entries in their order.

use std::{collections::BTreeMap, sync::Arc};

use super::{invalid, position::InScan};
use crate::{
    entry::Record,
    error::StoreError,
    event::Key,
    memory::store::{Data, Stored},
    source::{Backlog, Limit, Page, PartitionId},
};

/// The partition of the recovery of this number that was asked for at `now`.
pub(super) fn partition(now: i64, number: u64) -> PartitionId {
    PartitionId::recovery(format_args!("{now}.{number}"))
}

/// When the recovery was asked for that reads this partition.
pub(super) fn started(partition: &PartitionId) -> Result<i64, StoreError> {
    let name = partition.as_str().rsplit('/').next().filter(|_| partition.is_recovery());
    let started = name.and_then(|name| name.split_once('.')).and_then(|(started, _)| started.parse().ok());
    started.ok_or_else(|| invalid(format!("`{partition}` is no recovery of this stream")))
}

/// What lies behind a position of a recovery.
pub(super) struct Scan<'a> {
    after: InScan,
    rows: BTreeMap<(Option<&'a str>, u64), &'a Stored>,
}

impl<'a> Scan<'a> {
    pub(super) fn of(data: &'a Data, after: &InScan) -> Self {
        let entries = data.entries.iter();
        let recent = entries.filter(|(_, entry)| entry.record.recorded.as_millisecond() >= after.begin);
        let rows = recent.map(|(number, entry)| ((entry.key.as_ref().map(Key::as_str), *number), entry));
        let last = (after.key.as_deref(), after.number);
        Self { rows: rows.filter(|(row, _)| *row > last).collect(), after: after.clone() }
    }

    pub(super) fn page(self, limit: Limit) -> Page {
        let mut page = Page { records: Vec::new(), next: self.after.position(), more: false, end: true };
        let (mut events, mut bytes) = (0, 0);
        for ((key, number), entry) in self.rows {
            events += entry.record.len();
            bytes += entry.record.weight();
            if !page.records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                (page.more, page.end) = (true, false);
                break;
            }
            page.next = self.after.behind(key, number, &entry.record.position).position();
            page.records.push(Arc::new(Record { position: page.next.clone(), ..(*entry.record).clone() }));
        }
        page
    }

    pub(super) fn backlog(self) -> Backlog {
        let oldest = self.rows.values().map(|entry| entry.record.recorded).min();
        Backlog { entries: self.rows.len() as u64, exact: true, oldest }
    }
}
