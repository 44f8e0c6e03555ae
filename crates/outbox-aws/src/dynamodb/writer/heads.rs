//! Heads: the latest place of each key, read, moved, and remembered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{ConditionCheck, TransactWriteItem, Update},
};
use outbox::{ErrorKind, Key, Moment, Place, StoreError};

use crate::dynamodb::{
    calls::{ALL_OLD, Calls, attempted, names, values},
    item::{self, Item, number, number_of, text},
    schema::{self, Identity, Tables},
};

/// So many heads are remembered; then they are forgotten all at once.
const REMEMBERED: usize = 10_000;
/// For so long the identity of the store is taken as it was read: a changed limit of the routes takes that long to be
/// seen.
const IDENTITY_LASTS: Duration = Duration::from_mins(1);

/// The latest entry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The place of its last event; [`Place::ORIGIN`] if the key has no entry.
    pub(super) last: Place,
    /// How often a commit of the key was settled as not committed. Whoever saw the head before cannot commit any more.
    pub(super) fence: u64,
}

impl Head {
    pub(super) const NONE: Self = Self { last: Place::ORIGIN, fence: 0 };

    pub(super) fn sequence(self) -> u64 {
        self.last.sequence
    }

    /// From its item; nothing if that cannot be read.
    pub(super) fn read(item: &Item) -> Option<Self> {
        let count: u32 = number_of(item, "count").filter(|count| *count > 0)?;
        let last = Place::new(number_of(item, "incarnation")?, number_of(item, "sequence")?, count - 1);
        let fence = number_of(item, "fence").unwrap_or(0);
        (last.incarnation > 0 && last.sequence > 0).then_some(Self { last, fence })
    }
}

