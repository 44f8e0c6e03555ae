//! Which bookkeeping this is.

use outbox::{CommitId, ErrorKind, StoreError};

use super::{
    books::{Books, Sent, damaged},
    rows::{Change, If, Row},
};
use crate::dynamodb::{
    failure::Failure,
    item::{item, number, number_of, text, text_of},
};

/// The layout that this version makes and works with.
const LAYOUT: u32 = 1;
const READING: &str = "reading the bookkeeping's id";

/// A bookkeeping's id, and how often it was given another.
pub(super) struct BooksIdentity {
    pub(super) id: String,
    pub(super) version: u64,
}

fn row() -> Row {
    Row::new("meta", "identity")
}

impl Books {
    pub(super) async fn identity(&self) -> Result<BooksIdentity, StoreError> {
        let found = self.calls.get(&self.table, row().key()).await.map_err(|failure| self.unread(failure))?;
        let Some(found) = found else {
            let message = format!(
                "there is no bookkeeping in table `{}`: check the name, or make one with `outbox init`; if the one that was there is lost, run `outbox adopt`",
                self.table
            );
            return Err(StoreError::new(ErrorKind::Incompatible, message));
        };
        match number_of::<u32>(&found, "layout") {
            Some(LAYOUT) => {}
            Some(other) => {
                let message = format!(
                    "the bookkeeping in table `{}` has layout {other}; this version of Outbox knows {LAYOUT}: use the one that made it, or a newer one",
                    self.table
                );
                return Err(StoreError::new(ErrorKind::Incompatible, message));
            }
            None => return Err(damaged("meta", "identity", "layout")),
        }
        let id = text_of(&found, "id").ok_or_else(|| damaged("meta", "identity", "id"))?.to_owned();
        let version = number_of(&found, "version").ok_or_else(|| damaged("meta", "identity", "version"))?;
        Ok(BooksIdentity { id, version })
    }

    /// Whether there is one, whatever its layout.
    pub(super) async fn is_there(&self) -> Result<bool, StoreError> {
        match self.calls.get(&self.table, row().key()).await {
            Ok(found) => Ok(found.is_some()),
            Err(failure) if failure.code.as_deref() == Some("ResourceNotFoundException") => Ok(false),
            Err(failure) => Err(self.unread(failure)),
        }
    }

    /// A row that cannot be asked for by its key is of a table with another one.
    fn unread(&self, failure: Failure) -> StoreError {
        if failure.code.as_deref() != Some("ValidationException") {
            return failure.of_reading().store_error(READING);
        }
        let message = format!(
            "table `{}` is no bookkeeping of Outbox, for it has another key: name a table of its own by `bookkeeping` in `[relay]`",
            self.table
        );
        StoreError::new(ErrorKind::Incompatible, message)
    }

    /// Gives the bookkeeping its id, if it has none.
    pub(super) async fn give_identity(&self) -> Result<(), StoreError> {
        let id = CommitId(self.calls.entropy.sixteen()).to_string();
        let attributes = item([("layout", number(LAYOUT)), ("id", text(id)), ("version", number(1))]);
        let put = self.actions().put(&row(), attributes, If::Absent)?;
        self.write(None, None, vec![put], "giving the bookkeeping its id").await.map(drop)
    }

    /// Claims noted before are of another version of the id, and no longer this bookkeeping's.
    pub(super) async fn renew_id(&self, id: &str) -> Result<(), StoreError> {
        const RENEWING: &str = "giving the bookkeeping another id";
        let change = Change { set: vec![("id", text(id))], add: vec![("version", number(1))] };
        let renewed = self.actions().update(&row(), change, If::Has(vec![("layout", number(LAYOUT))]))?;
        match self.write(None, None, vec![renewed, self.changed()?], RENEWING).await? {
            Sent::Done => Ok(()),
            Sent::Changed => self.identity().await.map(drop),
        }
    }

    pub(super) async fn operator_changes(&self) -> Result<u64, StoreError> {
        let found = self.get(&Row::new("meta", "changes"), "looking for an operator's changes").await?;
        Ok(found.and_then(|found| number_of(&found, "changes")).unwrap_or(0))
    }
}
