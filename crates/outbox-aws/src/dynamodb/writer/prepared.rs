//! A transaction whose entries are numbered, ready to be sent; numbered anew if another writer was first.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{Put, TransactWriteItem},
};
use jiff::{SignedDuration, Timestamp};
use outbox::{
    CommitId, ErrorKind, Key, Place, Receipt, StoreError, WriteError,
    writer::{EntryPlan, counted_bytes, plan},
};

use super::{
    CommitError, LONGEST_PATIENCE, OwnHead, Transaction, Writer,
    error::unread,
    heads::{self, Head},
    limits,
    outcome::{self, Next},
};
use crate::dynamodb::{
    calls::{ALL_OLD, names},
    entry::{self, EntryIdentity, Frame},
    schema::Identity,
};

/// A transaction whose entries have their numbers, and that passed every check. Nothing was sent yet; dropped, it leaves
/// nothing.
pub struct Prepared {
    pub(super) writer: Writer,
    caller: Vec<TransactWriteItem>,
    plans: Vec<EntryPlan>,
    pub(super) expected: BTreeMap<Key, u64>,
    pub(super) own_heads: BTreeMap<Key, OwnHead>,
    pub(super) commit: CommitId,
    /// The caller gave the commit id: an earlier call may have committed under it.
    pub(super) is_repeatable: bool,
    identity: Identity,
    pub(super) numbered: Numbered,
}

/// What depends on the heads.
#[derive(Default)]
pub(super) struct Numbered {
    /// Each kept head as it was seen.
    pub(super) seen: BTreeMap<Key, Head>,
    /// One for each plan.
    pub(super) entries: Vec<EntryIdentity>,
    actions: Vec<TransactWriteItem>,
    /// What each action is.
    pub(super) roles: Vec<Role>,
    pub(super) receipts: Vec<Receipt>,
    /// An earlier call committed all of this already.
    committed: bool,
}

/// What an action of the transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The caller's.
    Caller,
    /// The caller's, and the head of this key.
    OwnHead(Key),
    /// The entry with this number.
    Entry(usize),
    /// The head that is kept of this key, moved or checked.
    Head(Key),
}

impl Prepared {
    pub(super) async fn new(transaction: Transaction) -> Result<Self, CommitError> {
        let Transaction { writer, actions, events, expected, own_heads, commit } = transaction;
        for (key, head) in &own_heads {
            if head.action >= actions.len() {
                let (key, action, actions) = (key.to_string(), head.action, actions.len());
                return Err(CommitError::NoSuchAction { key, action, actions });
            }
        }
        let plans = plan(events)?;
        check_patience(writer.calls.patience)?;
        let latest = own_heads.values().map(|own| own.after.incarnation).max().unwrap_or(0);
        let identity = writer.heads.identity(&writer.calls, &writer.tables, latest).await.map_err(unread)?;
        check_sizes(&plans, identity.max_event_bytes)?;
        let is_repeatable = commit.is_some();
        let commit = commit.unwrap_or_else(|| CommitId(writer.calls.entropy.sixteen()));
        let numbered = Numbered::default();
        let mut prepared =
            Self { writer, caller: actions, plans, expected, own_heads, commit, is_repeatable, identity, numbered };
        prepared.number(BTreeMap::new()).await?;
        Ok(prepared)
    }

    /// What it will have written: keys in sorted order, then the events without a key in the caller's order. Their numbers
    /// may be higher in the end, if another writer comes first and no version is expected.
    pub fn receipts(&self) -> &[Receipt] {
        &self.numbered.receipts
    }

    /// Whether the number of `key`'s entry is the same however often the call is made.
    pub(super) fn is_fixed(&self, key: &Key) -> bool {
        self.expected.contains_key(key) || self.own_heads.contains_key(key)
    }

