//! Reading the table again: each key's entries together and in their order, for the sort key is a number.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use outbox::{Content, Moment, Page, PartitionId, Position, Record, StoreError, source::Limit};

use super::{
    Inner,
    capacity::{Budget, Capacity},
    place::InScan,
};
use crate::dynamodb::{
    calls::{attempted, names, values},
    failure::Failure,
    item::{Item, number},
    mapping::Mapping,
    position::EntryName,
    schema::Tables,
};

/// Nobody reads on who has not for so long: what is buffered for a recovery that ended before its end is let go.
const ABANDONED: Duration = Duration::from_mins(10);

/// The recoveries that are under way, each read on from one place, and when that was last done.
#[derive(Default)]
pub(super) struct Scans {
    lines: Mutex<HashMap<PartitionId, (Moment, Line)>>,
    budget: Budget,
}

/// What was read of the table and not handed out yet.
struct Line {
    /// Behind what was handed out.
    place: InScan,
    buffer: VecDeque<(InScan, Arc<Record>)>,
    /// Behind what was read.
    reached: InScan,
    /// The table was read to its end.
    done: bool,
    capacity: Capacity,
}

impl Scans {
    fn take(&self, partition: &PartitionId, place: &InScan, now: Moment) -> Option<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, (read, _)| now.since(*read) < ABANDONED);
        lines.remove(partition).map(|(_, line)| line).filter(|line| line.place == *place)
    }

    fn put(&self, partition: &PartitionId, line: Line, now: Moment) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.insert(partition.clone(), (now, line));
    }
}

impl Inner {
    pub(super) async fn read_table(
        &self,
        partition: &PartitionId,
        after: &Position,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let place = InScan::parse(after)?;
        let mut line = match self.scans.take(partition, &place, self.calls.clock.moment()) {
            Some(line) => line,
            None => Line {
                buffer: VecDeque::new(),
                reached: place.clone(),
                place,
                done: false,
                capacity: self.capacity().await?,
            },
        };
        if line.buffer.is_empty() && !line.done {
            self.scan(&mut line).await?;
            // Nothing is handed out to a relay that another one has followed.
            self.store.claimed().check().await?;
        }
        let page = line.hand_out(limit);
        if !page.end {
            self.scans.put(partition, line, self.calls.clock.moment());
        }
        Ok(page)
    }

    /// One page of the table, when the budget allows.
    async fn scan(&self, line: &mut Line) -> Result<(), StoreError> {
        let clock = &self.calls.clock;
        tokio::time::sleep(self.scans.budget.wait(clock.moment())).await;
        let scan = self.calls.client().scan().table_name(self.store.tables().entries()).consistent_read(true);
        let scan = scan.return_consumed_capacity(ReturnConsumedCapacity::Total).set_limit(line.capacity.page());
        let tables = self.store.tables();
        let scan = scan.set_exclusive_start_key(line.reached.row.as_ref().map(|row| tables.primary_key(row)));
        // An item without a time is no entry, and is to be seen: it becomes a dead letter.
        let scan = match line.place.begin {
            i64::MIN => scan,
            // When its items were written may stand in many forms: they are looked at one by one.
            _ if tables.mapping().is_some() => scan,
            begin => scan
                .filter_expression("#recorded_at >= :begin OR (NOT attribute_type(#recorded_at, :number))")
                .set_expression_attribute_names(Some(names(["recorded_at"])))
                .set_expression_attribute_values(Some(values([
                    (":begin", number(begin)),
                    (":number", AttributeValue::S("N".to_owned())),
                ]))),
        };
        let output = self.calls.call(|| scan.clone().send()).await.map_err(Failure::of_reading);
        let output = output.map_err(attempted("reading the table again"))?;
        let units = output.consumed_capacity.as_ref().and_then(|consumed| consumed.capacity_units).unwrap_or(1.0);
        self.scans.budget.take(clock.moment(), units, &line.capacity);
        let seen = clock.wall();
        let record = |item: &Item, place: &InScan| self.reader.record_seen(item, place.position(), seen);
        line.take_in(tables, output.items.unwrap_or_default(), output.last_evaluated_key.as_ref(), record);
        Ok(())
    }
}

impl Line {
    fn take_in(
        &mut self,
        tables: &Tables,
        items: Vec<Item>,
        last: Option<&Item>,
        record: impl Fn(&Item, &InScan) -> Record,
    ) {
        for item in items {
            let (begin, rows) = (self.place.begin, self.reached.rows + 1);
            self.reached = InScan { begin, rows, row: tables.name(&item) };
            let found = record(&item, &self.reached);
            let is_too_old = tables.mapping().is_some_and(Mapping::has_time)
                && matches!(found.content, Content::Events(_))
                && found.recorded.as_millisecond() < begin;
            if !is_too_old {
                self.buffer.push_back((self.reached.clone(), Arc::new(found)));
            }
        }
        match last {
            None => self.done = true,
            Some(last) => {
                let row = tables.name(last);
                let primary = |row: &Option<EntryName>| row.as_ref().map(|row| tables.primary_key(row));
                if primary(&self.reached.row) != primary(&row) {
                    self.reached = InScan { rows: self.reached.rows + 1, row, ..self.reached.clone() };
                }
            }
        }
    }

    fn hand_out(&mut self, limit: Limit) -> Page {
        let mut records = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some((place, record)) = self.buffer.front() {
            events += record.len();
            bytes += record.weight();
            if !records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                break;
            }
            self.place = place.clone();
            records.push(record.clone());
            self.buffer.pop_front();
        }
        let end = self.done && self.buffer.is_empty();
        let next = if let Some(last) = records.last() {
            last.position.clone()
        } else {
            self.place = self.reached.clone();
            self.place.position_between()
        };
        Page { records, next, more: !end, end }
    }
}
