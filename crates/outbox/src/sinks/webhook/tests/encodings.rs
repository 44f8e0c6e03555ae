//! What is sent.

use super::*;

async fn sent(settings: impl FnOnce(&Server) -> WebhookSettings, batch: &Batch) -> server::Received {
    let mut server = Server::start(Reply::status("202 Accepted", "", "")).await;
    sink(settings(&server)).publish(batch).await.unwrap();
    server.next().await
}

fn event(new: NewEvent) -> Event {
    let identity = Identity { source: &"/tests".into(), placing: None, recorded: None, fallback_id: "1" };
    Event::from_new(new, identity).unwrap()
}

fn one(event: Event) -> Batch {
    Batch { events: vec![EventRef::single(event)], gapless: true, replay: None }
}

fn binary(server: &Server) -> WebhookSettings {
    WebhookSettings { encoding: Encoding::Binary, ..settings(server) }
}

fn decode(request: &server::Received) -> Event {
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    match http::decode(headers, request.body.clone().into()).unwrap() {
        http::Received::One(event) => event,
        http::Received::Batch(events) => panic!("{events:?}"),
    }
}

#[tokio::test]
async fn structured_encoding_posts_one_json_object() {
    let request = sent(settings, &batch(7..=7)).await;
    assert_eq!(request.line, "POST /events");
    assert_eq!(request.header("content-type"), "application/cloudevents+json");
    assert_eq!(json::decode(&request.body).unwrap().id(), "k@1.7.0");
}

#[tokio::test]
async fn batch_encoding_posts_an_array_in_the_batchs_order() {
    let request = sent(batches, &batch(1..=3)).await;
    assert_eq!(request.header("content-type"), "application/cloudevents-batch+json");
    let events = cloudevents_batch::decode(&request.body).unwrap();
    let ids: Vec<_> = events.into_iter().map(|event| event.unwrap().id().to_owned()).collect();
    assert_eq!(ids, ["k@1.1.0", "k@1.2.0", "k@1.3.0"]);
}

#[tokio::test]
async fn binary_encoding_posts_the_payload_and_percent_encodes_attributes() {
    let new = NewEvent::builder("t").key("käse 100%").bytes("application/avro", vec![0, 159, 255]).build().unwrap();
    let request = sent(binary, &one(event(new))).await;
    assert_eq!(request.header("content-type"), "application/avro");
    assert_eq!(request.header("ce-partitionkey"), "k%C3%A4se%20100%25");
    assert_eq!(request.body, [0, 159, 255]);
    assert_eq!(decode(&request).key().unwrap().as_str(), "käse 100%");
}

#[tokio::test]
async fn binary_encoding_posts_an_event_without_payload() {
    let request = sent(binary, &one(event(NewEvent::builder("t").build().unwrap()))).await;
    assert!(request.body.is_empty());
    assert_eq!(decode(&request).kind(), "t");
}

#[tokio::test]
async fn an_event_whose_content_type_cannot_be_a_header_is_posted_structured() {
    for content_type in ["text/käse", "application/cloudevents+json"] {
        let new = NewEvent::builder("t").bytes(content_type, "{}").build().unwrap();
        let request = sent(binary, &one(event(new))).await;
        assert_eq!(request.header("content-type"), json::MEDIA_TYPE);
        assert!(request.body.len() <= request::size(&decode(&request), Encoding::Binary));
        assert_eq!(decode(&request).content_type(), Some(content_type));
    }
}

#[tokio::test]
async fn encodings_of_one_event_refuse_to_be_called_with_several() {
    for encoding in [Encoding::Binary, Encoding::Structured] {
        let mut server = Server::start(Reply::status("202 Accepted", "", "")).await;
        let sink = sink(WebhookSettings { encoding, ..settings(&server) });
        assert_eq!(sink.publish(&batch(1..=2)).await.unwrap_err().fault, Fault::Event);
        assert!(server.is_quiet());
    }
}

#[tokio::test]
async fn configured_headers_are_sent() {
    let with_header = |server: &Server| WebhookSettings {
        headers: vec![("Authorization".into(), "Bearer abc".into())],
        ..settings(server)
    };
    assert_eq!(sent(with_header, &batch(1..=1)).await.header("authorization"), "Bearer abc");
}

#[tokio::test]
async fn every_encoding_is_signed_over_exactly_its_body() {
    for encoding in [Encoding::Binary, Encoding::Structured, Encoding::Batch] {
        let signed =
            |server: &Server| WebhookSettings { encoding, secrets: vec![SECRET.parse().unwrap()], ..settings(server) };
        let request = sent(signed, &batch(1..=1)).await;
        believed(&request, SECRET).unwrap();
        assert_eq!(request.header("webhook-id"), "k@1%2E1%2E0");
        assert_eq!(request.header("webhook-timestamp"), NOW.to_string());
    }
}

