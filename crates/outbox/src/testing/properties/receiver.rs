//! Requests to a receiver.

use std::{cell::RefCell, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request, StatusCode},
};
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt};

use super::{message::Message, payload::hides, told};
use crate::{
    event::Event,
    inbox::{Answer, InboxLayer, memory, receiver},
    memory::ManualClock,
    signature::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER, Verifier, sign},
};

type Store = memory::MemoryInbox<Vec<String>>;

const SECRET: &str = "whsec_b3V0Ym94J3MgcHJvcGVydGllcywgZmlyc3Qgc2VjcmV0";
const NOW: i64 = 1_800_000_000;
const MAX_BODY: usize = 64 * 1024;

/// A message of the HTTP binding (a header a line, an empty line, the body), to a receiver that believes everybody and
/// to one that believes who signs. It comes twice, and is applied at most once.
///
/// # Panics
/// If a property does not hold.
pub fn receiver(bytes: &[u8]) {
    thread_local!(static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) });
    let message = Message::of(bytes);
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| match Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        });
        runtime.block_on(async {
            open(&message, bytes).await;
            signed(&message, bytes).await;
        });
    });
}

async fn open(message: &Message<'_>, bytes: &[u8]) {
    let (router, store) = consumer(receiver::ReceiverSettings { max_body: MAX_BODY, ..Default::default() });
    let first = answered(&router, message, &[], bytes).await;
    let applied = store.state();
    let second = answered(&router, message, &[], bytes).await;
    assert_eq!(first.is_success(), second.is_success(), "{first}, then {second}");
    assert_eq!(store.state(), applied, "applied again");
    let mut once = applied.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), applied.len(), "applied twice");
}

async fn signed(message: &Message<'_>, bytes: &[u8]) {
    let (Ok(secret), Ok(now)) = (SECRET.parse::<Secret>(), Timestamp::from_second(NOW)) else {
        panic!("the secret of this test is none")
    };
    let settings = || receiver::ReceiverSettings {
        max_body: MAX_BODY,
        clock: std::sync::Arc::new(ManualClock::new(now)),
        ..receiver::ReceiverSettings::signed(Verifier::new(vec![secret.clone()], Duration::from_secs(300)))
    };
    let (router, store) = consumer(settings());
    let unsigned = answered(&router, message, &[], bytes).await;
    assert!(!unsigned.is_success() && store.state().is_empty(), "an unsigned request was taken: {unsigned}");
    let signature = sign(&secret, "call", NOW, message.body);
    let headers = [(ID_HEADER, "call"), (TIMESTAMP_HEADER, &*NOW.to_string()), (SIGNATURE_HEADER, &*signature)];
    let (router, _) = consumer(settings());
    let status = answered(&router, message, &headers, bytes).await;
    assert!(status != StatusCode::UNAUTHORIZED, "a signed request was not believed");
}

fn consumer(settings: receiver::ReceiverSettings) -> (Router, Store) {
    let store = Store::new();
    let handler = memory::handler_fn(|seen: &mut Vec<String>, event: &Event| {
        seen.push(format!("{} {:?} {:?} {}", event.source(), event.key(), event.placing(), event.id()));
        if event.kind() == "bad" { Answer::give_up("bad") } else { Answer::Done }
    });
    (receiver::router(InboxLayer::in_order(store.clone()).layer(handler), settings), store)
}

/// Sends the message with `signed` in place of what it says itself under these names.
async fn answered(router: &Router, message: &Message<'_>, signed: &[(&str, &str)], bytes: &[u8]) -> StatusCode {
    let mut request = Request::new(Body::from(message.body.to_vec()));
    *request.method_mut() = axum::http::Method::POST;
    *request.uri_mut() = axum::http::Uri::from_static("/events");
    for (name, value) in &message.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
        }
    }
    for (name, value) in signed {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            request.headers_mut().insert(name, value);
        }
    }
    let Ok(response) = router.clone().oneshot(request).await;
    let status = response.status();
    let known = [204, 202, 207, 400, 401, 403, 413, 415, 422];
    assert!(known.contains(&status.as_u16()), "answered {status}");
    let Ok(answer) = axum::body::to_bytes(response.into_body(), usize::MAX).await else { panic!("no answer") };
    if !answer.is_empty() {
        explained(&answer, message, bytes);
    }
    status
}

/// An answer that has a body says in JSON, a reason at a time, what is wrong, and shows nothing of what was sent.
fn explained(answer: &[u8], message: &Message<'_>, bytes: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(answer) else { panic!("an answer that is no JSON") };
    let reasons = answer["outcomes"].as_array().map(|outcomes| outcomes.iter().map(|outcome| &outcome["reason"]));
    let reasons = reasons.map_or_else(|| vec![&answer["detail"]], Iterator::collect);
    for reason in reasons.into_iter().filter_map(serde_json::Value::as_str) {
        told(reason);
        if let Ok(body) = std::str::from_utf8(message.body) {
            hides(body, &String::from_utf8_lossy(bytes), reason);
            super::hides_payload(body, body, reason);
        }
    }
}
