//! Single writes on an inbox's table, as actions of a transaction.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};
use outbox::{ErrorKind, StoreError};

use crate::dynamodb::item::Item;

/// What has to hold for a write, with its names and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    expression: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Condition {
    /// Nothing.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// `expression`, in which `#name` stands for each of `names`.
    pub(super) fn new<const N: usize, const V: usize>(
        expression: &str,
        names: [&str; N],
        values: [(&str, AttributeValue); V],
    ) -> Self {
        Self {
            expression: Some(expression.to_owned()),
            names: names.into_iter().map(|name| (format!("#{name}"), name.to_owned())).collect(),
            values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    /// There is no such item.
    pub(super) fn absent() -> Self {
        Self::new("attribute_not_exists(#id)", ["id"], [])
    }

    /// The item is that of this version, or there is none.
    pub(super) fn version(seen: Option<&String>) -> Self {
        match seen {
            None => Self::absent(),
            Some(seen) => Self::new("#version = :seen", ["version"], [(":seen", AttributeValue::S(seen.clone()))]),
        }
    }
}

fn some<T>(map: HashMap<String, T>) -> Option<HashMap<String, T>> {
    (!map.is_empty()).then_some(map)
}

/// Makes actions on one table.
pub(super) struct Writes<'a>(pub(super) &'a str);

impl Writes<'_> {
    pub(super) fn put(&self, item: Item, condition: Condition) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder().table_name(self.0).set_item(Some(item));
        let put = put.set_condition_expression(condition.expression);
        let put = put.set_expression_attribute_names(some(condition.names));
        let put = put.set_expression_attribute_values(some(condition.values)).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    pub(super) fn delete(&self, key: Item, condition: Condition) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder().table_name(self.0).set_key(Some(key));
        let delete = delete.set_condition_expression(condition.expression);
        let delete = delete.set_expression_attribute_names(some(condition.names));
        let delete = delete.set_expression_attribute_values(some(condition.values)).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    pub(super) fn check(&self, key: Item, condition: Condition) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder().table_name(self.0).set_key(Some(key));
        let check = check.set_condition_expression(condition.expression);
        let check = check.set_expression_attribute_names(some(condition.names));
        let check = check.set_expression_attribute_values(some(condition.values)).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// Sets or adds to attributes; `#name` and `:name` stand for each of `given`, besides what the condition names.
    pub(super) fn update(
        &self,
        key: Item,
        expression: String,
        given: Vec<(&str, AttributeValue)>,
        mut condition: Condition,
    ) -> Result<TransactWriteItem, StoreError> {
        for (name, value) in given {
            condition.names.insert(format!("#{name}"), name.to_owned());
            condition.values.insert(format!(":{name}"), value);
        }
        let update = Update::builder().table_name(self.0).set_key(Some(key)).update_expression(expression);
        let update = update.set_condition_expression(condition.expression);
        let update = update.set_expression_attribute_names(some(condition.names));
        let update = update.set_expression_attribute_values(some(condition.values)).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

/// The SDK's builders miss nothing that is set here.
fn unbuilt(error: BuildError) -> StoreError {
    StoreError::new(ErrorKind::Invalid, format!("making a transaction of the inbox: {error}: this is a bug, report it"))
        .because(error)
}
