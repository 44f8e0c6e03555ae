//! Who the store is, and which bookkeeping reads it: the attribute `claim` of the item `store`, compared and set.

use aws_sdk_dynamodb::types::AttributeValue;
use outbox::{
    ErrorKind, StoreError,
    store::{Claim, StoreIdentity},
};

use super::Inner;
use crate::dynamodb::{
    calls::{attempted, values},
    item::{self, Item, number, number_of, text, text_of},
    schema,
};

/// The claim as it stands in the item.
fn attribute(claim: &Claim) -> AttributeValue {
    AttributeValue::M(item::item([
        ("bookkeeping", text(&claim.bookkeeping)),
        ("epoch", number(claim.epoch)),
        ("nonce", text(&claim.nonce)),
    ]))
}

/// The claim in the item `store`, if there is one.
pub(super) fn in_item(found: &Item) -> Result<Option<Claim>, StoreError> {
    let Some(claim) = found.get("claim") else { return Ok(None) };
    let read = |claim: &Item| {
        Some(Claim {
            bookkeeping: text_of(claim, "bookkeeping")?.to_owned(),
            epoch: number_of(claim, "epoch")?,
            nonce: text_of(claim, "nonce")?.to_owned(),
        })
    };
    let unreadable = || {
        let message = "`claim` of the item `store` cannot be read: remove it, then run `outbox adopt`";
        StoreError::new(ErrorKind::Invalid, message)
    };
    claim.as_m().ok().and_then(read).map(Some).ok_or_else(unreadable)
}

impl Inner {
    pub(super) async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        const READING: &str = "reading whose tables these are";
        let found = self.calls.get(self.tables.heads(), schema::store_key()).await.map_err(attempted(READING))?;
        let identity = schema::identity_in(found.as_ref(), &self.tables)?;
        let claim = found.as_ref().map_or(Ok(None), in_item)?;
        let schema::Identity { store_id: id, incarnation, producer, .. } = identity;
        Ok(StoreIdentity { id, incarnation, producer, claim })
    }

    /// Compares and sets, in one conditional update. It compares with the claim itself, too: the answer to an attempt may
    /// have been lost.
    pub(super) async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        const CLAIMING: &str = "claiming the tables";
        let (own, id) = ((":claim", attribute(claim)), (":id", text(&*self.store_id)));
        let (condition, given) = match seen {
            None => ("#id = :id AND (attribute_not_exists(#claim) OR #claim = :claim)", values([own, id])),
            Some(seen) => {
                let seen = (":seen", attribute(seen));
                ("#id = :id AND (#claim = :seen OR #claim = :claim)", values([own, id, seen]))
            }
        };
        let attempt = || {
            let update = self.update_store("SET #claim = :claim").condition_expression(condition);
            update.set_expression_attribute_values(Some(given.clone())).send()
        };
        match self.calls.call(attempt).await {
            Ok(_) => {
                self.claimed.set(Some(claim.clone()));
                Ok(true)
            }
            Err(failure) if failure.code.as_deref() == Some("ConditionalCheckFailedException") => {
                let found = self.calls.get(self.tables.heads(), schema::store_key()).await;
                self.claimed.check_store(&found.map_err(attempted(CLAIMING))?.unwrap_or_default())?;
                Ok(false)
            }
            Err(failure) => Err(failure.store_error(CLAIMING)),
        }
    }

    pub(super) async fn disown(&self) -> Result<(), StoreError> {
        let attempt = || {
            let update = self.update_store("REMOVE #claim").condition_expression("attribute_exists(#id)");
            update.send()
        };
        self.calls.call(attempt).await.map_err(attempted("giving the tables to another bookkeeping"))?;
        self.claimed.set(None);
        Ok(())
    }

    /// An update of the item `store`. `#id` is its id, `#claim` its claim.
    fn update_store(
        &self,
        expression: &str,
    ) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        let update = self.calls.client().update_item().table_name(self.tables.heads());
        let update = update.set_key(Some(schema::store_key())).update_expression(expression);
        update.expression_attribute_names("#id", "store_id").expression_attribute_names("#claim", "claim")
    }
}