#[tokio::test]
async fn during_a_rotation_requests_carry_a_signature_by_each_secret() {
    let signed = |server: &Server| WebhookSettings {
        secrets: vec![SECRET.parse().unwrap(), OTHER_SECRET.parse().unwrap()],
        ..settings(server)
    };
    let request = sent(signed, &batch(1..=1)).await;
    believed(&request, SECRET).unwrap();
    believed(&request, OTHER_SECRET).unwrap();
}

#[tokio::test]
async fn without_secrets_requests_have_an_id_and_a_time_but_no_signature() {
    let request = sent(settings, &batch(1..=1)).await;
    assert_eq!(request.header("webhook-id"), "k@1%2E1%2E0");
    assert!(request.has("webhook-timestamp") && !request.has("webhook-signature"));
}

fn believed(request: &server::Received, secret: &str) -> Result<(), crate::signature::SignatureError> {
    Verifier::new(vec![secret.parse().unwrap()], Duration::from_secs(1)).verify(
        request.header("webhook-id"),
        request.header("webhook-timestamp"),
        request.header("webhook-signature"),
        &request.body,
        Timestamp::from_second(NOW).unwrap(),
    )
}

#[tokio::test]
async fn no_event_is_larger_than_its_stated_size() {
    let new = || NewEvent::builder("t\u{e9}\"").key("käse %").subject("s\"\\ 100%").extension("ext", "\u{1F600}");
    let payloads = [new(), new().json(&"x\u{e9}"), new().bytes("application/octet-stream", vec![255; 100])];
    for event in payloads.map(|builder| event(builder.build().unwrap())) {
        let replay = Some("r".repeat(64).into());
        let batch = Batch { replay, ..one(event) };
        for encoding in [Encoding::Binary, Encoding::Structured, Encoding::Batch] {
            let encoded = |server: &Server| WebhookSettings { encoding, ..settings(server) };
            let request = sent(encoded, &batch).await;
            let attributes =
                request.headers.iter().filter(|(name, _)| name.starts_with("ce-") || name == "content-type");
            let headers: usize = match encoding {
                Encoding::Binary => attributes.map(|(name, value)| name.len() + value.len() + 4).sum(),
                Encoding::Structured | Encoding::Batch => 0,
            };
            // A batch's brackets are not the event's.
            let framing = usize::from(encoding == Encoding::Batch);
            let stated = request::size(&batch.events[0], encoding);
            assert!(request.body.len() - framing + headers <= stated, "{encoding:?}");
        }
    }
}

/// An event with as much of everything as there can be.
fn largest(text: &str, payload: (&'static str, Vec<u8>), extensions: usize) -> NewEvent {
    let attribute = || text.repeat(1024 / text.len());
    let builder = NewEvent::builder(attribute()).id(attribute()).key(text.repeat(512 / text.len()));
    let builder = builder.subject(attribute()).bytes(payload.0, payload.1);
    let named = (0..extensions).fold(builder, |builder, number| builder.extension(format!("x{number}"), attribute()));
    named.build().unwrap()
}

#[test]
fn what_the_writer_takes_for_a_limit_fits_in_every_encoding() {
    let limits = |max_event_bytes| crate::SinkLimits {
        ordered_calls: true,
        max_events: 1,
        max_bytes: max_event_bytes,
        max_event_bytes,
        max_calls: 1,
    };
    for max_event_bytes in [32 << 10, 256 << 10, 1 << 20] {
        let limit = usize::try_from(limits(max_event_bytes).max_counted_bytes()).unwrap();
        for text in ["x", "\"", "\\", " ", "\u{e9}", "\u{1F600}"] {
            for extensions in [0, 1, 50] {
                let without = crate::writer::counted_bytes(&largest(text, ("a/b", Vec::new()), extensions));
                let Some(rest) = limit.checked_sub(without) else { continue };
                let embedded = format!("\"{}\"", "y".repeat(rest - 2)).into_bytes();
                let over_lines = format!("[{}]", "\n".repeat(rest - 2)).into_bytes();
                for payload in [("a/b", vec![255; rest]), ("application/json", embedded), ("a/json", over_lines)] {
                    let new = largest(text, payload, extensions);
                    assert_eq!(crate::writer::counted_bytes(&new), limit);
                    let source = "/".repeat(1024).into();
                    let placing = Some(crate::Placing {
                        place: crate::Place::new(u32::MAX, u64::MAX, 998),
                        count: 999,
                        after: crate::Place::new(u32::MAX, u64::MAX - 1, 0),
                    });
                    let identity = Identity { source: &source, placing, recorded: None, fallback_id: "1" };
                    let event = Event::from_new(new, identity).unwrap();
                    for encoding in [Encoding::Binary, Encoding::Structured, Encoding::Batch] {
                        let size = request::size(&event, encoding);
                        assert!(size <= max_event_bytes, "{encoding:?}, {text}, {extensions}: {size}");
                    }
                }
            }
        }
    }
}
