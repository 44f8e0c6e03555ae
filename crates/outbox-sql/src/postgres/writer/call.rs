//! One call of `outbox.write_entries`: its parameters, and what its answer means. Pure, so that every driver shares it.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use outbox::{
    CommitId, Entropy, Key, Place, Receipt, WriteError,
    writer::{EntryPlan, counted_bytes},
};

use super::refusal;
use crate::row::{self, Data};

/// The parameters, an element an entry; `guarded` and `expected` an element a key.
#[derive(Default)]
pub(super) struct Call<'a> {
    plans: &'a [EntryPlan],
    commit: Option<CommitId>,
    pub(super) commit_text: String,
    pub(super) recorded: i64,
    pub(super) sizes: Vec<i64>,
    pub(super) keys: Vec<Option<&'a str>>,
    pub(super) counts: Vec<i32>,
    pub(super) types: Vec<&'a str>,
    pub(super) event_ids: Vec<Option<Cow<'a, str>>>,
    pub(super) content_types: Vec<Option<&'a str>>,
    pub(super) data: Vec<Option<&'a str>>,
    pub(super) data_bytes: Vec<Option<&'a [u8]>>,
    pub(super) attributes: Vec<Option<String>>,
    pub(super) more: Vec<Option<String>>,
    pub(super) guarded: Vec<&'a str>,
    pub(super) expected: Vec<i64>,
}

/// A row of the answer.
pub(super) struct Placed {
    pub(super) refusal: Option<String>,
    pub(super) number: i32,
    pub(super) incarnation: Option<i32>,
    pub(super) sequence: Option<i64>,
}

impl<'a> Call<'a> {
    /// Encodes `plans`.
    ///
    /// # Errors
    /// [`WriteError::Attribute`], [`WriteError::EntryTooLarge`].
    pub(super) fn new(
        plans: &'a [EntryPlan],
        expected: &'a BTreeMap<Key, u64>,
        commit: CommitId,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, WriteError> {
        let mut call = Self {
            plans,
            commit: Some(commit),
            commit_text: commit.to_string(),
            recorded: now.as_microsecond(),
            guarded: expected.keys().map(Key::as_str).collect(),
            // No key gets so far: such a version is as good as any that is not current.
            expected: expected.values().map(|sequence| i64::try_from(*sequence).unwrap_or(i64::MAX)).collect(),
            ..Self::default()
        };
        for plan in plans {
            let row = row::encode(plan, now, entropy)?;
            let largest = plan.events.iter().map(|(_, event)| counted_bytes(event)).max().unwrap_or(0);
            let (data, bytes) = match row.data {
                Data::None => (None, None),
                Data::Text(text) => (Some(text), None),
                Data::Blob(bytes) => (None, Some(bytes)),
            };
            call.sizes.push(i64::try_from(largest).unwrap_or(i64::MAX));
            call.keys.push(row.key);
            call.counts.push(i32::try_from(row.count).unwrap_or(i32::MAX));
            call.types.push(row.kind);
            call.event_ids.push(row.event_id);
            call.content_types.push(row.content_type);
            call.data.push(data);
            call.data_bytes.push(bytes);
            call.attributes.push(row.attributes);
            call.more.push(row.more);
        }
        Ok(call)
    }

    /// Whether there is nothing to write and nothing to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.plans.is_empty() && self.guarded.is_empty()
    }

    /// What the answer says.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] or [`WriteError::TooLarge`] if it is a refusal.
    pub(super) fn receipts(&self, rows: &[Placed]) -> Result<Vec<Receipt>, WriteError> {
        if let Some((row, refusal)) = rows.iter().find_map(|row| Some((row, row.refusal.as_deref()?))) {
            return Err(self.refused(row, refusal));
        }
        if rows.len() != self.plans.len() {
            return Err(refusal::no_receipt());
        }
        self.plans.iter().zip(rows).map(|(plan, row)| self.receipt(plan, row)).collect()
    }

    fn receipt(&self, plan: &EntryPlan, row: &Placed) -> Result<Receipt, WriteError> {
        let first = match (&plan.key, row.incarnation, row.sequence) {
            (None, _, _) => None,
            (Some(_), Some(incarnation), Some(sequence)) => {
                Some(Place::new(incarnation.unsigned_abs(), sequence.unsigned_abs(), 0))
            }
            (Some(_), _, _) => return Err(refusal::no_receipt()),
        };
        let count = u32::try_from(plan.events.len()).unwrap_or(u32::MAX);
        let commit = self.commit.ok_or_else(refusal::no_receipt)?;
        Ok(Receipt { key: plan.key.clone(), commit, first, count })
    }

    fn refused(&self, row: &Placed, refusal: &str) -> WriteError {
        let number = usize::try_from(row.number).unwrap_or(0).saturating_sub(1);
        let found = row.sequence.unwrap_or(0).unsigned_abs();
        let conflict = || {
            let (key, expected) = (self.guarded.get(number)?, self.expected.get(number)?);
            let key = Key::new(key).ok()?;
            Some(WriteError::Conflict { key, expected: expected.unsigned_abs(), actual: found })
        };
        let too_large = || {
            let sizes = self.plans.get(number)?.events.iter().map(|(index, event)| (*index, counted_bytes(event)));
            let (index, bytes) = sizes.max_by_key(|(_, bytes)| *bytes)?;
            Some(WriteError::TooLarge { index, bytes, limit: found })
        };
        let refused = match refusal {
            "conflict" => conflict(),
            "too large" => too_large(),
            _ => None,
        };
        refused.unwrap_or_else(refusal::no_receipt)
    }
}
