//! Raising the incarnation, after history went backwards.
//!
//! An entry that was published and then lost left its place with the consumers; the entry that a restored table gets under
//! the same number has to have another place, or inboxes take it for a duplicate and swallow it. So everything written after
//! the raise is of a higher incarnation. What was written between the loss and the raise carries the old one; `restamp` says
//! that all behind the last agreement was, and moves it, with the heads of its keys.
//!
//! The stream does not show a moved entry again: it is read from the table, by the recovery that follows a restored table's
//! new stream.

use aws_sdk_dynamodb::types::{TransactWriteItem, Update};
use outbox::{ErrorKind, Place, Position, StoreError};

use super::{Inner, entries::Behind, routes::unbuilt};
use crate::dynamodb::{
    calls::{NotCommitted, names, values},
    item::{self, Item, number, number_of, text, text_of},
    position::EntryName,
    schema,
};

const RAISING: &str = "raising the incarnation";
/// Entries that one transaction moves.
const AT_ONCE: usize = 90;

impl Inner {
    pub(super) async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        if restamp && self.tables.mapping().is_some() {
            let message =
                format!("{RAISING}: the items of a mapped table have no places that could be moved: keep them");
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let behind = self.behind(agreed).await?;
        if restamp {
            let mut entries = self.entries_behind(behind.as_ref(), RAISING);
            loop {
                let of_key = entries.next_key().await?;
                if of_key.is_empty() {
                    break;
                }
                self.expect_head(&of_key).await?;
            }
        }
        let raised = self.raise().await?;
        if restamp {
            let mut entries = self.entries_behind(behind.as_ref(), RAISING);
            loop {
                let of_key = entries.next_key().await?;
                if of_key.is_empty() {
                    break;
                }
                self.restamp(&of_key, raised).await?;
            }
        }
        Ok(raised)
    }

    /// Behind which entry of the table a position is; none if behind nothing of it, as one whose time had come.
    pub(super) async fn behind(&self, agreed: Option<&Position>) -> Result<Option<Behind>, StoreError> {
        let Some(agreed) = agreed else { return Ok(None) };
        let gone = || {
            let message = format!(
                "{RAISING}: the entry at position `{agreed}` is not in the table: look for the last agreement again"
            );
            StoreError::new(ErrorKind::Invalid, message)
        };
        let name = EntryName::in_position(agreed).ok_or_else(gone)?;
        let found = self.found(std::slice::from_ref(&name), RAISING).await?;
        match found.get(&(name.key.clone(), name.sequence.clone())) {
            Some(found) => Ok(Some(Behind::of(&name, found))),
            None if name.may_have_expired(self.now()) => Ok(None),
            None => Err(gone()),
        }
    }

