//! An inbox's table: reading it, and drawing numbers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, KeysAndAttributes, ReturnValue},
};
use jiff::Timestamp;
use outbox::{CommitId, ErrorKind, StoreError};

use super::items::{self, Names};
use crate::dynamodb::{
    calls::{Calls, attempted, names, values},
    failure::Failure,
    item::{Item, number, number_of, text, text_of},
};

/// So many items one call gives at most.
///
/// Rule: `BatchGetItem` of the API reference.
const AT_ONCE: usize = 100;
/// Numbers that are drawn at once. What a process leaves of them nobody uses.
const NUMBERS: u64 = 32;
/// Items over which the counts are spread.
pub(super) const SHARES: u64 = 16;
/// The layout that this version makes and works with.
pub(super) const LAYOUT: u32 = 1;

/// One consumer's inbox in its table.
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) calls: Calls,
    pub(super) name: String,
    pub(super) names: Names,
    /// Up to when ids that expired are forgotten, whether DynamoDB has deleted them yet or not.
    forgotten: Mutex<Option<Timestamp>>,
    /// Numbers that were drawn: the next one, and the one behind the last.
    numbers: Mutex<(u64, u64)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a query begins and how far it goes.
pub(super) struct Range<'a> {
    pub(super) id: String,
    /// What the parts begin with.
    pub(super) prefix: &'a str,
    /// Behind this part.
    pub(super) after: Option<String>,
    /// So many at most; all, if it is `None`.
    pub(super) limit: Option<usize>,
}

impl Table {
    pub(super) fn new(client: &Client, calls: Calls, name: &str, consumer: &str) -> Self {
        Self {
            client: client.clone(),
            calls,
            name: name.to_owned(),
            names: Names::new(consumer),
            forgotten: Mutex::default(),
            numbers: Mutex::default(),
        }
    }

    /// Until when ids that expired count as forgotten.
    pub(super) fn forgotten(&self) -> Option<Timestamp> {
        *locked(&self.forgotten)
    }

    pub(super) fn forget_until(&self, now: Timestamp) {
        let mut forgotten = locked(&self.forgotten);
        *forgotten = Some(forgotten.map_or(now, |before| before.max(now)));
    }

    /// The item that says that there is this inbox.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is none, [`ErrorKind::Incompatible`] if it is of another version.
    pub(super) async fn consumer(&self) -> Result<Item, StoreError> {
        const LOOKING: &str = "looking for the inbox";
        let (table, consumer) = (&self.name, self.names.consumer());
        let Some(found) = self.item(self.names.inbox(), LOOKING).await? else {
            let message = format!(
                "table `{table}` has no inbox of `{consumer}`: check the names, or make it with `DynamoInbox::init`"
            );
            return Err(StoreError::new(ErrorKind::Invalid, message));
        };
        if number_of(&found, "layout") == Some(LAYOUT) {
            return Ok(found);
        }
        let message = format!(
            "the inbox of `{consumer}` in table `{table}` has another layout than {LAYOUT}: use the version of Outbox that made it, or a newer one"
        );
        Err(StoreError::new(ErrorKind::Incompatible, message))
    }

    pub(super) async fn item(&self, key: Item, what: &'static str) -> Result<Option<Item>, StoreError> {
        self.calls.get(&self.name, key).await.map_err(attempted(what))
    }

    /// Items as they are now, by their ids and parts; those that are there.
    pub(super) async fn items(
        &self,
        mut wanted: Vec<Item>,
        what: &'static str,
    ) -> Result<HashMap<(String, String), Item>, StoreError> {
        let mut found = HashMap::new();
        if let [_] = wanted[..] {
            let only = wanted.pop().unwrap_or_default();
            found.extend(self.item(only, what).await?.and_then(named));
            return Ok(found);
        }
        while !wanted.is_empty() {
            let rest = wanted.split_off(wanted.len().min(AT_ONCE));
            let mut left = std::mem::replace(&mut wanted, rest);
            let mut pauses = self.calls.pauses();
            while !left.is_empty() {
                let before = left.len();
                let (items, unread) = self.batch(left, what).await?;
                found.extend(items.into_iter().filter_map(named));
                left = unread;
                // A throttled call gives a part of what was asked for, or nothing.
                if left.len() == before && !pauses.wait(&*self.calls.clock).await {
                    let message =
                        format!("{what}: DynamoDB is throttled: give the table `{}` more capacity", self.name);
                    return Err(StoreError::new(ErrorKind::Unavailable, message));
                }
            }
        }
        Ok(found)
    }

