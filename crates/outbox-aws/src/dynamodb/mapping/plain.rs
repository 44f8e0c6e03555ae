//! A value of DynamoDB as the JSON that people mean: numbers with the digits that they have, bytes as base64, sets as lists.

use serde_json::Value;

use crate::dynamodb::attribute::Attribute;

/// The JSON of a value.
pub(super) fn json<A: Attribute>(value: &A) -> String {
    let mut out = String::new();
    write(&value.to_json(), &mut out);
    out
}

/// `typed` is a value as DynamoDB writes it: an object with one member, the type.
fn write(typed: &Value, out: &mut String) {
    let Some((kind, value)) = typed.as_object().and_then(|typed| typed.iter().next()) else {
        // Of a type that this version does not know.
        return out.push_str("null");
    };
    match (kind.as_str(), value) {
        // As it is: to a floating point number and back, a digit may be another one.
        ("N", Value::String(digits)) => out.push_str(digits),
        ("NS", Value::Array(numbers)) => {
            list(numbers, out, |number, out| out.push_str(number.as_str().unwrap_or("null")));
        }
        ("L", Value::Array(values)) => list(values, out, write),
        ("M", Value::Object(members)) => {
            out.push('{');
            for (number, (name, value)) in members.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        ("NULL", _) => out.push_str("null"),
        (_, plain) => out.push_str(&plain.to_string()),
    }
}

fn list(values: &[Value], out: &mut String, write: impl Fn(&Value, &mut String)) {
    out.push('[');
    for (number, value) in values.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        write(value, out);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamodb::attribute::TypedValue;

    #[test]
    fn a_document_becomes_the_json_that_its_writer_meant() {
        let typed = r#"{"M": {"id": {"S": "a\"b"}, "sum": {"N": "12345678901234567890.10"}, "no": {"NULL": true},
            "list": {"L": [{"BOOL": true}, {"B": "AAE="}, {"L": []}]}, "sets": {"M": {"n": {"NS": ["1", "2.5"]},
            "s": {"SS": ["x"]}}}}}"#;
        let value: TypedValue = serde_json::from_str(typed).unwrap();
        let expected = "{\"id\":\"a\\\"b\",\"list\":[true,\"AAE=\",[]],\"no\":null,\"sets\":{\"n\":[1,2.5],\"s\":[\"x\"]},\"sum\":12345678901234567890.10}";
        let (found, expected): (Value, Value) =
            (serde_json::from_str(&json(&value)).unwrap(), serde_json::from_str(expected).unwrap());
        assert_eq!(found, expected);
        assert!(json(&value).contains("12345678901234567890.10"), "{}", json(&value));
    }
}
