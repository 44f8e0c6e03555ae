//! A table that others made: whether it is as its mapping says.

use aws_sdk_dynamodb::types::{KeyType, ScalarAttributeType, StreamViewType, TableDescription};
use outbox::StoreError;

use super::table::{Shape, TEXT, Table};
use crate::dynamodb::mapping::Mapping;

impl Table<'_> {
    /// Makes sure that the table is there, with the keys that `mapping` names, a stream of new images, and the attribute of
    /// expiry.
    pub(super) async fn check_mapped(&self, mapping: &Mapping) -> Result<(), StoreError> {
        let Some(described) = self.describe().await? else {
            return Err(self.incompatible("is missing: check its name in `[store.mapping]`, and the region"));
        };
        let (partition, sort) = mapping.keys();
        self.check_key(&described, &KeyType::Hash, Some(partition))?;
        self.check_key(&described, &KeyType::Range, sort)?;
        let stream = Some(StreamViewType::NewImage);
        self.check_stream(&described, &Shape { partition: "", sort: None, stream, expiry: None })?;
        let Some(wanted) = mapping.expiry() else { return Ok(()) };
        match self.expiry().await? {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(self.incompatible(&format!(
                "expires items by `{found}`, and the mapping says by `{wanted}`: name the right one by `expires`"
            ))),
            None => Err(self.incompatible(&format!(
                "keeps items for ever: enable its time to live on `{wanted}`, or say `expires = \"\"` in the mapping"
            ))),
        }
    }

    fn check_key(&self, table: &TableDescription, role: &KeyType, wanted: Option<&str>) -> Result<(), StoreError> {
        let found = table.key_schema().iter().find(|element| element.key_type() == role);
        let found = found.map(aws_sdk_dynamodb::types::KeySchemaElement::attribute_name);
        let key = if *role == KeyType::Hash { "partition" } else { "sort" };
        if found != wanted {
            let shown = |name: Option<&str>| name.map_or_else(|| "nothing".to_owned(), |name| format!("`{name}`"));
            return Err(self.incompatible(&format!(
                "has {} as its {key} key, and the mapping says {}: name the right one by `{key}`, or leave it out",
                shown(found),
                shown(wanted)
            )));
        }
        let mut defined = table.attribute_definitions().iter();
        let kind = defined.find(|attribute| Some(attribute.attribute_name()) == wanted);
        let kind = kind.map(|attribute| attribute.attribute_type().clone());
        let fits = match kind {
            None | Some(TEXT) => true,
            Some(ScalarAttributeType::N) => *role == KeyType::Range,
            Some(_) => false,
        };
        if fits {
            return Ok(());
        }
        let may = if *role == KeyType::Hash { "text" } else { "text or a number" };
        Err(self.incompatible(&format!("has a {key} key that is not {may}: such a table cannot be read")))
    }
}
