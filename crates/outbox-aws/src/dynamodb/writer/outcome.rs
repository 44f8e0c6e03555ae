//! What an answer to a transaction means: whose condition failed, and what to do about it.

use std::collections::BTreeMap;

use outbox::{ErrorKind, Key, StoreError, WriteError};

use super::{
    CommitError, Prepared,
    error::unread,
    heads::{self, Head},
    prepared::Role,
    settle::commit_of,
};
use crate::dynamodb::{
    calls::{Failed, NotCommitted, attempted, names, values},
    entry::EntryIdentity,
    failure::Failure,
    item::{number_of, text},
};

/// What to do next.
pub(super) enum Next {
    /// It is done.
    Committed,
    /// Another writer took a number, and nobody expected that it would not: number it anew behind these heads, and those
    /// that have to be read.
    NumberAnew(BTreeMap<Key, Head>),
}

pub(super) async fn judge(prepared: &Prepared, sent: Result<(), NotCommitted>) -> Result<Next, CommitError> {
    match sent {
        Ok(()) => Ok(Next::Committed),
        Err(NotCommitted::Conditions(failed)) => {
            // A commit whose answer was lost makes its own conditions fail, past the ten minutes of its token too.
            let may_be_ours = failed.after_lost_answer || prepared.is_repeatable;
            if may_be_ours && is_committed(prepared).await? {
                return Ok(Next::Committed);
            }
            whose(prepared, &failed).await
        }
        Err(NotCommitted::Refused { failure, .. }) if failure.uncertain => {
            Err(unsettled(prepared, failure.to_string()))
        }
        Err(NotCommitted::Refused { action, failure }) => {
            Err(CommitError::Refused { action, message: failure.to_string() })
        }
        Err(NotCommitted::Failed(failure)) => Err(not_committed(prepared, failure)),
    }
}

/// Whether the entries are there under this commit's id. One tells for all: one whose number would be the same in an earlier
/// call of the same commit, if there is any.
pub(super) async fn is_committed(prepared: &Prepared) -> Result<bool, CommitError> {
    let is_fixed = |entry: &&EntryIdentity| match entry {
        EntryIdentity::Placed { key, .. } => prepared.is_fixed(key),
        EntryIdentity::Keyless { .. } => true,
    };
    let entries = &prepared.numbered.entries;
    let Some(first) = entries.iter().find(is_fixed).or(entries.first()) else { return Ok(false) };
    let (calls, tables) = (&prepared.writer.calls, &prepared.writer.tables);
    match commit_of(calls, tables, first).await {
        Ok(found) => Ok(found == Some(prepared.commit)),
        Err(error) => Err(unsettled(prepared, error.to_string())),
    }
}

/// Whose condition failed: one of the caller's is for the caller to judge, whatever else failed. But it may hold again when an
/// attempt arrives whose answer was lost; what was numbered before cannot fail and then hold.
async fn whose(prepared: &Prepared, failed: &Failed) -> Result<Next, CommitError> {
    let roles = prepared.numbered.roles.iter().enumerate().filter(|(position, _)| failed.has(*position));
    let roles: Vec<_> = roles.collect();
    if let Some((action, _)) = roles.iter().find(|(_, role)| **role == Role::Caller) {
        if failed.after_lost_answer && roles.iter().all(|(_, role)| **role == Role::Caller) {
            let message =
                format!("the condition of action {action} failed, but the answer to an attempt before was lost");
            return Err(unsettled(prepared, message));
        }
        let item = failed.items.get(action).cloned().flatten();
        return Err(CommitError::Condition { action: *action, item });
    }
    let mut moved = BTreeMap::new();
    for (position, role) in &roles {
        match role {
            Role::Caller | Role::Entry(_) => {}
            Role::OwnHead(key) => return Err(own_head_conflict(prepared, key).await?),
            Role::Head(key) => {
                let head = match failed.items.get(position).and_then(Option::as_ref) {
                    Some(item) => {
                        Head::read(item).ok_or_else(|| unread(heads::unreadable(&prepared.writer.tables, key)))?
                    }
                    None => heads::read(&prepared.writer.calls, &prepared.writer.tables, key).await.map_err(unread)?,
                };
                // At the version expected, and otherwise changed: by an adoption, or a commit that was settled.
                if let Some(expected) = prepared.expected.get(key).filter(|expected| **expected != head.sequence()) {
                    let (expected, actual) = (*expected, head.sequence());
                    return Err(WriteError::Conflict { key: key.clone(), expected, actual }.into());
                }
                moved.insert(key.clone(), head);
            }
        }
    }
    if !moved.is_empty() {
        return Ok(Next::NumberAnew(moved));
    }
    // Only entries are left, and their heads were as seen.
    for (_, role) in &roles {
        if let Role::Entry(number) = role {
            return Err(taken(prepared, *number).await?);
        }
    }
    Err(unread(StoreError::new(ErrorKind::Invalid, "a condition failed that no action has: this is a bug, report it")))
}

/// The entry's item is there already, though its head says otherwise.
async fn taken(prepared: &Prepared, number: usize) -> Result<CommitError, CommitError> {
    match prepared.numbered.entries.get(number) {
        Some(EntryIdentity::Placed { key, .. }) if prepared.own_heads.contains_key(key) => {
            own_head_conflict(prepared, key).await
        }
        Some(EntryIdentity::Placed { key, first, .. }) => {
            let message = format!(
                "`{key}` has an entry {} already, though its head in table `{}` is behind it: either another program writes entries without moving the heads, or one of the two tables was restored without the other; set the head to the key's latest entry",
                first.sequence,
                prepared.writer.tables.heads()
            );
            prepared.writer.heads.forget(key);
            Ok(unread(StoreError::new(ErrorKind::HistoryChanged, message)))
        }
        Some(EntryIdentity::Keyless { .. }) | None => {
            let message = "the commit id was used before, for another transaction: give each transaction its own";
            Ok(unread(StoreError::new(ErrorKind::Invalid, message)))
        }
    }
}

/// Another writer moved the aggregate on that is the head of `key`.
async fn own_head_conflict(prepared: &Prepared, key: &Key) -> Result<CommitError, CommitError> {
    let expected = prepared.own_heads.get(key).map_or(0, |own| own.after.sequence);
    let actual = latest_entry(prepared, key).await.map_err(unread)?.unwrap_or(0);
    Ok(WriteError::Conflict { key: key.clone(), expected, actual }.into())
}

/// The number of the key's latest entry that has not expired.
async fn latest_entry(prepared: &Prepared, key: &Key) -> Result<Option<u64>, StoreError> {
    let calls = &prepared.writer.calls;
    let attempt = || {
        let query = calls.client().query().table_name(prepared.writer.tables.entries());
        let query = query
            .key_condition_expression("#key = :key")
            .set_expression_attribute_names(Some(names(["key", "sequence"])));
        let query = query.set_expression_attribute_values(Some(values([(":key", text(key.as_str()))])));
        query.consistent_read(true).scan_index_forward(false).limit(1).projection_expression("#sequence").send()
    };
    let output = calls
        .call(attempt)
        .await
        .map_err(Failure::of_reading)
        .map_err(attempted("looking for the latest entry of a key"))?;
    Ok(output.items().first().and_then(|item| number_of(item, "sequence")))
}

fn not_committed(prepared: &Prepared, failure: Failure) -> CommitError {
    if failure.uncertain {
        return unsettled(prepared, failure.to_string());
    }
    unread(failure.store_error("committing a transaction"))
}

fn unsettled(prepared: &Prepared, message: String) -> CommitError {
    CommitError::Unsettled { receipts: prepared.numbered.receipts.clone(), message }
}
