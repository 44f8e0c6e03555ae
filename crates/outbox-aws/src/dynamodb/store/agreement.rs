//! Whether the table still holds what was read.
//!
//! A restored table has the same keys and numbers, and soon other entries under them: only commit ids tell. An entry whose
//! time had come may have been deleted, and says nothing; one that should be there still, and is not, or is another commit's,
//! was lost. Of a table that others lay out nothing is, for they may delete its items: one that was restored has a new stream,
//! and is read again.

use outbox::{
    StoreError,
    store::{Agreement, Witness},
};

use super::{
    Inner,
    entries::{Behind, Found},
};
use crate::dynamodb::position::EntryName;

const COMPARING: &str = "comparing the table with what was read before";
/// As many witnesses are looked for; all of one's routes' latest are among the first of them.
const WITNESSES: usize = 4_096;

/// What became of a witness's entry.
enum Fate {
    There(Found),
    Expired,
    Lost,
}

impl Inner {
    /// Looks for all, not for the latest alone: a table may have been put together again from an export that lacks some. The
    /// last agreement is the latest before the first that is lost.
    pub(super) async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        // A position without a name is behind no entry of the table.
        let named = witnesses.iter().filter_map(|witness| Some((EntryName::in_position(&witness.position)?, witness)));
        let named: Vec<_> = named.take(WITNESSES).collect();
        let wanted: Vec<_> = named.iter().map(|(name, _)| name.clone()).collect();
        let mut found = self.found(&wanted, COMPARING).await?;
        let now = self.now();
        let fates: Vec<_> = named
            .iter()
            .map(|(name, witness)| match found.remove(&(name.key.clone(), name.sequence.clone())) {
                Some(found) if found.commit == Some(witness.commit.0) => Fate::There(found),
                None if name.may_have_expired(now) || self.tables.mapping().is_some() => Fate::Expired,
                Some(_) | None => Fate::Lost,
            })
            .collect();
        let Some(first) = fates.iter().rposition(|fate| matches!(fate, Fate::Lost)) else {
            return Ok(Agreement::Whole);
        };
        let agreed = named[first..].iter().zip(&fates[first..]).find_map(|((name, witness), fate)| match fate {
            Fate::There(found) => Some((witness.position.clone(), Behind::of(name, found))),
            Fate::Expired | Fate::Lost => None,
        });
        let behind = self.count_behind(agreed.as_ref().map(|(_, behind)| behind)).await?;
        let agreed = agreed.map(|(position, _)| position);
        Ok(Agreement::Lost { agreed, lost: named[first].1.position.clone(), behind })
    }

    pub(super) async fn count_behind(&self, behind: Option<&Behind>) -> Result<u64, StoreError> {
        let (mut count, mut entries) = (0, self.entries_behind(behind, COMPARING));
        loop {
            let of_key = entries.next_key().await?.len() as u64;
            if of_key == 0 {
                return Ok(count);
            }
            count += of_key;
        }
    }
}
