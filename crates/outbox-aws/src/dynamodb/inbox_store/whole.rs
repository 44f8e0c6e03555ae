//! What concerns a whole inbox: what it holds, and forgetting a producer. Both read the whole table.

use outbox::{
    Lane, Place, StoreError,
    inbox_store::{InboxCounts, InboxTotals, LaneRecord},
};

use super::{
    commit::is_record,
    ids,
    items::{self, ReadLane},
    table::Table,
    writes::{Condition, Writes},
};
use crate::dynamodb::{
    calls::NotCommitted,
    item::{Item, number_of, text_of},
};

impl Table {
    pub(super) async fn totals(&self) -> Result<InboxTotals, StoreError> {
        let (mut totals, mut start) = (InboxTotals::default(), None);
        loop {
            let (found, next) = self.scan(start, "counting what the inbox holds").await?;
            for item in &found {
                self.count(item, &mut totals)?;
            }
            if next.is_none() {
                return Ok(totals);
            }
            start = next;
        }
    }

    fn count(&self, item: &Item, totals: &mut InboxTotals) -> Result<(), StoreError> {
        if text_of(item, "part").is_some_and(is_record) {
            let record = items::read_lane(item)?.record;
            let is_key = matches!(items::lane_of(item)?.lane, Lane::Key(_));
            totals.marks += u64::from(is_key && record.mark != Place::ORIGIN);
            record.trouble.iter().for_each(|trouble| totals.count(trouble));
        } else if ids::counts(item, self.forgotten()) {
            totals.ids += 1;
        } else if !item.contains_key("producer") {
            let count = |name| number_of(item, name).unwrap_or(0);
            totals.counts.add(&InboxCounts {
                applied: count("applied"),
                duplicates: count("duplicates"),
                superseded: count("superseded"),
                ignored: count("ignored"),
                early: count("early"),
                history_back: count("history_back"),
            });
        }
        Ok(())
    }

    /// Forgets marks and ids of `producer`, one by one: who breaks off in the middle does it again.
    pub(super) async fn forget(&self, producer: &str) -> Result<u64, StoreError> {
        let (mut forgotten, mut start) = (0, None);
        loop {
            let (found, next) = self.scan(start, "forgetting a producer").await?;
            for item in found.iter().filter(|item| text_of(item, "producer") == Some(producer)) {
                forgotten += u64::from(self.forget_item(item).await?);
            }
            if next.is_none() {
                return Ok(forgotten);
            }
            start = next;
        }
    }

    /// Forgets a mark or an id. Says whether there was one.
    async fn forget_item(&self, item: &Item) -> Result<bool, StoreError> {
        const FORGETTING: &str = "forgetting a producer";
        let mut item = item.clone();
        let mut pauses = self.calls.pauses();
        loop {
            let writes = Writes(&self.name);
            let part = |name| text_of(&item, name).unwrap_or_default().to_owned();
            let key = items::key(part("id"), part("part"));
            let (write, counts) = if is_record(&part("part")) {
                let ReadLane { record, version, awaited } = items::read_lane(&item)?;
                let lane = items::lane_of(&item)?;
                if !matches!(lane.lane, Lane::Key(_)) || record.mark == Place::ORIGIN && record.trouble.is_none() {
                    return Ok(false);
                }
                let seen = Condition::version(version.as_ref());
                let counts = record.mark != Place::ORIGIN;
                let left = LaneRecord { trouble: record.trouble, ..LaneRecord::default() };
                if left.trouble.is_none() && !awaited {
                    (writes.delete(key.clone(), seen)?, counts)
                } else {
                    let mut left = items::lane_item(&lane, &left, &self.new_version(), awaited);
                    left.extend(key.clone());
                    (writes.put(left, seen)?, counts)
                }
            } else if item.contains_key("until") && ids::is_done(&item) {
                (writes.delete(key.clone(), Condition::none())?, true)
            } else {
                return Ok(false);
            };
            let token = self.calls.token();
            match self.calls.transact(vec![write], &token).await {
                Ok(()) => return Ok(counts),
                Err(NotCommitted::Conditions(_)) if pauses.wait(&*self.calls.clock).await => {
                    match self.item(key, FORGETTING).await? {
                        Some(now) => item = now,
                        None => return Ok(false),
                    }
                }
                Err(NotCommitted::Conditions(_)) => {
                    let message = format!("{FORGETTING}: its consumer was faster each time: stop it, and try again");
                    return Err(StoreError::new(outbox::ErrorKind::Unavailable, message));
                }
                Err(NotCommitted::Refused { failure, .. } | NotCommitted::Failed(failure)) => {
                    return Err(failure.store_error(FORGETTING));
                }
            }
        }
    }
}
