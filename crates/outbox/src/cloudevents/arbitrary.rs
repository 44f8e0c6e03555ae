//! Arbitrary events and hostile bytes, for the property tests of every encoding.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*, sample::Index};

use crate::{
    event::{AttributeValue, Event, Key, check_text},
    place::{Place, Placing},
};

/// Text that an attribute may hold, rich in what encodings escape.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        2 => prop::sample::select(vec!['"', '\\', '%', ' ', '/', ',', 'ü', '\u{2028}', '𝄞']),
        1 => any::<char>(),
    ];
    vec(character, 1..24)
        .prop_map(String::from_iter)
        .prop_filter("CloudEvents text", |text| check_text("text", text, 512).is_ok())
}

fn uri() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/orders", "https://example.com/a?b=c%20d#e", "urn:uuid:1", "https://example.com/ü"])
        .prop_map(str::to_owned)
}

fn time() -> impl Strategy<Value = Timestamp> {
    // The years 0 to 9999: what RFC 3339 can write.
    (-62_167_219_200_i64..253_402_207_200, 0..1_000_000_000_i32)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
}

fn placing() -> impl Strategy<Value = Placing> {
    let sequence = || 1..=i64::MAX.unsigned_abs();
    (1..=u32::MAX, sequence(), any::<Index>(), 1..=u32::MAX, (any::<u32>(), sequence(), any::<u32>())).prop_map(
        |(incarnation, sequence, index, count, after)| {
            let index = u32::try_from(index.index(count as usize)).unwrap();
            Placing {
                place: Place::new(incarnation, sequence, index),
                count,
                after: Place::new(after.0, after.1, after.2),
            }
        },
    )
}

fn extensions() -> impl Strategy<Value = BTreeMap<Arc<str>, AttributeValue>> {
    let name = prop::sample::select(vec![
        "traceparent",
        "correlationid",
        "causationid",
        "gapless",
        "replayid",
        "recordedtime",
        "a",
        "x0",
        "placement",
        "anextensionwithalongnamethatotherswrite",
    ]);
    let value = prop_oneof![
        any::<bool>().prop_map(AttributeValue::Boolean),
        any::<i32>().prop_map(AttributeValue::Integer),
        text().prop_map(AttributeValue::from),
        Just(AttributeValue::from("")),
    ];
    prop::collection::btree_map(name.prop_map(Arc::from), value, 0..6)
}

/// JSON as a writer may lay it out.
pub(crate) fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => json().prop_map(|value| serde_json::to_vec(&value).unwrap()),
        1 => json().prop_map(|value| serde_json::to_vec_pretty(&value).unwrap()),
        1 => json().prop_map(|value| format!(" {value}\n").into_bytes()),
        2 => vec(any::<u8>(), 0..64),
        1 => prop::sample::select(vec!["", "null", "1e999", "-0.0", "1.10", r#""\ud800""#, r#"{"a":1,"a":2}"#, "{"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn content_type() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "application/json",
        "application/json; charset=utf-8",
        "application/vnd.a+json",
        "text/plain",
        "application/octet-stream",
        "application/avro; a=\"b\"",
    ])
}

/// An event as a relay may have it in its hands, or a receiver after decoding.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let identity = (text(), uri(), text(), option::of((text(), option::of(placing()))));
    let more = (option::of(text()), option::of(time()), option::of(content_type()), option::of(uri()), extensions());
    (identity, more, option::of(payload())).prop_map(|((id, source, kind, order), more, data)| {
        let (subject, time, content_type, schema, extensions) = more;
        let (key, placing) = order.unzip();
        Event {
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            key: key.map(|key| Key::new(key).unwrap()),
            placing: placing.flatten(),
            subject: subject.map(Into::into),
            time,
            content_type: content_type.map(Into::into),
            schema: schema.map(Into::into),
            extensions,
            data: data.map(Bytes::from),
        }
    })
}

/// Bytes that a decoder may be sent: anything; members with familiar names and any values; and what `encode` makes of
/// an event, damaged.
pub(crate) fn hostile(encode: impl Fn(&Event) -> Vec<u8> + 'static) -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "data",
        "data_base64",
        "datacontenttype",
        "partitionkey",
        "place",
        "after",
        "sequence",
        "gapless",
        "",
        "BAD",
    ]);
    let value = prop_oneof![
        json().prop_map(|value| value.to_string()),
        prop::sample::select(vec![
            "\"1.0\"",
            "\"/a\"",
            "1e999999",
            "9999999999999999999999",
            "-0",
            "\"\\ud800\"",
            "\"1.2.3/4\"",
            "\"1.1.0\"",
            "\"text/plain\"",
            "\"2026-02-30T00:00:00Z\"",
        ])
        .prop_map(str::to_owned),
    ];
    let members = vec((name, value), 0..8).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    let damaged = (event(), any::<Index>(), any::<u8>(), any::<bool>()).prop_map(move |(event, at, byte, cut)| {
        let mut bytes = encode(&event);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..64), members, damaged]
}
