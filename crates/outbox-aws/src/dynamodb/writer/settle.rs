//! What became of a commit whose answer was lost.

use outbox::{CommitId, Receipt, StoreError, writer::Settled};

use super::heads;
use crate::dynamodb::{
    calls::{Calls, attempted},
    entry::EntryIdentity,
    item::bytes_of,
    schema::Tables,
};

const ASKING: &str = "asking what became of a commit";

pub(super) async fn settle(calls: &Calls, tables: &Tables, receipt: &Receipt) -> Result<Settled, StoreError> {
    let (Some(key), Some(first)) = (&receipt.key, receipt.first) else {
        let keyless = EntryIdentity::Keyless { commit: receipt.commit, number: 0 };
        // Committed together, they expire together. One that is not there may have.
        let found = commit_of(calls, tables, &keyless).await?;
        return Ok(if found == Some(receipt.commit) { Settled::Committed } else { Settled::Unknown });
    };
    let identity = EntryIdentity::Placed { key: key.clone(), first, after: first };
    let mut found = commit_of(calls, tables, &identity).await?;
    if found.is_none() {
        // The request may still be on its way, and come after any look at what is there.
        if heads::fence(calls, tables, key, first.sequence).await? {
            return Ok(Settled::NotCommitted);
        }
        found = commit_of(calls, tables, &identity).await?;
    }
    Ok(match found {
        Some(commit) if commit == receipt.commit => Settled::Committed,
        Some(_) => Settled::NotCommitted,
        None => Settled::Unknown,
    })
}

/// Whose commit the entry is; zeros if it does not say.
pub(super) async fn commit_of(
    calls: &Calls,
    tables: &Tables,
    identity: &EntryIdentity,
) -> Result<Option<CommitId>, StoreError> {
    let found = calls.get(tables.entries(), identity.primary_key()).await.map_err(attempted(ASKING))?;
    Ok(found.map(|item| CommitId(bytes_of(&item, "commit_id").and_then(|id| id.try_into().ok()).unwrap_or_default())))
}
