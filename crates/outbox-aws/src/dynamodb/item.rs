//! Items: made, read attribute by attribute, and measured as DynamoDB measures them.

use std::{collections::HashMap, fmt};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};

/// An item, or the key of one.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The largest item, names of attributes included. Rule: "Quotas in Amazon DynamoDB", 400 KB.
pub(super) const MAX_ITEM_BYTES: usize = 400 * 1024;

/// A text.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number.
pub(super) fn number(value: impl fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Bytes.
pub(super) fn bytes(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// An item of these attributes.
pub(super) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The text in attribute `name`.
pub(super) fn text_of<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// The whole number in attribute `name`.
pub(super) fn number_of<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// The bytes in attribute `name`.
pub(super) fn bytes_of<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    item.get(name)?.as_b().ok().map(Blob::as_ref)
}

/// Whether attribute `name` is true.
pub(super) fn flag_of(item: &Item, name: &str) -> bool {
    item.get(name).and_then(|value| value.as_bool().ok()).copied().unwrap_or(false)
}

/// What an item counts against the limit of 400 KB.
///
/// Rule: "DynamoDB item sizes and formats" of the developer guide. A number is counted as large as it can be: a byte for
/// each two digits, and two.
pub(super) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

/// What a value counts.
pub(super) fn value_size(value: &AttributeValue) -> usize {
    const NESTING: usize = 3;
    let number = |digits: &str| digits.len().div_ceil(2) + 2;
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => number(digits),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|digits| number(digits)).sum(),
        AttributeValue::Bs(blobs) => blobs.iter().map(|bytes| bytes.as_ref().len()).sum(),
        AttributeValue::L(values) => NESTING + values.iter().map(|value| 1 + value_size(value)).sum::<usize>(),
        AttributeValue::M(map) => {
            NESTING + map.iter().map(|(name, value)| 1 + name.len() + value_size(value)).sum::<usize>()
        }
        // True, false, null, and whatever the service may learn.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_measured_with_its_names() {
        assert_eq!(size(&item([("key", text("cart/42"))])), 10);
        assert_eq!(size(&item([("data", bytes([0; 100]))])), 104);
        let nested = AttributeValue::L(vec![AttributeValue::M(item([("type", text("t"))]))]);
        assert_eq!(size(&item([("events", nested)])), 6 + 3 + 1 + 3 + 1 + 4 + 1);
    }

    #[test]
    fn a_number_is_counted_no_smaller_than_it_is() {
        assert!(value_size(&number(u64::MAX)) >= 11);
        assert!(value_size(&number(-1)) >= 2);
    }
}
