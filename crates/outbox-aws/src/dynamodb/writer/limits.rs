//! What DynamoDB takes at once, checked before anything is sent.
//!
//! Rule: `TransactWriteItems` of the API reference: at most 100 actions and 4 MB, no two on one item; "Quotas": 400 KB an
//! item.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::CommitError;
use crate::dynamodb::item::{self, Item, MAX_ITEM_BYTES};

const MAX_ACTIONS: usize = 100;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Refuses what DynamoDB would refuse. `names` says what the actions behind the caller's are for.
pub(in crate::dynamodb) fn check(actions: &[TransactWriteItem], names: &[String]) -> Result<(), CommitError> {
    if actions.len() > MAX_ACTIONS {
        return Err(CommitError::TooManyActions { actions: actions.len(), own: names.len() });
    }
    let own_from = actions.len() - names.len();
    let mut bytes = 0;
    for (position, action) in actions.iter().enumerate() {
        let measured = Measured::of(action);
        if let Some(put) = measured.item
            && put > MAX_ITEM_BYTES
        {
            let caller = || format!("action {position}, the item for table `{}`,", measured.table);
            let what = position.checked_sub(own_from).and_then(|own| names.get(own)).cloned().unwrap_or_else(caller);
            return Err(CommitError::ItemTooLarge { what, bytes: put, limit: MAX_ITEM_BYTES });
        }
        bytes += measured.bytes;
    }
    if bytes > MAX_BYTES {
        return Err(CommitError::TooLargeTogether { bytes, limit: MAX_BYTES });
    }
    two_on_one_item(actions)
}

/// What an action counts.
struct Measured<'a> {
    table: &'a str,
    /// The size of the item that it puts.
    item: Option<usize>,
    bytes: usize,
}

impl<'a> Measured<'a> {
    fn of(action: &'a TransactWriteItem) -> Self {
        let values = |values: Option<&Item>| values.map_or(0, |values| values.values().map(item::value_size).sum());
        if let Some(put) = action.put() {
            let size = item::size(put.item());
            let bytes = size + values(put.expression_attribute_values());
            return Self { table: put.table_name(), item: Some(size), bytes };
        }
        let (table, key, given) = match (action.update(), action.delete(), action.condition_check()) {
            (Some(update), _, _) => (update.table_name(), update.key(), update.expression_attribute_values()),
            (_, Some(delete), _) => (delete.table_name(), delete.key(), delete.expression_attribute_values()),
            (_, _, Some(check)) => (check.table_name(), check.key(), check.expression_attribute_values()),
            (None, None, None) => return Self { table: "", item: None, bytes: 0 },
        };
        Self { table, item: None, bytes: item::size(key) + values(given) }
    }
}

/// A primary key in an order of its own, to be compared.
type Identity = Vec<(String, String)>;

/// Finds two actions on one item. The primary key of a put item can only be told where another action on its table names
/// the key's attributes; what is not found here DynamoDB refuses itself.
fn two_on_one_item(actions: &[TransactWriteItem]) -> Result<(), CommitError> {
    let mut key_names = HashMap::<&str, BTreeSet<&str>>::new();
    for (table, key) in actions.iter().filter_map(named) {
        key_names.entry(table).or_insert_with(|| key.keys().map(String::as_str).collect());
    }
    let mut seen = HashMap::<(&str, Identity), usize>::new();
    for (second, action) in actions.iter().enumerate() {
        let identified = match (named(action), action.put()) {
            (Some((table, key)), _) => Some((table, identity(key.iter().map(|(name, value)| (name.as_str(), value))))),
            (None, Some(put)) => key_names.get(put.table_name()).map(|names| {
                let key = names.iter().filter_map(|name| Some((*name, put.item().get(*name)?)));
                (put.table_name(), identity(key))
            }),
            (None, None) => None,
        };
        let Some(identified) = identified else { continue };
        let table = identified.0.to_owned();
        if let Some(first) = seen.insert(identified, second) {
            return Err(CommitError::TwoActionsOnOneItem { first, second, table });
        }
    }
    Ok(())
}

/// Table and primary key of an action that names the key.
fn named(action: &TransactWriteItem) -> Option<(&str, &Item)> {
    let update = action.update().map(|update| (update.table_name(), update.key()));
    let delete = action.delete().map(|delete| (delete.table_name(), delete.key()));
    update.or(delete).or_else(|| action.condition_check().map(|check| (check.table_name(), check.key())))
}

fn identity<'a>(key: impl Iterator<Item = (&'a str, &'a AttributeValue)>) -> Identity {
    let mut identity: Vec<_> = key.map(|(name, value)| (name.to_owned(), format!("{value:?}"))).collect();
    identity.sort_unstable();
    identity
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::{Delete, Put};

    use super::*;
    use crate::dynamodb::item::{bytes, text};

    fn put(table: &str, item: Item) -> TransactWriteItem {
        let put = Put::builder().table_name(table).set_item(Some(item)).build().unwrap();
        TransactWriteItem::builder().put(put).build()
    }

    fn delete(table: &str, id: &str) -> TransactWriteItem {
        let key = item::item([("id", text(id))]);
        let delete = Delete::builder().table_name(table).set_key(Some(key)).build().unwrap();
        TransactWriteItem::builder().delete(delete).build()
    }

    fn sized(id: &str, size: usize) -> Item {
        item::item([("id", text(id)), ("data", bytes(vec![0; size]))])
    }

    #[test]
    fn a_hundred_actions_are_taken_and_one_more_is_refused() {
        let actions: Vec<_> = (0..101).map(|number| delete("t", &number.to_string())).collect();
        assert!(check(&actions[..100], &[]).is_ok());
        let error = check(&actions, &["the entry of `k`".to_owned()]).unwrap_err();
        assert!(matches!(error, CommitError::TooManyActions { actions: 101, own: 1 }), "{error}");
    }

    #[test]
    fn an_item_that_is_too_large_is_named() {
        let largest = MAX_ITEM_BYTES - "id".len() - 1 - "data".len();
        assert!(check(&[put("t", sized("a", largest))], &[]).is_ok());
        let actions = [put("t", sized("a", largest)), put("entries", sized("b", largest + 1))];
        let error = check(&actions, &["the entry of `cart/42`".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("the entry of `cart/42` has 409601 bytes"), "{error}");
        let error = check(&actions, &[]).unwrap_err().to_string();
        assert!(error.starts_with("action 1, the item for table `entries`,"), "{error}");
    }

    #[test]
    fn four_megabytes_together_are_the_most() {
        let items = |count: usize| (0..count).map(|number| put("t", sized(&format!("{number:03}"), 400_000)));
        assert!(check(&items(10).collect::<Vec<_>>(), &[]).is_ok());
        let error = check(&items(11).collect::<Vec<_>>(), &[]).unwrap_err();
        assert!(matches!(error, CommitError::TooLargeTogether { .. }), "{error}");
    }

    #[test]
    fn two_actions_on_one_item_are_named() {
        let actions = [put("t", sized("a", 1)), put("other", sized("b", 1)), delete("t", "b"), delete("t", "a")];
        assert!(check(&actions[..3], &[]).is_ok());
        let error = check(&actions, &[]).unwrap_err();
        assert!(matches!(error, CommitError::TwoActionsOnOneItem { first: 0, second: 3, .. }), "{error}");
    }
}
