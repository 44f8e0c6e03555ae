use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    super::{DecodeError, arbitrary},
    *,
};
use crate::{event::AttributeValue, testing_event};

const MINIMAL: &str = r#""specversion":"1.0","id":"1","source":"/a","type":"t""#;

/// What is said about an event with `members` behind the required ones.
fn with(members: &str) -> Result<Event, DecodeError> {
    decode(format!("{{{MINIMAL},{members}}}").as_bytes())
}

fn data(members: &str) -> Option<Bytes> {
    with(members).unwrap().data().cloned()
}

fn with_payload(content_type: Option<&str>, data: &'static str) -> Event {
    Event {
        content_type: content_type.map(Arc::from),
        data: Some(Bytes::from_static(data.as_bytes())),
        ..testing_event("t", None, 1)
    }
}

fn encoded(event: &Event) -> String {
    String::from_utf8(encode(event, Envelope::default())).unwrap()
}

proptest! {
    #[test]
    fn the_size_is_never_less_than_what_is_encoded(
        event in arbitrary::event(),
        gapless: bool,
        replay in prop::option::of("[ -!#-\\[\\]-~]{0,64}"),
    ) {
        let envelope = Envelope { gapless, replay: replay.as_deref() };
        let mut line = Vec::new();
        encode_line_into(&mut line, &event, envelope);
        let longest = encode(&event, envelope).len().max(line.len());
        prop_assert!(longest < encoded_size(&event));
        let bare = encode(&event, Envelope::default()).len();
        let has_breaks = event.data().is_some_and(|data| data.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
        prop_assert!(has_breaks || encoded_size(&event) <= bare + 95);
    }

    #[test]
    fn what_the_route_says_is_read_back(event in arbitrary::event(), replay in arbitrary::text()) {
        let bytes = encode(&event, Envelope { gapless: true, replay: Some(&replay) });
        let read = decode(&bytes).unwrap();
        prop_assert!(read.gapless());
        prop_assert_eq!(read.extension_text("replayid"), Some(&*replay));
    }
}

#[test]
fn a_json_payload_is_embedded_as_it_is() {
    let event = with_payload(Some("application/vnd.a+json"), "{\"b\" :1.10,\n\"a\":1e999}");
    assert!(encoded(&event).ends_with(",\"data\":{\"b\" :1.10,\n\"a\":1e999}}"));
}

#[test]
fn what_is_not_json_or_says_so_or_has_white_space_around_it_is_base64() {
    for (content_type, payload) in [(None, "{"), (None, " 1"), (None, "1\n"), (Some("text/plain"), "1"), (None, "")] {
        let text = encoded(&with_payload(content_type, payload));
        assert!(text.contains(r#""data_base64":""#) && !text.contains(r#""data":"#), "{text}");
    }
}

#[test]
fn an_absent_payload_stays_absent_and_an_empty_one_empty() {
    let absent = Event { data: None, ..testing_event("t", None, 1) };
    assert_eq!(decode(encoded(&absent).as_bytes()).unwrap().data(), None);
    assert_eq!(decode(encoded(&with_payload(None, "")).as_bytes()).unwrap().data(), Some(&Bytes::new()));
}

#[test]
fn key_and_place_travel_as_attributes_and_become_key_and_place_again() {
    let event = testing_event("t", Some("cart/\"ü\""), 7);
    let text = encoded(&event);
    assert!(text.contains(
        r#""partitionkey":"cart/\"ü\"","sequence":"0000000001.00000000000000000007.0000000000","place":"1.7.0/1","after":"1.6.0""#
    ));
    let read = decode(text.as_bytes()).unwrap();
    assert_eq!((read.key(), read.placing()), (event.key(), event.placing()));
    assert_eq!(read.extensions().count(), 0);
}

#[test]
fn a_foreign_event_keeps_its_sequence_and_has_no_place() {
    let event =
        with(r#""sequence":"41","partitionkey":"k","place":"Berlin","iodebeziumtxdatacollectionorder":3"#).unwrap();
    assert_eq!((event.key().unwrap().as_str(), event.placing()), ("k", None));
    assert_eq!((event.extension_text("sequence"), event.extension_text("place")), (Some("41"), Some("Berlin")));
    assert_eq!(decode(encoded(&event).as_bytes()), Ok(event));
}

#[test]
fn numbers_and_booleans_are_values_and_null_is_absent() {
    let event = with(r#""a":-7,"b":true,"c":null,"d":"","subject":null,"data":null,"data_base64":"""#).unwrap();
    let extensions: Vec<_> = event.extensions().map(|(name, value)| (name, value.clone())).collect();
    assert_eq!(
        extensions,
        [("a", AttributeValue::Integer(-7)), ("b", AttributeValue::Boolean(true)), ("d", AttributeValue::from("")),]
    );
    assert_eq!((event.subject(), event.data()), (None, Some(&Bytes::new())));
}

#[test]
fn a_string_of_another_media_type_is_the_payload_itself() {
    assert_eq!(data(r#""data":"<a b=\"c\"\/>","datacontenttype":"text/xml""#).unwrap(), r#"<a b="c"/>"#);
    assert_eq!(data(r#""datacontenttype":"text/plain","data":"plain""#).unwrap(), "plain");
    assert_eq!(data(r#""datacontenttype":"text/plain","data":"""#).unwrap(), "");
    assert_eq!(data(r#""datacontenttype":"text/plain","data":null"#), None);
    assert_eq!(data(r#""data":"plain""#).unwrap(), r#""plain""#);
    assert_eq!(data(r#""data": null "#).unwrap(), "null");
}

#[test]
fn a_payload_shares_the_memory_of_a_single_event() {
    let body = Bytes::from(format!("{{{MINIMAL},\"data\":{{\"units\":3}}}}"));
    let payload = decode_shared(&body).unwrap().data().unwrap().clone();
    assert!(body.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn nesting_of_any_depth_is_read_without_recursion() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(data(&format!(r#""data":{deep}"#)).unwrap().len(), deep.len());
    assert!(matches!(with(&format!(r#""a":{deep}"#)), Err(DecodeError::Type { .. })));
    assert!(decode(deep.as_bytes()).is_err());
    assert!(decode("{\"data\":[".repeat(200_000).as_bytes()).is_err());
}

#[test]
fn each_bad_member_is_named_with_its_remedy() {
    for (members, name, remedy) in [
        (r#""id":"2""#, "`id`", "once"),
        (r#""\u0069d":"2""#, "`id`", "once"),
        (r#""x":1,"x":1"#, "`x`", "once"),
        (r#""data":1,"data":2"#, "`data`", "once"),
        (r#""data":null,"data":2"#, "`data`", "once"),
        (r#""data":1,"data_base64":"""#, "`data_base64`", "one of them"),
        (r#""data_base64":"?""#, "`data_base64`", "standard alphabet"),
        (r#""data_base64":{}"#, "`data_base64`", "as a string"),
        (r#""data":{},"datacontenttype":"text/plain""#, "`data`", "write a string"),
        (r#""x":{}"#, "`x`", "a string, a number or a boolean"),
        (r#""x":[1]"#, "`x`", "a string, a number or a boolean"),
        (r#""x":2147483648"#, "`x`", "32-bit"),
        (r#""x":1.5"#, "`x`", "as a string"),
        (r#""x":1e999999999"#, "`x`", "as a string"),
        (r#""x":"\ud800""#, "`x`", "whole characters"),
        (r#""x":"\u0000""#, "`x`", "U+0000"),
        (r#""some-thing":1"#, "`some-thing`", "lower-case"),
        (r#""":1"#, "``", "lower-case"),
        (r#""subject":7"#, "`subject`", "as a string"),
        (r#""subject":"""#, "`subject`", "at least one character"),
        (r#""time":"2026-11-21""#, "`time`", "2026-11-21T03:04:05.678Z"),
        (r#""dataschema":"a b""#, "`dataschema`", "without spaces"),
        (r#""partitionkey":"""#, "`partitionkey`", "at least one character"),
        (r#""partitionkey":5"#, "`partitionkey`", "as a string"),
        (r#""place":"1.1.0/1","after":"0.0.0""#, "`partitionkey`", "add it"),
        (r#""partitionkey":"k","place":"1.1.0","after":"0.0.0""#, "`place`", "1.42.0/3"),
        (r#""partitionkey":"k","place":"1.1.0/1","after":"0.0.0","sequence":"1""#, "`sequence`", "leave it out"),
    ] {
        let said = with(members).expect_err(members).to_string();
        assert!(said.contains(name) && said.contains(remedy), "{members}: {said}");
    }
}

#[test]
fn each_missing_attribute_is_named() {
    for missing in ["specversion", "id", "source", "type"] {
        for instead in ["", r#""{}":null,"#] {
            let rest: Vec<_> = MINIMAL.split(',').filter(|member| !member.contains(missing)).collect();
            let text = format!("{{{}{}}}", instead.replace("{}", missing), rest.join(","));
            let said = decode(text.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(&format!("`{missing}` is missing")), "{said}");
        }
    }
}

#[test]
fn another_version_is_refused() {
    let error = decode(MINIMAL.replace("1.0", "0.3").replacen('"', "{\"", 1).as_bytes()).unwrap_err();
    assert_eq!(error, DecodeError::Version("0.3".to_owned()));
}

#[test]
fn what_is_no_json_object_is_refused_without_showing_it() {
    for bytes in [&b""[..], b"\"secret\"", b"[]", b"{", b"{}x", b"\xFF{}", b"{\"a\" 1}", b"\xEF\xBB\xBF{}"] {
        let said = decode(bytes).unwrap_err().to_string();
        assert!(!said.contains("secret"), "{said}");
    }
    assert_eq!(decode(b"{\"a\xFF\"}"), Err(DecodeError::NotUtf8(3)));
}

#[test]
fn a_time_stamp_is_rfc_3339() {
    let read = |time: &str| with(&format!(r#""time":"{time}""#)).map(|event| event.time().unwrap().to_string());
    assert_eq!(read("2026-11-21T03:04:05.123456789+01:00").unwrap(), "2026-11-21T02:04:05.123456789Z");
    assert_eq!(read("2026-11-21t03:04:05z").unwrap(), "2026-11-21T03:04:05Z");
    assert_eq!(read("2026-12-31T23:59:60Z").unwrap(), "2026-12-31T23:59:59Z");
    for bad in [
        "2026-11-21T03:04Z",
        "2026-11-21T03:04:05",
        "2026-11-21 03:04:05Z",
        "2026-11-21T03:04:05+01",
        "2026-11-21T03:04:05+01:00[Europe/Berlin]",
        "2026-02-30T00:00:00Z",
        "2026-11-21T03:04:05.Z",
        "now",
        "2026-11-21T03:04:05.1234567891Z",
        "",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_time_before_year_zero_survives() {
    let time = "-000044-03-15T12:00:00Z".parse().unwrap();
    let event = Event { time: Some(time), ..testing_event("t", None, 1) };
    assert_eq!(decode(encoded(&event).as_bytes()), Ok(event));
}

#[test]
fn a_hostile_name_is_shortened_in_the_message() {
    let said = with(&format!(r#""{}\n":1"#, "X".repeat(10_000))).unwrap_err().to_string();
    assert!(said.len() < 200 && !said.contains('\n'), "{said}");
}