    /// Sends it, as often as it takes, under one token for each numbering.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub async fn commit(mut self) -> Result<Vec<Receipt>, CommitError> {
        self.writer.calls = self.writer.calls.together();
        if !self.numbered.committed {
            // However long it was held: entries are recorded when they are sent.
            self.make_actions()?;
        }
        self.carry_out().await
    }

    pub(super) async fn carry_out(mut self) -> Result<Vec<Receipt>, CommitError> {
        if self.numbered.committed {
            return Ok(self.numbered.receipts);
        }
        let mut pauses = self.writer.calls.pauses();
        loop {
            let token = self.writer.calls.token();
            let sent = self.writer.calls.transact(self.numbered.actions.clone(), &token).await;
            match outcome::judge(&self, sent).await? {
                Next::Committed => {
                    self.note_heads();
                    return Ok(self.numbered.receipts);
                }
                Next::NumberAnew(heads) => {
                    for key in self.numbered.seen.keys() {
                        self.writer.heads.forget(key);
                    }
                    if !pauses.wait(&*self.writer.calls.clock).await {
                        let message = "other writers of its keys were faster each time".to_owned();
                        return Err(WriteError::RetryTransaction { message }.into());
                    }
                    self.number(heads).await?;
                }
            }
        }
    }

    fn note_heads(&self) {
        for (identity, plan) in self.numbered.entries.iter().zip(&self.plans) {
            let EntryIdentity::Placed { key, first, .. } = identity else { continue };
            if let Some(Head { fence, .. }) = self.numbered.seen.get(key).copied() {
                let last = Place::new(first.incarnation, first.sequence, last_index(plan));
                self.writer.heads.note(key, Head { last, fence });
            }
        }
    }

    /// Gives each entry its number behind the heads, those in `known` without reading them again, and makes the actions.
    async fn number(&mut self, known: BTreeMap<Key, Head>) -> Result<(), CommitError> {
        let seen = self.see_heads(known).await?;
        self.numbered = Numbered::default();
        let latest = seen.values().map(|head| head.last.incarnation).max().unwrap_or(0);
        if latest > self.identity.incarnation {
            // An adoption raised it since, and entries of the former one would stand behind those of this one.
            let Writer { calls, tables, heads, .. } = &self.writer;
            self.identity = heads.identity(calls, tables, latest).await.map_err(unread)?;
        }
        for (key, expected) in &self.expected {
            let actual = seen.get(key).map_or(0, |head| head.sequence());
            if actual != *expected && !self.own_heads.contains_key(key) {
                return self.settle_conflict(key.clone(), *expected, seen).await;
            }
        }
        self.number_behind(seen)
    }

    /// Another writer is at another version than the one expected; or an earlier call of this very commit is.
    async fn settle_conflict(
        &mut self,
        key: Key,
        expected: u64,
        mut seen: BTreeMap<Key, Head>,
    ) -> Result<(), CommitError> {
        let actual = seen.get(&key).map_or(0, |head| head.sequence());
        let are_fixed = self.plans.iter().filter_map(|plan| plan.key.as_ref()).all(|key| self.is_fixed(key));
        if self.is_repeatable && are_fixed && actual > expected {
            for (key, expected) in &self.expected {
                // What stood before does not matter: nothing is sent.
                let last = Place::new(self.identity.incarnation, *expected, 0);
                seen.insert(key.clone(), Head { last, ..Head::NONE });
            }
            self.number_behind(seen)?;
            if outcome::is_committed(self).await? {
                self.numbered.committed = true;
                return Ok(());
            }
        }
        Err(WriteError::Conflict { key, expected, actual }.into())
    }

    fn number_behind(&mut self, seen: BTreeMap<Key, Head>) -> Result<(), CommitError> {
        self.numbered = Numbered { seen, ..Numbered::default() };
        self.numbered.entries = self.identities();
        self.numbered.receipts = self
            .plans
            .iter()
            .zip(&self.numbered.entries)
            .map(|(plan, entry)| {
                let first = match entry {
                    EntryIdentity::Placed { first, .. } => Some(*first),
                    EntryIdentity::Keyless { .. } => None,
                };
                let count = u32::try_from(plan.events.len()).unwrap_or(u32::MAX);
                Receipt { key: plan.key.clone(), commit: self.commit, first, count }
            })
            .collect();
        self.make_actions()
    }

    /// Heads that are kept of the keys written or expected: from memory where that may do, else as they are now.
    async fn see_heads(&self, mut known: BTreeMap<Key, Head>) -> Result<BTreeMap<Key, Head>, CommitError> {
        let keys: BTreeSet<_> =
            self.plans.iter().filter_map(|plan| plan.key.as_ref()).chain(self.expected.keys()).collect();
        let Writer { calls, tables, heads, .. } = &self.writer;
        for key in keys.into_iter().filter(|key| !self.own_heads.contains_key(*key)) {
            if known.contains_key(key) {
                continue;
            }
            let remembered = heads
                .known(key)
                .filter(|head| self.expected.get(key).is_none_or(|expected| *expected == head.sequence()));
            let head = match remembered {
                Some(head) => head,
                None => heads::read(calls, tables, key).await.map_err(unread)?,
            };
            known.insert(key.clone(), head);
        }
        Ok(known)
    }

    fn identities(&self) -> Vec<EntryIdentity> {
        let mut keyless = 0;
        let identity = |plan: &EntryPlan| {
            let Some(key) = &plan.key else {
                keyless += 1;
                return EntryIdentity::Keyless { commit: self.commit, number: keyless - 1 };
            };
            let kept = self.numbered.seen.get(key).copied().unwrap_or(Head::NONE).last;
            let after = self.own_heads.get(key).map_or(kept, |own| own.after);
            let first = Place::new(self.identity.incarnation, after.sequence + 1, 0);
            EntryIdentity::Placed { key: key.clone(), first, after }
        };
        self.plans.iter().map(identity).collect()
    }

    /// The caller's actions, then for each entry its item, and its head's where that is kept, then checks of heads.
    fn make_actions(&mut self) -> Result<(), CommitError> {
        let mut actions = self.caller.clone();
        let mut roles = vec![Role::Caller; actions.len()];
        for (key, head) in &self.own_heads {
            roles[head.action] = Role::OwnHead(key.clone());
        }
        let mut named = Vec::new();
        let Writer { tables, calls, .. } = &self.writer;
        let recorded = calls.clock.wall();
        let expires = self.expires(recorded)?;
        for (number, (plan, identity)) in self.plans.iter().zip(&self.numbered.entries).enumerate() {
            let frame = Frame { identity: identity.clone(), commit: self.commit, recorded, expires };
            let item = entry::encode(plan, &frame, &*calls.entropy)?;
            let put = Put::builder().table_name(tables.entries()).set_item(Some(item));
            let put = put
                .condition_expression("attribute_not_exists(#key)")
                .set_expression_attribute_names(Some(names(["key"])))
                .return_values_on_condition_check_failure(ALL_OLD);
            actions.push(TransactWriteItem::builder().put(put.build().map_err(unbuilt)?).build());
            roles.push(Role::Entry(number));
            named.push(
                plan.key
                    .as_ref()
                    .map_or_else(|| "the event without a key".to_owned(), |key| format!("the entry of `{key}`")),
            );
            if let EntryIdentity::Placed { key, first, .. } = identity
                && let Some(seen) = self.numbered.seen.get(key)
            {
                actions.push(heads::advance(tables, key, *seen, *first, plan.events.len()).map_err(unbuilt)?);
                roles.push(Role::Head(key.clone()));
                named.push(format!("the head of `{key}`"));
            }
        }
        let written: BTreeSet<_> = self.plans.iter().filter_map(|plan| plan.key.as_ref()).collect();
        for (key, sequence) in &self.expected {
            if !written.contains(key) && !self.own_heads.contains_key(key) {
                actions.push(heads::stays(tables, key, *sequence).map_err(unbuilt)?);
                roles.push(Role::Head(key.clone()));
                named.push(format!("the head of `{key}`"));
            }
        }
        limits::check(&actions, &named)?;
        (self.numbered.actions, self.numbered.roles) = (actions, roles);
        Ok(())
    }

    fn expires(&self, recorded: Timestamp) -> Result<Timestamp, CommitError> {
        let retention = SignedDuration::try_from(self.identity.retention).ok();
        retention.and_then(|retention| recorded.checked_add(retention).ok()).ok_or_else(|| {
            unread(StoreError::new(
                ErrorKind::Invalid,
                "`retention_seconds` of the item `store` is longer than there are times: set 30 days, 2592000",
            ))
        })
    }
}

fn last_index(plan: &EntryPlan) -> u32 {
    u32::try_from(plan.events.len()).unwrap_or(u32::MAX).saturating_sub(1)
}

fn check_patience(patience: Duration) -> Result<(), CommitError> {
    if patience <= LONGEST_PATIENCE {
        return Ok(());
    }
    let message = format!(
        "the writer's `patience` is {patience:?}, and a relay that recovers from the table would not look back as far: set it to {LONGEST_PATIENCE:?} at most"
    );
    Err(unread(StoreError::new(ErrorKind::Invalid, message)))
}

fn check_sizes(plans: &[EntryPlan], limit: u64) -> Result<(), WriteError> {
    for (index, event) in plans.iter().flat_map(|plan| &plan.events) {
        let bytes = counted_bytes(event);
        if u64::try_from(bytes).unwrap_or(u64::MAX) > limit {
            return Err(WriteError::TooLarge { index: *index, bytes, limit });
        }
    }
    Ok(())
}

/// The SDK's builders miss nothing that is set here.
fn unbuilt(error: BuildError) -> CommitError {
    unread(StoreError::new(ErrorKind::Invalid, format!("making a transaction: {error}")).because(error))
}