/// What a writer remembers between transactions. Only to be spared a read: what is no longer so makes the transaction's
/// condition fail, and is read again.
#[derive(Default)]
pub(super) struct Heads {
    known: Mutex<HashMap<Key, Head>>,
    identity: Mutex<Option<(Identity, Moment)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heads {
    pub(super) fn known(&self, key: &Key) -> Option<Head> {
        locked(&self.known).get(key).copied()
    }

    pub(super) fn note(&self, key: &Key, head: Head) {
        let mut known = locked(&self.known);
        if known.len() >= REMEMBERED && !known.contains_key(key) {
            known.clear();
        }
        known.insert(key.clone(), head);
    }

    pub(super) fn forget(&self, key: &Key) {
        locked(&self.known).remove(key);
    }

    /// The identity of the store, read at most once a minute, or if the one that was read is older than `incarnation`, of
    /// which there is an entry.
    pub(super) async fn identity(
        &self,
        calls: &Calls,
        tables: &Tables,
        incarnation: u32,
    ) -> Result<Identity, StoreError> {
        let now = calls.clock.moment();
        let read = locked(&self.identity).clone();
        if let Some((identity, since)) = read
            && now.since(since) < IDENTITY_LASTS
            && identity.incarnation >= incarnation
        {
            return Ok(identity);
        }
        if tables.mapping().is_some() {
            let message =
                format!("table `{}` is laid out otherwise: write its items as its layout has them", tables.entries());
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let identity = schema::identity(calls, tables).await?;
        if identity.incarnation < incarnation {
            let message = format!(
                "there are entries of incarnation {incarnation}, and `incarnation` of the item `store` in table `{}` is {}: that item was restored without them; set it to {incarnation}",
                tables.heads(),
                identity.incarnation
            );
            return Err(StoreError::new(ErrorKind::HistoryChanged, message));
        }
        *locked(&self.identity) = Some((identity.clone(), now));
        Ok(identity)
    }
}

/// The primary key of the head of `key`.
pub(super) fn primary_key(key: &Key) -> Item {
    item::item([("id", text(format!("k:{key}")))])
}

/// The head of `key` as it is now.
pub(super) async fn read(calls: &Calls, tables: &Tables, key: &Key) -> Result<Head, StoreError> {
    let found = calls.get(tables.heads(), primary_key(key)).await.map_err(attempted("reading a key's head"))?;
    match found {
        None => Ok(Head::NONE),
        Some(item) => Head::read(&item).ok_or_else(|| unreadable(tables, key)),
    }
}

pub(super) fn unreadable(tables: &Tables, key: &Key) -> StoreError {
    let message = format!(
        "the head of `{key}` in table `{}` cannot be read: it needs the numbers `incarnation`, `sequence` and `count`, those of the key's latest entry",
        tables.heads()
    );
    StoreError::new(outbox::ErrorKind::Invalid, message)
}

/// The action that moves the head of `key` on from `seen`, if nobody did.
pub(super) fn advance(
    tables: &Tables,
    key: &Key,
    seen: Head,
    first: Place,
    count: usize,
) -> Result<TransactWriteItem, BuildError> {
    let update = Update::builder()
        .table_name(tables.heads())
        .set_key(Some(primary_key(key)))
        .update_expression("SET #sequence = :sequence, #incarnation = :incarnation, #count = :count")
        .return_values_on_condition_check_failure(ALL_OLD);
    let mut named = names(["sequence", "incarnation", "count"]);
    let mut given = values([
        (":sequence", number(first.sequence)),
        (":incarnation", number(first.incarnation)),
        (":count", number(count)),
    ]);
    let condition = if seen == Head::NONE {
        "attribute_not_exists(#sequence)"
    } else {
        named.extend(names(["fence"]));
        given.extend(values([
            (":seen", number(seen.last.sequence)),
            (":in", number(seen.last.incarnation)),
            (":of", number(u64::from(seen.last.index) + 1)),
        ]));
        if seen.fence == 0 {
            "#sequence = :seen AND #incarnation = :in AND #count = :of AND attribute_not_exists(#fence)"
        } else {
            given.extend(values([(":fence", number(seen.fence))]));
            "#sequence = :seen AND #incarnation = :in AND #count = :of AND #fence = :fence"
        }
    };
    let update = update
        .condition_expression(condition)
        .set_expression_attribute_names(Some(named))
        .set_expression_attribute_values(Some(given));
    Ok(TransactWriteItem::builder().update(update.build()?).build())
}

/// Makes every transaction fail that saw the head of `key` before, unless the key has an entry `sequence` already. False if
/// it has, or there is no head.
pub(super) async fn fence(calls: &Calls, tables: &Tables, key: &Key, sequence: u64) -> Result<bool, StoreError> {
    let attempt = || {
        let update = calls.client().update_item().table_name(tables.heads()).set_key(Some(primary_key(key)));
        let update = update.update_expression("ADD #fence :one").condition_expression("#sequence < :sequence");
        let update = update.set_expression_attribute_names(Some(names(["fence", "sequence"])));
        let given = values([(":one", number(1)), (":sequence", number(sequence))]);
        update.set_expression_attribute_values(Some(given)).send()
    };
    match calls.call(attempt).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => Ok(false),
        Err(failure) => Err(failure.store_error("making sure that a commit cannot come any more")),
    }
}

/// The action that makes sure that `key` is at `sequence`, where the transaction has no event of it.
pub(super) fn stays(tables: &Tables, key: &Key, sequence: u64) -> Result<TransactWriteItem, BuildError> {
    let check = ConditionCheck::builder()
        .table_name(tables.heads())
        .set_key(Some(primary_key(key)))
        .set_expression_attribute_names(Some(names(["sequence"])))
        .return_values_on_condition_check_failure(ALL_OLD);
    let check = if sequence == 0 {
        check.condition_expression("attribute_not_exists(#sequence)")
    } else {
        let values = values([(":sequence", number(sequence))]);
        check.condition_expression("#sequence = :sequence").set_expression_attribute_values(Some(values))
    };
    Ok(TransactWriteItem::builder().condition_check(check.build()?).build())
}
