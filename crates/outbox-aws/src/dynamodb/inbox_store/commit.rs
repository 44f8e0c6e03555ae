//! The end of a transaction: all that it writes, sent as one.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use outbox::{
    StoreError,
    inbox_store::{EventId, InboxCounts, LaneId, LaneRecord},
};

use super::{
    effect::Doer,
    ids::{Before, Id, Remembered},
    items::{self, RECORD},
    kept,
    tx::{DynamoTx, Loaded},
    writes::{Condition, Writes},
};
use crate::dynamodb::{
    calls::NotCommitted,
    item::{self, MAX_ITEM_BYTES, number, text},
    writer::{CommitError, limits},
};

const COMMITTING: &str = "committing to the inbox";

/// How a transaction ended.
pub(super) enum Ended {
    Done,
    /// Something was not as it was read, or taken to be.
    Changed,
    /// The condition of a handler's action failed, or, if it is `for_good`, DynamoDB refuses the action for what it is.
    Refused {
        doer: Doer,
        reason: String,
        for_good: bool,
    },
    /// It is more than one transaction takes.
    TooMuch(String),
    Failed(StoreError),
}

impl DynamoTx<'_> {
    /// Sends what there is to send. If the error is uncertain, it may have committed.
    pub(super) async fn commit(self) -> Ended {
        let own = match self.own_writes() {
            Ok(own) => own,
            Err(error) => return Ended::Failed(error),
        };
        let doers: Vec<_> = self.effect.actions().iter().map(|(doer, _)| doer.clone()).collect();
        let mut actions: Vec<_> = self.effect.actions().iter().map(|(_, action)| action.clone()).collect();
        let names = vec!["an item of the inbox".to_owned(); own.len()];
        actions.extend(own);
        if actions.is_empty() {
            return Ended::Done;
        }
        if let Err(error) = limits::check(&actions, &names) {
            return beyond(&error, &actions, &doers);
        }
        let token = self.table.calls.token();
        match self.table.calls.transact(actions, &token).await {
            Ok(()) => Ended::Done,
            Err(NotCommitted::Conditions(failed)) => {
                let of_own = failed.items.keys().any(|action| *action >= doers.len());
                match failed.items.keys().min().and_then(|action| doers.get(*action)) {
                    Some(doer) if !of_own => {
                        let reason = "the condition of one of the handler's actions failed".to_owned();
                        Ended::Refused { doer: doer.clone(), reason, for_good: false }
                    }
                    Some(_) | None => Ended::Changed,
                }
            }
            Err(NotCommitted::Refused { action, failure }) => match doers.get(action) {
                Some(doer) => {
                    let reason = format!("one of the handler's actions is refused: {failure}");
                    Ended::Refused { doer: doer.clone(), reason, for_good: true }
                }
                None => Ended::Failed(failure.store_error(COMMITTING)),
            },
            Err(NotCommitted::Failed(failure)) => Ended::Failed(failure.store_error(COMMITTING)),
        }
    }

    fn own_writes(&self) -> Result<Vec<TransactWriteItem>, StoreError> {
        let mut writes = Vec::new();
        for (lane, loaded) in &self.lanes {
            self.write_lane(lane, loaded, &mut writes)?;
        }
        for (lane, (from, to)) in &self.advanced {
            writes.push(self.advances(lane, *from, *to)?);
        }
        for (id, remembered) in &self.ids {
            let Remembered { before, now, checked } = *remembered;
            match now.filter(|now| before != Before::Read(Some(*now))) {
                Some(now) => writes.push(self.remembers(id, before, now)?),
                None if checked => writes.push(self.writes().check(self.table.names.event(id), self.stands(before))?),
                None => {}
            }
        }
        self.write_kept(&mut writes)?;
        self.write_waits(&mut writes)?;
        writes.extend(self.write_mode()?);
        writes.extend(self.write_counts()?);
        Ok(writes)
    }

    fn writes(&self) -> Writes<'_> {
        Writes(&self.table.name)
    }

    fn write_lane(
        &self,
        lane: &LaneId,
        loaded: &Loaded,
        writes: &mut Vec<TransactWriteItem>,
    ) -> Result<(), StoreError> {
        let Loaded { read, now, awaited, touched, checked } = loaded;
        let changes = *now != read.record || *touched;
        if !changes && !checked {
            return Ok(());
        }
        let (key, seen) = (self.table.names.record(lane), Condition::version(read.version.as_ref()));
        let is_empty = *now == LaneRecord::default() && !awaited;
        match (is_empty, &read.version, changes) {
            (true, Some(_), _) => writes.push(self.writes().delete(key, seen)?),
            (true, None, _) if *checked => writes.push(self.writes().check(key, seen)?),
            (true, None, _) => {}
            (false, _, false) => writes.push(self.writes().check(key, seen)?),
            (false, _, true) => {
                let mut item = items::lane_item(lane, now, &self.table.new_version(), *awaited);
                item.extend(key);
                writes.push(self.writes().put(item, seen)?);
            }
        }
        let due = |record: &LaneRecord| record.trouble.as_ref().map(|trouble| trouble.due);
        match (due(&read.record), due(now)) {
            (before, after) if before == after => {}
            (_, Some(due)) => {
                let mut item = self.table.names.trouble(lane);
                item.extend(items::lane_attributes(lane));
                item.extend(due.map(|due| ("due".to_owned(), number(due.as_microsecond()))));
                writes.push(self.writes().put(item, Condition::none())?);
            }
            (_, None) => writes.push(self.writes().delete(self.table.names.trouble(lane), Condition::none())?),
        }
        Ok(())
    }

    /// The lane keeps nothing and stands at `from`: it moves on.
    fn advances(&self, lane: &LaneId, from: outbox::Place, to: outbox::Place) -> Result<TransactWriteItem, StoreError> {
        let stands = if from == outbox::Place::ORIGIN {
            Condition::absent()
        } else {
            let from = [(":from", text(from.to_string()))];
            Condition::new("#mark = :from AND attribute_not_exists(#state)", ["mark", "state"], from)
        };
        let expression = "SET #mark = :mark, #version = :version, #producer = :producer, #lane = :lane".to_owned();
        let given = vec![
            ("mark", text(to.to_string())),
            ("version", text(self.table.new_version())),
            ("producer", text(&*lane.producer)),
            ("lane", text(lane.lane.to_text())),
        ];
        self.writes().update(self.table.names.record(lane), expression, given, stands)
    }

    fn remembers(&self, id: &EventId, before: Before, now: Id) -> Result<TransactWriteItem, StoreError> {
        let mut item = self.table.names.event(id);
        item.extend(item::item([
            ("producer", text(&*id.producer)),
            ("until", number(now.expires.as_microsecond())),
            ("done", AttributeValue::Bool(now.done)),
        ]));
        if now.done {
            // In seconds: what DynamoDB deletes it by. While its event is kept it does not expire.
            item.insert("expires_at".to_owned(), number(now.expires.as_second().saturating_add(1)));
        }
        self.writes().put(item, self.stands(before))
    }

    /// An id's item is as it was read, or taken to be.
    fn stands(&self, before: Before) -> Condition {
        match before {
            Before::Read(None) => Condition::absent(),
            Before::Read(Some(seen)) => {
                let values =
                    [(":until", number(seen.expires.as_microsecond())), (":done", AttributeValue::Bool(seen.done))];
                Condition::new("#until = :until AND #done = :done", ["until", "done"], values)
            }
            Before::Guessed => match self.table.forgotten() {
                None => Condition::absent(),
                Some(until) => Condition::new(
                    "attribute_not_exists(#id) OR (#done = :done AND #until <= :until)",
                    ["id", "done", "until"],
                    [(":done", AttributeValue::Bool(true)), (":until", number(until.as_microsecond()))],
                ),
            },
        }
    }

    fn write_kept(&self, writes: &mut Vec<TransactWriteItem>) -> Result<(), StoreError> {
        for ((lane, place), change) in &self.keeping.changes {
            let id = self.table.names.lane(lane);
            let written = change.now.as_ref().map(|kept| kept::written(&id, kept)).unwrap_or_default();
            // What is written in the place of others takes theirs over.
            let gone = kept::keys(&id, *place, change.before).split_off(written.len().min(change.before));
            for item in written {
                let condition = if change.before == 0 { Condition::absent() } else { Condition::none() };
                writes.push(self.writes().put(item, condition)?);
            }
            for key in gone {
                writes.push(self.writes().delete(key, Condition::none())?);
            }
        }
        Ok(())
    }

    fn write_waits(&self, writes: &mut Vec<TransactWriteItem>) -> Result<(), StoreError> {
        for (waiter, waits) in self.waits.iter().filter(|(_, waits)| waits.before != waits.now) {
            let names = &self.table.names;
            if let Some(before) = &waits.before {
                writes.push(self.writes().delete(names.waiter(before, waiter), Condition::none())?);
            }
            match &waits.now {
                None => writes.push(self.writes().delete(names.wait(waiter), Condition::none())?),
                Some(cause) => {
                    let mut wait = names.wait(waiter);
                    wait.extend(items::lane_attributes(cause));
                    writes.push(self.writes().put(wait, Condition::none())?);
                    let mut listed = names.waiter(cause, waiter);
                    listed.extend(items::lane_attributes(waiter));
                    writes.push(self.writes().put(listed, Condition::none())?);
                }
            }
        }
        Ok(())
    }

    fn write_mode(&self) -> Result<Option<TransactWriteItem>, StoreError> {
        let Some((known, mode)) = &self.mode else { return Ok(None) };
        let condition = match known {
            None => Condition::new("attribute_not_exists(#mode)", ["mode"], []),
            Some(known) => Condition::new("#mode = :known", ["mode"], [(":known", text(known))]),
        };
        let given = vec![("mode", text(*mode))];
        self.writes().update(self.table.names.inbox(), "SET #mode = :mode".to_owned(), given, condition).map(Some)
    }

    fn write_counts(&self) -> Result<Option<TransactWriteItem>, StoreError> {
        let given: Vec<_> = named_counts(&self.counted).into_iter().filter(|(_, count)| *count > 0).collect();
        if given.is_empty() {
            return Ok(None);
        }
        let adds: Vec<_> = given.iter().map(|(name, _)| format!("#{name} :{name}")).collect();
        let given = given.into_iter().map(|(name, count)| (name, number(count))).collect();
        let key = self.table.names.counts(self.table.share());
        self.writes().update(key, format!("ADD {}", adds.join(", ")), given, Condition::none()).map(Some)
    }
}

/// The counts by their names as attributes.
pub(super) fn named_counts(counts: &InboxCounts) -> [(&'static str, u64); 6] {
    let InboxCounts { applied, duplicates, superseded, ignored, early, history_back } = *counts;
    [
        ("applied", applied),
        ("duplicates", duplicates),
        ("superseded", superseded),
        ("ignored", ignored),
        ("early", early),
        ("history_back", history_back),
    ]
}

/// What to do about a transaction that DynamoDB would not take.
fn beyond(error: &CommitError, actions: &[TransactWriteItem], doers: &[Doer]) -> Ended {
    if let CommitError::ItemTooLarge { .. } = error {
        let is_too_large =
            |action: &TransactWriteItem| action.put().is_some_and(|put| item::size(put.item()) > MAX_ITEM_BYTES);
        if let Some((_, doer)) = actions.iter().zip(doers).find(|(action, _)| is_too_large(action)) {
            return Ended::Refused { doer: doer.clone(), reason: error.to_string(), for_good: true };
        }
    }
    Ended::TooMuch(error.to_string())
}

/// Whether an item is a lane's record.
pub(super) fn is_record(part: &str) -> bool {
    part == RECORD
}
