//! An attribute's value, whichever way an item came: from the table, from its stream, or as JSON to a Lambda function. One
//! decoder reads all three.

use std::{collections::HashMap, hash::BuildHasher, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, json};

/// A value as DynamoDB knows them, in one of the forms in which it comes. Each accessor gives the value if it is of that
/// type.
pub trait Attribute: Sized {
    /// A text.
    fn text(&self) -> Option<&str>;
    /// A number, as its digits.
    fn digits(&self) -> Option<&str>;
    /// Bytes.
    fn blob(&self) -> Option<&[u8]>;
    /// True or false.
    fn flag(&self) -> Option<bool>;
    /// A list.
    fn list(&self) -> Option<&[Self]>;
    /// A map.
    fn map(&self) -> Option<&HashMap<String, Self>>;
    /// As DynamoDB writes it in JSON, for whoever looks into an item that could not be read.
    fn to_json(&self) -> Value;
}

/// The text in attribute `name`.
pub(super) fn text_in<'a, A: Attribute>(item: &'a HashMap<String, A>, name: &str) -> Option<&'a str> {
    item.get(name)?.text()
}

/// The number in attribute `name`, as its digits.
pub(super) fn digits_in<'a, A: Attribute>(item: &'a HashMap<String, A>, name: &str) -> Option<&'a str> {
    item.get(name)?.digits()
}

/// The whole number in attribute `name`.
pub(super) fn number_in<T: FromStr, A: Attribute>(item: &HashMap<String, A>, name: &str) -> Option<T> {
    item.get(name)?.digits()?.parse().ok()
}

/// The bytes in attribute `name`.
pub(super) fn blob_in<'a, A: Attribute>(item: &'a HashMap<String, A>, name: &str) -> Option<&'a [u8]> {
    item.get(name)?.blob()
}

/// The item as DynamoDB writes it in JSON.
pub(super) fn item_to_json<A: Attribute, S: BuildHasher>(item: &HashMap<String, A, S>) -> Value {
    let members: Map<_, _> = item.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
    Value::Object(members)
}

/// The SDK has the same type once for the table and once for the stream.
macro_rules! of_the_sdk {
    ($($module:ident),*) => { $(
        impl Attribute for $module::types::AttributeValue {
            fn text(&self) -> Option<&str> {
                self.as_s().ok().map(String::as_str)
            }

            fn digits(&self) -> Option<&str> {
                self.as_n().ok().map(String::as_str)
            }

            fn blob(&self) -> Option<&[u8]> {
                self.as_b().ok().map(AsRef::as_ref)
            }

            fn flag(&self) -> Option<bool> {
                self.as_bool().ok().copied()
            }

            fn list(&self) -> Option<&[Self]> {
                self.as_l().ok().map(Vec::as_slice)
            }

            fn map(&self) -> Option<&HashMap<String, Self>> {
                self.as_m().ok()
            }

            fn to_json(&self) -> Value {
                match self {
                    Self::S(text) => json!({ "S": text }),
                    Self::N(digits) => json!({ "N": digits }),
                    Self::B(blob) => json!({ "B": STANDARD.encode(blob) }),
                    Self::Ss(texts) => json!({ "SS": texts }),
                    Self::Ns(numbers) => json!({ "NS": numbers }),
                    Self::Bs(blobs) => json!({ "BS": blobs.iter().map(|blob| STANDARD.encode(blob)).collect::<Vec<_>>() }),
                    Self::L(values) => json!({ "L": values.iter().map(Attribute::to_json).collect::<Vec<_>>() }),
                    Self::M(map) => json!({ "M": item_to_json(map) }),
                    Self::Bool(value) => json!({ "BOOL": value }),
                    Self::Null(_) => json!({ "NULL": true }),
                    // A type that this version does not know.
                    _ => Value::Null,
                }
            }
        }
    )* };
}

of_the_sdk!(aws_sdk_dynamodb, aws_sdk_dynamodbstreams);

/// A value in DynamoDB's own JSON, as `{"S": "cart/42"}`: how a Lambda function is given it.
///
/// Rule: "`AttributeValue`" of the API reference.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TypedValue {
    /// A text.
    S(String),
    /// A number.
    N(String),
    /// Bytes, in JSON as base64.
    B(Blob),
    /// True or false.
    Bool(bool),
    /// Nothing.
    Null(bool),
    /// A set of texts.
    Ss(Vec<String>),
    /// A set of numbers.
    Ns(Vec<String>),
    /// A set of bytes.
    Bs(Vec<Blob>),
    /// A list.
    L(Vec<TypedValue>),
    /// A map.
    M(HashMap<String, TypedValue>),
}

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|_| D::Error::custom("bytes that are not base64"))
    }
}

impl Attribute for TypedValue {
    fn text(&self) -> Option<&str> {
        if let Self::S(text) = self { Some(text) } else { None }
    }

    fn digits(&self) -> Option<&str> {
        if let Self::N(digits) = self { Some(digits) } else { None }
    }

    fn blob(&self) -> Option<&[u8]> {
        if let Self::B(Blob(bytes)) = self { Some(bytes) } else { None }
    }

    fn flag(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    fn list(&self) -> Option<&[Self]> {
        if let Self::L(values) = self { Some(values) } else { None }
    }

    fn map(&self) -> Option<&HashMap<String, Self>> {
        if let Self::M(map) = self { Some(map) } else { None }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::S(text) => json!({ "S": text }),
            Self::N(digits) => json!({ "N": digits }),
            Self::B(Blob(bytes)) => json!({ "B": STANDARD.encode(bytes) }),
            Self::Bool(value) => json!({ "BOOL": value }),
            Self::Null(value) => json!({ "NULL": value }),
            Self::Ss(texts) => json!({ "SS": texts }),
            Self::Ns(numbers) => json!({ "NS": numbers }),
            Self::Bs(blobs) => {
                json!({ "BS": blobs.iter().map(|Blob(bytes)| STANDARD.encode(bytes)).collect::<Vec<_>>() })
            }
            Self::L(values) => json!({ "L": values.iter().map(Attribute::to_json).collect::<Vec<_>>() }),
            Self::M(map) => json!({ "M": item_to_json(map) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_json_is_read_and_written_the_same() {
        let json = json!({ "M": {
            "s": { "S": "ö" }, "n": { "N": "12.5" }, "b": { "B": "AAEC" }, "t": { "BOOL": true }, "0": { "NULL": true },
            "l": { "L": [{ "SS": ["a"] }, { "NS": ["1"] }, { "BS": ["AA=="] }] }, "m": { "M": {} },
        } });
        let value: TypedValue = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(value.to_json(), json);
        assert_eq!(value.map().unwrap()["b"].blob(), Some([0, 1, 2].as_slice()));
    }

    #[test]
    fn a_value_of_an_unknown_type_is_refused() {
        for json in [r#"{"X": 1}"#, r#"{"B": "%"}"#, r#"{"N": 1}"#, r#"{"S": "a", "N": "1"}"#] {
            assert!(serde_json::from_str::<TypedValue>(json).is_err(), "{json}");
        }
    }
}