    /// One higher than it is. A lost answer may raise it by two, which does no harm.
    async fn raise(&self) -> Result<u32, StoreError> {
        let attempt = || {
            let update = self.calls.client().update_item().table_name(self.tables.heads());
            let update = update.set_key(Some(schema::store_key())).update_expression("ADD #incarnation :one");
            let update = update.condition_expression("#store_id = :id");
            let update = update.set_expression_attribute_names(Some(names(["incarnation", "store_id"])));
            let given = values([(":one", number(1)), (":id", text(&*self.store_id))]);
            let update = update.set_expression_attribute_values(Some(given));
            update.return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew).send()
        };
        match self.calls.call(attempt).await {
            Ok(output) => output.attributes.as_ref().and_then(|now| number_of(now, "incarnation")).ok_or_else(|| {
                StoreError::new(ErrorKind::Invalid, format!("{RAISING}: DynamoDB does not say to what it was raised"))
            }),
            Err(failure) => Err(failure.store_error(RAISING)),
        }
    }

    /// The head of a key whose entries are to move has to be one that Outbox keeps: another one is the service's own item,
    /// which says the former place to the next writer.
    async fn expect_head(&self, entries: &[Item]) -> Result<(), StoreError> {
        let Some(key) = key_of(entries) else { return Ok(()) };
        if self
            .calls
            .get(self.tables.heads(), head_key(key))
            .await
            .map_err(|failure| failure.store_error(RAISING))?
            .is_some()
        {
            return Ok(());
        }
        let message = format!(
            "{RAISING}: the head of `{key}` is an item of the service's own, which Outbox cannot move: adopt without moving entries, or set the place in that item yourself"
        );
        Err(StoreError::new(ErrorKind::Invalid, message))
    }

    /// Moves entries of one key, which are in their order, and then its head.
    async fn restamp(&self, entries: &[Item], raised: u32) -> Result<(), StoreError> {
        let Some(key) = key_of(entries) else { return Ok(()) };
        let mut moved = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            // The first one still follows what was not moved.
            let after = text_of(entry, "after").and_then(|after| after.parse::<Place>().ok());
            let after = after.filter(|_| index > 0).map(|after| Place { incarnation: raised, ..after });
            moved.push(self.moves(entry, raised, after)?);
        }
        for some in moved.chunks(AT_ONCE) {
            self.send(some.to_vec()).await?;
        }
        self.send(vec![self.moves_head(key, raised)?]).await
    }

    async fn send(&self, actions: Vec<TransactWriteItem>) -> Result<(), StoreError> {
        let token = self.calls.token();
        match self.calls.transact(actions, &token).await {
            Ok(()) => Ok(()),
            Err(NotCommitted::Conditions(_)) => {
                let message = format!("{RAISING}: an entry was deleted meanwhile: run `outbox adopt` again");
                Err(StoreError::new(ErrorKind::Unavailable, message))
            }
            Err(NotCommitted::Refused { failure, .. } | NotCommitted::Failed(failure)) => {
                Err(failure.store_error(RAISING))
            }
        }
    }

    fn moves(&self, entry: &Item, raised: u32, after: Option<Place>) -> Result<TransactWriteItem, StoreError> {
        let mut given = values([(":raised", number(raised))]);
        let mut expression = "SET #incarnation = :raised".to_owned();
        let mut named = names(["incarnation", "key"]);
        if let Some(after) = after {
            expression.push_str(", #after = :after");
            given.insert(":after".to_owned(), text(after.to_string()));
            named.extend(names(["after"]));
        }
        let key = item::item([
            ("key", text(text_of(entry, "key").unwrap_or_default())),
            ("sequence", number(number_of::<u64>(entry, "sequence").unwrap_or_default())),
        ]);
        let update = Update::builder()
            .table_name(self.tables.entries())
            .set_key(Some(key))
            .update_expression(expression)
            .condition_expression("attribute_exists(#key)")
            .set_expression_attribute_names(Some(named))
            .set_expression_attribute_values(Some(given));
        Ok(TransactWriteItem::builder().update(update.build().map_err(|error| unbuilt(RAISING, &error))?).build())
    }

    fn moves_head(&self, key: &str, raised: u32) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(self.tables.heads())
            .set_key(Some(head_key(key)))
            .update_expression("SET #incarnation = :raised")
            .condition_expression("attribute_exists(#id)")
            .set_expression_attribute_names(Some(names(["incarnation", "id"])))
            .set_expression_attribute_values(Some(values([(":raised", number(raised))])));
        Ok(TransactWriteItem::builder().update(update.build().map_err(|error| unbuilt(RAISING, &error))?).build())
    }
}

/// The key of entries that have one. Those of sequence 0 have no order, and no place to move.
fn key_of(entries: &[Item]) -> Option<&str> {
    let first = entries.first()?;
    let sequence: u64 = number_of(first, "sequence")?;
    if sequence == 0 { None } else { text_of(first, "key") }
}

fn head_key(key: &str) -> Item {
    item::item([("id", text(format!("k:{key}")))])
}
