//! Rows of the bookkeeping's table: their names, and the actions on them.

use std::{collections::HashMap, fmt::Write};

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};
use outbox::{
    ErrorKind, StoreError,
    bookkeeping::{KeptContent, Lane},
};
use sha2::{Digest, Sha256};

use crate::dynamodb::{
    calls::ALL_OLD,
    item::{self, Item, text},
};

/// The longest name that stands as it is. A sort key has 1,024 bytes at most.
const LONGEST_NAME: usize = 900;

/// Which row: its kind is the partition key, its name the sort key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Row {
    pub(super) fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), name: name.into() }
    }

    pub(super) fn key(&self) -> Item {
        item::item([("kind", text(&self.kind)), ("name", text(&self.name))])
    }
}

/// What has to hold of a row for an action on it.
#[derive(Clone, Debug)]
pub(super) enum If {
    /// Nothing.
    Anything,
    /// It is not there.
    Absent,
    /// It has these values.
    Has(Vec<(&'static str, AttributeValue)>),
    /// It says nothing under this name.
    Empty(&'static str),
}

type Names = HashMap<String, String>;
type Values = HashMap<String, AttributeValue>;

impl If {
    fn expression(self, names: &mut Names, values: &mut Values) -> Option<String> {
        match self {
            Self::Anything => None,
            Self::Absent => {
                names.insert("#kind".to_owned(), "kind".to_owned());
                Some("attribute_not_exists(#kind)".to_owned())
            }
            Self::Has(wanted) => {
                let terms = wanted.into_iter().map(|(name, value)| {
                    names.insert(format!("#{name}"), name.to_owned());
                    values.insert(format!(":seen_{name}"), value);
                    format!("#{name} = :seen_{name}")
                });
                Some(terms.collect::<Vec<_>>().join(" AND "))
            }
            Self::Empty(name) => {
                names.insert(format!("#{name}"), name.to_owned());
                values.insert(format!(":seen_{name}"), text(""));
                Some(format!("attribute_not_exists(#{name}) OR #{name} = :seen_{name}"))
            }
        }
    }
}

/// A change of single attributes.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) set: Vec<(&'static str, AttributeValue)>,
    pub(super) add: Vec<(&'static str, AttributeValue)>,
}

/// An expression with its names and values; maps are `None` where they are empty, as DynamoDB wants it.
pub(super) struct Expressions {
    pub(super) update: String,
    pub(super) condition: Option<String>,
    pub(super) names: Option<Names>,
    pub(super) values: Option<Values>,
}

impl Expressions {
    pub(super) fn new(change: Change, condition: If) -> Self {
        let (mut names, mut values) = (Names::new(), Values::new());
        let mut part = |word: &str, sign: &str, changes: Vec<(&'static str, AttributeValue)>| {
            let terms: Vec<_> = changes
                .into_iter()
                .map(|(name, value)| {
                    names.insert(format!("#{name}"), name.to_owned());
                    values.insert(format!(":{name}"), value);
                    format!("#{name}{sign}:{name}")
                })
                .collect();
            if terms.is_empty() { String::new() } else { format!("{word} {} ", terms.join(", ")) }
        };
        let update = part("SET", " = ", change.set) + &part("ADD", " ", change.add);
        let condition = condition.expression(&mut names, &mut values);
        let names = (!names.is_empty()).then_some(names);
        Self { update, condition, names, values: (!values.is_empty()).then_some(values) }
    }
}

/// Makes actions on rows of one table.
pub(super) struct Actions<'a>(pub(super) &'a str);

impl Actions<'_> {
    /// Puts a row in the place of whatever is there.
    pub(super) fn put(&self, row: &Row, attributes: Item, condition: If) -> Result<TransactWriteItem, StoreError> {
        let Expressions { condition, names, values, .. } = Expressions::new(Change::default(), condition);
        let mut item = row.key();
        item.extend(attributes);
        let put = Put::builder().table_name(self.0).set_item(Some(item)).set_condition_expression(condition);
        let put = put.set_expression_attribute_names(names).set_expression_attribute_values(values);
        let put = put.return_values_on_condition_check_failure(ALL_OLD).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Changes attributes of a row, which is made if it is not there.
    pub(super) fn update(&self, row: &Row, change: Change, condition: If) -> Result<TransactWriteItem, StoreError> {
        let Expressions { update, condition, names, values } = Expressions::new(change, condition);
        let action = Update::builder().table_name(self.0).set_key(Some(row.key())).update_expression(update);
        let action = action.set_condition_expression(condition).set_expression_attribute_names(names);
        let action = action.set_expression_attribute_values(values).return_values_on_condition_check_failure(ALL_OLD);
        Ok(TransactWriteItem::builder().update(action.build().map_err(unbuilt)?).build())
    }

    /// Deletes a row.
    pub(super) fn delete(&self, row: &Row, condition: If) -> Result<TransactWriteItem, StoreError> {
        let Expressions { condition, names, values, .. } = Expressions::new(Change::default(), condition);
        let delete = Delete::builder().table_name(self.0).set_key(Some(row.key())).set_condition_expression(condition);
        let delete = delete.set_expression_attribute_names(names).set_expression_attribute_values(values);
        let delete = delete.return_values_on_condition_check_failure(ALL_OLD).build().map_err(unbuilt)?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// Looks that a row is as it was.
    pub(super) fn check(&self, row: &Row, condition: If) -> Result<TransactWriteItem, StoreError> {
        let Expressions { condition, names, values, .. } = Expressions::new(Change::default(), condition);
        let check = ConditionCheck::builder().table_name(self.0).set_key(Some(row.key()));
        let check = check.set_condition_expression(condition).set_expression_attribute_names(names);
        let check = check.set_expression_attribute_values(values).return_values_on_condition_check_failure(ALL_OLD);
        Ok(TransactWriteItem::builder().condition_check(check.build().map_err(unbuilt)?).build())
    }
}

/// The SDK's builders miss nothing that is set here.
fn unbuilt(error: BuildError) -> StoreError {
    StoreError::new(ErrorKind::Invalid, format!("making a transaction: {error}: this is a bug, report it"))
        .because(error)
}

/// A number that sorts as text.
pub(super) fn padded(number: u64) -> String {
    format!("{number:020}")
}

/// `prefix` and `name`, so short that it fits a sort key: the rest of a long one is told by its hash. The order of such
/// names is always the same, and no two are.
pub(in crate::dynamodb) fn fitting(prefix: &str, name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return format!("{prefix}{name}");
    }
    let cut = (0..=LONGEST_NAME).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    // One byte longer than any that stands as it is.
    format!("{prefix}{}~{}", &name[..cut], digest([name]))
}

/// A lane's name in its route: lanes with a key first, each kind in the order of its text.
pub(super) fn lane_name(lane: &Lane) -> String {
    match lane {
        Lane::Key(key) => fitting("0", key.as_str()),
        Lane::Event(id) => fitting("1", id),
    }
}

/// Tells a kept event from every other one: a producer may give an id twice.
pub(super) fn identity(content: &KeptContent, partition: &str, position: &str) -> String {
    digest([content.id(), partition, position, &content.index().to_string()])
}

/// 128 bits of the hash of some texts, each with its length.
pub(in crate::dynamodb) fn digest<const N: usize>(texts: [&str; N]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().take(16).fold(String::with_capacity(32), |mut digits, byte| {
        // Writing to a text never fails.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_fit_a_sort_key_and_stay_apart() {
        let names =
            ["x".repeat(900), "x".repeat(901), "x".repeat(1024), format!("{}y", "x".repeat(1023)), "é".repeat(512)];
        let fitted: Vec<_> = names.iter().map(|name| fitting("0123456789abcdef0123456789abcdef#1", name)).collect();
        assert!(fitted.iter().all(|name| name.len() <= 1024));
        assert!((1..fitted.len()).all(|index| !fitted[..index].contains(&fitted[index])));
    }

    #[test]
    fn lanes_with_a_key_come_first() {
        let key = Lane::Key(outbox::Key::new("z").unwrap());
        assert!(lane_name(&key) < lane_name(&Lane::Event("a".into())));
    }

    #[test]
    fn texts_are_told_apart_wherever_they_are_cut() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
    }
}
