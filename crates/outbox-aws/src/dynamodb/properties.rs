//! What has to hold of whatever a table's stream gives: each property once, for the fuzz targets and for the tests below.

use outbox::{
    Content,
    testing::properties::{record, told},
};

use super::{Attribute, Change, ChangeKind, EntryReader, Layout, Mapping, Tables, position::EntryName};

/// Where the record is said to be.
const PLACE: &str = "s1/2";

/// A record of a stream, as Lambda hands it to a function: it is refused on one line, or read as an entry, as what is none,
/// or as no news at all; in Outbox's own layout and in that of a service.
///
/// # Panics
/// If a property does not hold.
pub fn stream_record(text: &str) {
    let change = match Change::from_json(text) {
        Ok(change) => change,
        Err(error) => return told(&error.to_string()),
    };
    let mapped = Tables::mapped("carts", Mapping::of(Layout::DynamoOutbox, "carts-outbox"));
    for reader in [EntryReader::new("/carts"), EntryReader::of(&mapped, "/carts")] {
        read(&reader, &change);
    }
}

fn read<A: Attribute>(reader: &EntryReader, change: &Change<A>) {
    let found = reader.change(change, PLACE);
    let is_news = matches!(change.kind, ChangeKind::Insert | ChangeKind::Other(_));
    assert_eq!(found.is_some(), is_news, "{:?}", change.kind);
    let Some(found) = found else { return };
    record(&found);
    let position = found.position.as_str();
    assert!(position.ends_with(&format!("@{PLACE}")), "{position}");
    match &found.content {
        // What was read has to be found again in the table.
        Content::Events(_) => {
            let name = EntryName::in_position(&found.position);
            assert!(reader.mapping().is_some() || name.is_some(), "{position}");
        }
        Content::Undecodable(row) => {
            let shown: Result<serde_json::Value, _> = serde_json::from_slice(&row.raw);
            assert!(shown.is_ok(), "not shown as it was found");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::{Value, json};

    use super::*;

    /// Values that one of the attributes takes, or nearly takes.
    fn value() -> impl Strategy<Value = Value> {
        const TEXTS: &[&str] = &["", "1.6.0", "0.0.0", "cart/1", "a@b%", "{", "line\nbreak", "2026-11-21T09:30:00Z"];
        const NUMBERS: &[&str] = &["0", "1", "-1", "1.5", "1E+30", "18446744073709551616", "1795000000123", "x", ""];
        prop_oneof![
            select(TEXTS).prop_map(|text| json!({ "S": text })),
            any::<String>().prop_map(|text| json!({ "S": text })),
            select(NUMBERS).prop_map(|digits| json!({ "N": digits })),
            any::<i64>().prop_map(|number| json!({ "N": number.to_string() })),
            Just(json!({ "B": "BwcHBwcHBwcHBwcHBwcHBw==" })),
            Just(json!({ "B": "BwcH" })),
            Just(json!({ "BOOL": true })),
            Just(json!({ "NULL": true })),
            Just(json!({ "L": [] })),
            Just(json!({ "L": [{ "M": { "type": { "S": "t" }, "data": { "N": "1" } } }, { "S": "x" }] })),
            Just(json!({ "M": {} })),
        ]
    }

    fn entry() -> Value {
        json!({
            "key": { "S": "cart/42" }, "sequence": { "N": "7" }, "incarnation": { "N": "1" }, "after": { "S": "1.6.0" },
            "count": { "N": "1" }, "commit_id": { "B": "BwcHBwcHBwcHBwcHBwcHBw==" },
            "recorded_at": { "N": "1795000000123" }, "expires_at": { "N": "1797592000" },
            "events": { "L": [{ "M": { "type": { "S": "cart.created" }, "data": { "S": "{}" } } }] },
            "messageId": { "S": "m-1" }, "detailType": { "S": "cart.created" }, "detail": { "S": "{}" },
            "ttl": { "N": "1797592000" },
        })
    }

    fn inserted(image: &Value, kind: &str) -> String {
        let data = json!({
            "SequenceNumber": "111", "ApproximateCreationDateTime": 1_795_000_000.5,
            "Keys": { "key": image["key"], "sequence": image["sequence"] }, "NewImage": image,
        });
        json!({ "eventName": kind, "dynamodb": data }).to_string()
    }

    #[test]
    fn an_entry_as_it_is_written_is_read_in_both_layouts() {
        let change = Change::from_json(&inserted(&entry(), "INSERT")).unwrap();
        let mapped = Tables::mapped("carts", Mapping::of(Layout::DynamoOutbox, "carts-outbox"));
        for reader in [EntryReader::new("/carts"), EntryReader::of(&mapped, "/carts")] {
            let found = reader.change(&change, PLACE).unwrap();
            assert!(matches!(found.content, Content::Events(_)), "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn any_item_is_an_entry_or_says_why_not(
            changes in vec((select(entry().as_object().unwrap().keys().cloned().collect::<Vec<_>>()), value()), 0..4),
            removed in vec(0..13_usize, 0..2),
            kind in select(vec!["INSERT", "INSERT", "INSERT", "MODIFY", "REMOVE", "UPSERT"]),
        ) {
            let mut image = entry();
            let names: Vec<String> = image.as_object().unwrap().keys().cloned().collect();
            for (name, value) in changes {
                image[name] = value;
            }
            for index in removed {
                image.as_object_mut().unwrap().remove(&names[index]);
            }
            stream_record(&inserted(&image, kind));
        }

        #[test]
        fn any_text_is_a_record_or_is_refused(text in any::<String>()) {
            stream_record(&text);
        }
    }
}