    async fn batch(&self, keys: Vec<Item>, what: &'static str) -> Result<(Vec<Item>, Vec<Item>), StoreError> {
        let asked = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let asked = asked.map_err(|error| StoreError::new(ErrorKind::Invalid, format!("{what}: {error}")))?;
        let attempt = || self.calls.client().batch_get_item().request_items(&self.name, asked.clone()).send();
        let output = self.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(what))?;
        let items = output.responses.and_then(|mut tables| tables.remove(&self.name)).unwrap_or_default();
        let unread = output.unprocessed_keys.and_then(|mut tables| tables.remove(&self.name));
        Ok((items, unread.map(|unread| unread.keys).unwrap_or_default()))
    }

    /// Items of one id, by their parts.
    pub(super) async fn query(&self, range: Range<'_>, what: &'static str) -> Result<Vec<Item>, StoreError> {
        let Range { id, prefix, after, limit } = range;
        let mut given = values([(":id", text(id.clone()))]);
        let condition = if prefix.is_empty() {
            "#id = :id"
        } else {
            given.insert(":prefix".to_owned(), text(prefix));
            "#id = :id AND begins_with(#part, :prefix)"
        };
        let named = if prefix.is_empty() { names(["id"]) } else { names(["id", "part"]) };
        let (mut found, mut start) = (Vec::new(), after.map(|part| items::key(id, part)));
        loop {
            let left = limit.map(|limit| limit.saturating_sub(found.len()));
            let attempt = || {
                let query = self.calls.client().query().table_name(&self.name).consistent_read(true);
                let query = query.key_condition_expression(condition);
                let query = query.set_expression_attribute_names(Some(named.clone()));
                let query = query.set_expression_attribute_values(Some(given.clone()));
                let query = query.set_limit(left.and_then(|left| i32::try_from(left).ok()));
                query.set_exclusive_start_key(start.clone()).send()
            };
            let page = self.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(what))?;
            found.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() || limit.is_some_and(|limit| found.len() >= limit) {
                return Ok(found);
            }
        }
    }

    /// A page of all of this inbox's items. Reads the whole table.
    pub(super) async fn scan(
        &self,
        start: Option<Item>,
        what: &'static str,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let attempt = || {
            let scan = self.calls.client().scan().table_name(&self.name).consistent_read(true);
            let scan = scan.filter_expression("begins_with(#id, :prefix)");
            let scan = scan.set_expression_attribute_names(Some(names(["id"])));
            let scan = scan.set_expression_attribute_values(Some(values([(":prefix", text(self.names.prefix()))])));
            scan.set_exclusive_start_key(start.clone()).send()
        };
        let page = self.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(what))?;
        Ok((page.items.unwrap_or_default(), page.last_evaluated_key))
    }

    /// A number that no other kept event has.
    pub(super) async fn next_number(&self) -> Result<u64, StoreError> {
        const DRAWING: &str = "drawing a number for a kept event";
        if let Some(number) = self.drawn_number() {
            return Ok(number);
        }
        let attempt = || {
            let update = self.calls.client().update_item().table_name(&self.name);
            let update = update.set_key(Some(self.names.numbers())).update_expression("ADD #last :many");
            let update = update.set_expression_attribute_names(Some(names(["last"])));
            let update = update.set_expression_attribute_values(Some(values([(":many", number(NUMBERS))])));
            update.return_values(ReturnValue::UpdatedNew).send()
        };
        let output = self.calls.call(attempt).await.map_err(attempted(DRAWING))?;
        let last: Option<u64> = output.attributes.as_ref().and_then(|now| number_of(now, "last"));
        let last = last.ok_or_else(|| StoreError::new(ErrorKind::Invalid, format!("{DRAWING}: there is none")))?;
        let first = last + 1 - NUMBERS;
        *locked(&self.numbers) = (first + 1, last + 1);
        Ok(first)
    }

    fn drawn_number(&self) -> Option<u64> {
        let mut numbers = locked(&self.numbers);
        let (next, end) = *numbers;
        numbers.0 += u64::from(next < end);
        (next < end).then_some(next)
    }

    /// A version that no item had before.
    pub(super) fn new_version(&self) -> String {
        CommitId(self.calls.entropy.sixteen()).to_string()
    }

    /// Which of the items that hold the counts.
    pub(super) fn share(&self) -> u64 {
        self.calls.entropy.seed() % SHARES
    }
}

fn named(item: Item) -> Option<((String, String), Item)> {
    let name = (text_of(&item, "id")?.to_owned(), text_of(&item, "part")?.to_owned());
    Some((name, item))
}

/// The id and the part in a key.
pub(super) fn name_of(key: &Item) -> (String, String) {
    let part = |name| key.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned().unwrap_or_default();
    (part("id"), part("part"))
}
