//! Kept events that are done with. The transaction that is done with them notes so; they are deleted behind it, or by a
//! later try where that fails: a payload that was settled or erased does not stay.

use aws_sdk_dynamodb::types::TransactWriteItem;
use outbox::StoreError;

use super::{
    batch::{self, Index},
    books::{Books, damaged},
    rows::{If, Row, padded},
};
use crate::dynamodb::item::{Item, item, number, number_of, text_of};

const SWEEPING: &str = "deleting kept events that are done with";

/// Of what was ever kept in a lane, all that was kept together up to a number.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    lane: String,
    last: u64,
}

impl Passed {
    pub(super) fn new(lane: &Row, last: u64) -> Self {
        Self { lane: lane.name.clone(), last }
    }

    fn read(found: &Item) -> Result<Self, StoreError> {
        let lane = text_of(found, "name").unwrap_or_default().to_owned();
        let last = number_of(found, "last").ok_or_else(|| damaged("passed", &lane, "last"))?;
        Ok(Self { lane, last })
    }

    fn row(&self) -> Row {
        Row::new("passed", &self.lane)
    }
}

impl Books {
    /// The action that notes it, in the place of what was passed of the lane before: numbers rise.
    pub(super) fn notes_passed(&self, passed: &Passed) -> Result<TransactWriteItem, StoreError> {
        self.actions().put(&passed.row(), item([("last", number(passed.last))]), If::Anything)
    }

    /// Deletes it now. If that fails, the note says so to a later try.
    pub(super) async fn sweep_passed(&self, passed: &Passed) {
        if let Err(error) = self.delete_passed(passed).await {
            tracing::warn!(%error, "kept events that are done with are deleted later");
        }
    }

    /// Deletes all that is noted; what cannot be deleted keeps none of the others.
    pub(super) async fn sweep_all_passed(&self) -> Result<(), StoreError> {
        let mut swept = Ok(());
        for found in self.all("passed", "", SWEEPING).await? {
            let deleted = match Passed::read(&found) {
                Ok(passed) => self.delete_passed(&passed).await,
                Err(damaged) => Err(damaged),
            };
            swept = swept.and(deleted);
        }
        swept
    }

    async fn delete_passed(&self, passed: &Passed) -> Result<(), StoreError> {
        let kind = batch::kind(&passed.lane);
        for found in self.query(&kind, &padded(0), &padded(passed.last), SWEEPING, |_| false).await? {
            // The index last: it leads to the others.
            for row in Index::read(&found)?.rows() {
                self.delete(&row, If::Anything, SWEEPING).await?;
            }
        }
        // Unless more was passed since: whoever noted that deletes it.
        self.delete(&passed.row(), If::Has(vec![("last", number(passed.last))]), SWEEPING).await
    }
}
