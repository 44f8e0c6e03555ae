//! Which item of a mapped table a record is: what positions say of it.
//!
//! An [`EntryName`] has a text and a number. Where the table has a sort key the text is JSON, `["cart/42"]` with a number for
//! the sort key, or `["cart/42","2026-05-01"]` with a text; where it has none, it is the partition key as it is.

use std::collections::HashMap;

use outbox::CommitId;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Mapping;
use crate::dynamodb::{
    attribute::{Attribute, digits_in, number_in, text_in},
    item::{self, Item, number, text},
    position::EntryName,
};

/// The number where there is none.
const NO_NUMBER: &str = "0";

impl Mapping {
    /// The name of an item, or of its primary key alone, if that can be read.
    pub(in crate::dynamodb) fn name<A: Attribute>(&self, item: &HashMap<String, A>) -> Option<EntryName> {
        let partition = text_in(item, &self.partition)?;
        let expires = self.expires.as_deref().and_then(|expires| number_in(item, expires));
        let (key, sequence) = match &self.sort {
            None => (partition.to_owned(), NO_NUMBER),
            Some(sort) => match (text_in(item, sort), digits_in(item, sort)) {
                (Some(sort), _) => (json!([partition, sort]).to_string(), NO_NUMBER),
                (None, Some(digits)) => (json!([partition]).to_string(), digits),
                (None, None) => return None,
            },
        };
        Some(EntryName { key, sequence: sequence.to_owned(), expires })
    }

    /// The primary key of the item with this name.
    pub(in crate::dynamodb) fn primary_key(&self, name: &EntryName) -> Item {
        let Some(sort) = &self.sort else { return item::item([(&*self.partition, text(&name.key))]) };
        // A name of another mapping finds nothing, and a read that begins there is refused by the service.
        let parts: Vec<String> = serde_json::from_str(&name.key).unwrap_or_default();
        let partition = parts.first().map_or("", String::as_str);
        let sorted = parts.get(1).map_or_else(|| number(&name.sequence), text);
        item::item([(&*self.partition, text(partition)), (&**sort, sorted)])
    }

    /// What tells an item from every other: its primary key, of which a commit id is made.
    pub(in crate::dynamodb) fn commit(name: &EntryName) -> CommitId {
        let digest = Sha256::new().chain_update(&name.sequence).chain_update("/").chain_update(&name.key).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        CommitId(id)
    }

    /// The name for people, and as an event's id.
    pub(super) fn shown(&self, name: &EntryName) -> String {
        if self.sort.is_none() {
            return name.key.clone();
        }
        let mut parts: Vec<String> = serde_json::from_str(&name.key).unwrap_or_default();
        if parts.len() < 2 {
            parts.push(name.sequence.clone());
        }
        parts.join("/")
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    #[test]
    fn an_item_is_found_again_by_its_name_whatever_keys_the_table_has() {
        let plain = Mapping::new("t", "id", "type", "data").expires("ttl");
        let n = |digits: &str| AttributeValue::N(digits.to_owned());
        for (mapping, sort, shown) in [
            (plain.clone(), None, "a/[\"1\"]"),
            (plain.clone().sort("at"), Some(n("7.5")), "a/[\"1\"]/7.5"),
            (plain.sort("at"), Some(text("2026-05")), "a/[\"1\"]/2026-05"),
        ] {
            let mut primary = item::item([("id", text("a/[\"1\"]"))]);
            primary.extend(sort.map(|sort| ("at".to_owned(), sort)));
            let mut item = primary.clone();
            item.extend(item::item([("ttl", number(99)), ("type", text("x"))]));
            let name = mapping.name(&item).unwrap();
            assert_eq!((name.expires, mapping.shown(&name).as_str()), (Some(99), shown));
            assert_eq!(mapping.primary_key(&name), primary);
            assert_eq!(EntryName::in_position(&name.at("1/2")), Some(name.clone()));
            assert_ne!(Mapping::commit(&name), Mapping::commit(&EntryName { sequence: "8".to_owned(), ..name }));
        }
        assert_eq!(Mapping::new("t", "id", "type", "data").name(&item::item([("id", number(1))])), None);
    }
}
