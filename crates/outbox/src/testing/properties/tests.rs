//! The properties, quickly: what the fuzzer looks for longer.

use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    Event,
    cloudevents::{Envelope, arbitrary, batch, http, json},
};

/// Bytes with a header a line, an empty line, the body.
fn message(headers: &[(String, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let lines = headers.iter().flat_map(|(name, value)| [name.as_bytes(), b":", value, b"\n"].concat());
    lines.chain(*b"\n").chain(body.iter().copied()).collect()
}

fn binary(event: &Event) -> Vec<(String, Vec<u8>)> {
    let headers = http::headers(event, Envelope { gapless: true, replay: None });
    headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect()
}

fn of_type(media_type: &str) -> (String, Vec<u8>) {
    (http::CONTENT_TYPE.to_owned(), media_type.as_bytes().to_vec())
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof!["(?i)ce-[a-z0-9é]{0,9}", "(?i)content-type", "content-encoding", any::<String>()];
    let value = prop_oneof![
        vec(any::<u8>(), 0..16),
        select(vec!["1.0", "/a", "application/json", "1.2.0/1", "%C0%A0", "\"\\", "application/cloudevents+json"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    (name, value)
}

/// Messages in each mode, some with a header too many, some that are nothing.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let structured = arbitrary::hostile(|event| json::encode(event, Envelope { gapless: true, replay: None }));
    let batched = arbitrary::hostile(|event| batch::encode([event, event], Envelope { gapless: true, replay: None }));
    let of_events = (arbitrary::event(), vec(header(), 0..2)).prop_map(|(event, more)| {
        let body = event.data().cloned().unwrap_or_default();
        message(&[binary(&event), more].concat(), &body)
    });
    prop_oneof![
        structured.prop_map(|body| message(&[of_type(json::MEDIA_TYPE)], &body)),
        batched.prop_map(|body| message(&[of_type(batch::MEDIA_TYPE)], &body)),
        of_events,
        (vec(header(), 0..6), vec(any::<u8>(), 0..64)).prop_map(|(headers, body)| message(&headers, &body)),
        vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #[test]
    fn an_event_comes_back_the_same_in_every_encoding(event in arbitrary::event()) {
        super::event(&event);
    }

    #[test]
    fn any_bytes_are_an_event_or_refused_with_a_reason(
        bytes in arbitrary::hostile(|event| json::encode(event, Envelope::default())),
    ) {
        super::structured_json(&bytes);
    }

    #[test]
    fn any_bytes_are_a_batch_or_refused_with_a_reason(
        bytes in arbitrary::hostile(|event| batch::encode([event, event], Envelope::default())),
    ) {
        super::batch_json(&bytes);
    }

    #[test]
    fn any_message_is_an_event_or_refused_with_a_reason(bytes in any_message()) {
        super::http_message(&bytes);
    }

    #[test]
    fn any_short_text_is_what_it_says_or_refused_with_a_reason(
        text in prop_oneof![
            any::<String>(),
            "[0-9]{0,4}\\.[0-9]{0,21}\\.[0-9]{0,11}(/[0-9]{0,11})?( [0-9]{1,3}\\.[0-9]{1,21}\\.0)?",
            "[ke]:.{0,8}",
            "[0-9]{1,20}:[0-9a-f]{32}",
            "[a-z0-9._/-]{0,80}",
            r#"\{"(types|keys|x)":\["[a-z.*?]{0,8}"\]\}"#,
        ],
    ) {
        super::text(&text);
    }
}

#[cfg(any(feature = "webhook", feature = "receiver"))]
proptest! {
    #[test]
    fn a_signature_is_believed_of_what_was_signed_and_of_nothing_else(
        id in prop_oneof!["[a-zA-Z0-9_/@%-]{0,40}", "whsec_[A-Za-z0-9+/]{30,90}={0,2}", any::<String>()],
        timestamp in prop_oneof!["[1-9][0-9]{0,18}", any::<String>()],
        signatures in prop_oneof!["v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{0,50})?", any::<String>()],
        body in prop_oneof!["[1-9][0-9]{0,9}\\.[a-z0-9]{0,5}".prop_map(String::into_bytes), vec(any::<u8>(), 0..40)],
    ) {
        let line = |text: &str| format!("{}\n", text.replace('\n', " "));
        super::signature(&[line(&id).as_bytes(), line(&timestamp).as_bytes(), line(&signatures).as_bytes(), &body].concat());
    }
}

#[cfg(feature = "receiver")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_request_is_answered_as_the_receiver_says(bytes in any_message()) {
        super::receiver(&bytes);
    }
}

#[cfg(all(feature = "webhook", feature = "receiver"))]
proptest! {
    #[test]
    fn any_answer_is_outcomes_or_an_error_with_a_remedy(
        status in prop_oneof![Just(7_u16), 0..400_u16],
        events in 0..4_u8,
        headers in vec(
            (
                select(vec!["content-type", "retry-after", "x"]),
                prop_oneof![
                    Just("application/vnd.outbox.outcomes+json".to_owned()),
                    "[0-9]{1,22}",
                    Just("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
                    "[ -~]{0,30}",
                ],
            ),
            0..3,
        ),
        outcomes in vec((prop_oneof![any::<u16>(), 200..600_u16], any::<Option<String>>(), any::<Option<u64>>()), 0..4),
        damage in any::<Option<prop::sample::Index>>(),
    ) {
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|(status, reason, after)| serde_json::json!({"status": status, "reason": reason, "retry_after": after}))
            .collect();
        let mut body = serde_json::json!({ "outcomes": outcomes }).to_string().into_bytes();
        if let Some(damage) = damage {
            body.truncate(damage.index(body.len()));
        }
        let [high, low] = status.to_be_bytes();
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
        super::webhook_answer(&[&[high, low, events], &*message(&headers, &body)].concat());
    }
}
