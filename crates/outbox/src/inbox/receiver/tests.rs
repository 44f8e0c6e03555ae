use std::{future::pending, sync::Mutex};

use axum::http::Request as HttpRequest;
use futures_util::stream;
use jiff::Timestamp;
use tower::Layer;

use super::*;
use crate::{
    cloudevents::Envelope,
    error::ErrorKind,
    inbox::{Answer, Chosen, InboxLayer, InboxService, Waits, memory},
    inbox_store::KeptMessage,
    memory::ManualClock,
    signature::{Secret, Verifier, sign},
    testing_event,
};

type Store = memory::MemoryInbox<Vec<String>>;

/// An inbox whose handler gives up on events of type `bad`, and a receiver before it.
fn receiver(mode: fn(Store) -> InboxLayer<Store>, settings: ReceiverSettings) -> (Router, Store) {
    let store = Store::new();
    let handler = memory::handler_fn(|seen: &mut Vec<String>, event: &Event| {
        seen.push(event.id().to_owned());
        if event.kind() == "bad" { Answer::give_up("bad") } else { Answer::Done }
    });
    (router(mode(store.clone()).layer(handler), settings), store)
}

fn post(content_type: &str, body: impl Into<Body>) -> HttpRequest<Body> {
    HttpRequest::post("/events").header("content-type", content_type).body(body.into()).unwrap()
}

fn structured(event: &Event) -> HttpRequest<Body> {
    post(json::MEDIA_TYPE, json::encode(event, Envelope { gapless: true, replay: None }))
}

fn batched(events: &[Event]) -> HttpRequest<Body> {
    post(BATCH, crate::cloudevents::batch::encode(events, Envelope { gapless: true, replay: None }))
}

const BATCH: &str = crate::cloudevents::batch::MEDIA_TYPE;

fn event(key: &str, sequence: u64) -> Event {
    testing_event("sample", Some(key), sequence)
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: serde_json::Value,
}

async fn ask(router: &Router, request: HttpRequest<Body>) -> Answered {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = if body.is_empty() { serde_json::Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Answered { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn status(router: &Router, request: HttpRequest<Body>) -> u16 {
    ask(router, request).await.status
}

#[tokio::test]
async fn an_event_in_each_encoding_is_applied() {
    let (router, store) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    assert_eq!(status(&router, structured(&event("a", 1))).await, 204);
    assert_eq!(status(&router, batched(&[event("a", 2), event("a", 3)])).await, 204);
    let mut binary = HttpRequest::post("/events");
    for (name, value) in binding::headers(&event("a", 4), Envelope { gapless: true, replay: None }) {
        binary = binary.header(name, value);
    }
    assert_eq!(status(&router, binary.body(event("a", 4).data().unwrap().clone().into()).unwrap()).await, 204);
    assert_eq!(store.state(), ["a@1.1.0", "a@1.2.0", "a@1.3.0", "a@1.4.0"]);
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_as_the_first_was() {
    let (router, store) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    assert_eq!(status(&router, structured(&event("a", 1))).await, 204);
    assert_eq!(status(&router, structured(&event("a", 1))).await, 204);
    assert_eq!(store.state().len(), 1);
}

#[tokio::test]
async fn what_is_kept_is_acknowledged_as_accepted() {
    let (router, _) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    assert_eq!(status(&router, structured(&event("early", 2))).await, 202);
    assert_eq!(status(&router, structured(&testing_event("bad", Some("b"), 1))).await, 202);
    assert_eq!(status(&router, batched(&[event("a", 1), event("early", 3)])).await, 202);
}

/// An inbox whose store fails.
#[derive(Clone)]
struct Failing(ErrorKind);

impl Service<Vec<Incoming>> for Failing {
    type Response = Vec<Applied>;
    type Error = StoreError;
    type Future = std::future::Ready<Result<Vec<Applied>, StoreError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), StoreError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Vec<Incoming>) -> Self::Future {
        std::future::ready(Err(StoreError::new(self.0, "secret path /var/lib/consumer.db")))
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_the_store_did_not_take() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Full, ErrorKind::Invalid] {
        let answer = ask(&router(Failing(kind), ReceiverSettings::default()), structured(&event("a", 1))).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("retry-after"));
        assert!(!answer.body.to_string().contains("secret"), "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_does_not_answer_in_time_acknowledges_nothing() {
    let slow = tower::service_fn(|_: Vec<Incoming>| pending::<Result<Vec<Applied>, StoreError>>());
    assert_eq!(status(&router(slow, ReceiverSettings::default()), structured(&event("a", 1))).await, 503);
}

/// An inbox that takes as long as the gate is closed, and what it has finished.
#[derive(Clone)]
struct Slow {
    gate: Arc<Semaphore>,
    begun: Arc<Semaphore>,
    finished: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Self {
        let none = || Arc::new(Semaphore::new(0));
        Self { gate: none(), begun: none(), finished: none() }
    }
}

impl Service<Vec<Incoming>> for Slow {
    type Response = Vec<Applied>;
    type Error = StoreError;
    type Future = crate::inbox::AppliedFuture<Vec<Applied>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), StoreError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Vec<Incoming>) -> Self::Future {
        let slow = self.clone();
        Box::pin(async move {
            slow.begun.add_permits(1);
            slow.gate.acquire().await.unwrap().forget();
            slow.finished.add_permits(1);
            Ok(vec![Applied::Applied; incoming.len()])
        })
    }
}

async fn reached(point: &Semaphore) {
    tokio::time::timeout(Duration::from_secs(600), point.acquire()).await.expect("it gets there").unwrap().forget();
}

#[tokio::test(start_paused = true)]
async fn what_the_inbox_has_begun_it_finishes_though_the_answer_is_late() {
    let slow = Slow::new();
    let router = router(slow.clone(), ReceiverSettings { max_requests: 1, ..Default::default() });
    assert_eq!(status(&router, structured(&event("a", 1))).await, 503);
    let waiting = ask(&router, structured(&event("a", 2))).await;
    assert!(waiting.body["detail"].as_str().unwrap().contains("too many"), "what runs still counts: {}", waiting.body);
    slow.gate.add_permits(1);
    reached(&slow.finished).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_inbox_has_begun_it_finishes_though_the_sender_hung_up() {
    let slow = Slow::new();
    let router = router(slow.clone(), ReceiverSettings::default());
    let sender = tokio::spawn(router.oneshot(structured(&event("a", 1))));
    reached(&slow.begun).await;
    sender.abort();
    assert!(sender.await.is_err());
    slow.gate.add_permits(1);
    reached(&slow.finished).await;
}

#[tokio::test]
async fn an_event_that_a_rule_refuses_stays_with_its_sender_and_so_does_its_key() {
    let screened = ReceiverSettings::default().screen(|event| {
        if event.id() == "b@1.1.0" { Err("more units than the ledger takes".to_owned()) } else { Ok(()) }
    });
    let (router, store) = receiver(InboxLayer::once, screened);
    let alone = ask(&router, structured(&event("b", 1))).await;
    assert_eq!((alone.status, alone.body["detail"].as_str()), (422, Some("more units than the ledger takes")));
    let answer = ask(&router, batched(&[event("a", 1), event("b", 1), event("b", 2), event("c", 1)])).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.headers["content-type"], "application/vnd.outbox.outcomes+json");
    let statuses: Vec<_> =
        answer.body["outcomes"].as_array().unwrap().iter().map(|outcome| outcome["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [204, 422, 429, 204]);
    assert_eq!(store.state(), ["a@1.1.0", "c@1.1.0"]);
}

#[tokio::test]
async fn a_route_with_gaps_is_told_so_and_nothing_is_recorded() {
    let (router, store) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    let with_gaps = |event: &Event| post(json::MEDIA_TYPE, json::encode(event, Envelope::default()));
    let answer = ask(&router, with_gaps(&event("a", 1))).await;
    assert!(answer.status == 403 && answer.body["detail"].as_str().unwrap().contains("gapless"), "{}", answer.body);
    let some = [
        json::encode(&event("a", 1), Envelope { gapless: true, replay: None }),
        json::encode(&event("b", 1), Envelope::default()),
    ];
    let body = format!("[{},{}]", String::from_utf8_lossy(&some[0]), String::from_utf8_lossy(&some[1]));
    let answer = ask(&router, post(BATCH, body)).await;
    assert_eq!((answer.status, &answer.body["outcomes"][1]["status"]), (207, &429.into()));
    assert_eq!(store.state(), ["a@1.1.0"]);
}

#[tokio::test]
async fn an_event_without_the_place_that_the_mode_needs_is_refused_for_good() {
    let (router, _) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    assert_eq!(status(&router, structured(&testing_event("t", None, 1))).await, 422);
}

const SECRET: &str = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const NOW: i64 = 1_800_000_000;

fn signed_settings() -> ReceiverSettings {
    let verifier = Verifier::new(vec![SECRET.parse().unwrap()], Duration::from_secs(300));
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(NOW).unwrap()));
    ReceiverSettings { clock, ..ReceiverSettings::signed(verifier) }
}

fn signed(secret: &str, timestamp: i64, body: &[u8], sent: &[u8]) -> HttpRequest<Body> {
    let secret: Secret = secret.parse().unwrap();
    let mut request = post(json::MEDIA_TYPE, sent.to_vec());
    let headers = request.headers_mut();
    headers.insert("webhook-id", "call-1".parse().unwrap());
    headers.insert("webhook-timestamp", timestamp.to_string().parse().unwrap());
    headers.insert("webhook-signature", sign(&secret, "call-1", timestamp, body).parse().unwrap());
    request
}

#[tokio::test]
async fn only_what_is_signed_now_by_a_known_secret_over_this_body_is_believed() {
    let (router, store) = receiver(InboxLayer::in_order, signed_settings());
    let body = json::encode(&event("a", 1), Envelope { gapless: true, replay: None });
    let other = json::encode(&event("a", 2), Envelope { gapless: true, replay: None });
    let stranger = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for wrong in [
        structured(&event("a", 1)),
        signed(SECRET, NOW - 301, &body, &body),
        signed(SECRET, NOW + 301, &body, &body),
        signed(SECRET, NOW, &body, &other),
        signed(stranger, NOW, &body, &body),
    ] {
        let answer = ask(&router, wrong).await;
        assert_eq!(answer.status, 401);
        assert!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    assert!(store.state().is_empty());
    assert_eq!(status(&router, signed(SECRET, NOW - 299, &body, &body)).await, 204);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_it_says_so_or_not() {
    let (router, store) = receiver(InboxLayer::in_order, ReceiverSettings { max_body: 100, ..Default::default() });
    let mut honest = structured(&event("a", 1));
    honest.headers_mut().insert("content-length", "1000000000".parse().unwrap());
    assert_eq!(status(&router, honest).await, 413);
    let chunks = stream::iter((0..10).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 20]))));
    assert_eq!(status(&router, post(json::MEDIA_TYPE, Body::from_stream(chunks))).await, 413);
    assert!(store.state().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let (router, _) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(status(&router, post(json::MEDIA_TYPE, endless)).await, 408);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_what_fits_wait_and_are_asked_to_come_again() {
    let settings = ReceiverSettings { max_requests: 1, body_within: Duration::from_secs(1000), ..Default::default() };
    let (router, _) = receiver(InboxLayer::in_order, settings);
    let endless = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let first = tokio::spawn(router.clone().oneshot(post(json::MEDIA_TYPE, endless)));
    tokio::task::yield_now().await;
    assert_eq!(status(&router, structured(&event("a", 1))).await, 503);
    first.abort();
    assert!(first.await.is_err());
    assert_eq!(status(&router, structured(&event("a", 1))).await, 204);
}

#[tokio::test]
async fn other_methods_and_content_types_are_refused_with_what_to_send() {
    let (router, _) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    let answer = ask(&router, HttpRequest::get("/events").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], 405);
    for (content_type, status_wanted) in [("text/plain", 415), ("application/cloudevents+xml", 415)] {
        assert_eq!(status(&router, post(content_type, "hello")).await, status_wanted, "{content_type}");
    }
    let mut compressed = structured(&event("a", 1));
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(status(&router, compressed).await, 415);
}

#[tokio::test]
async fn rubbish_of_a_stranger_is_refused_and_leaves_nothing() {
    let (router, store) = receiver(InboxLayer::in_order, ReceiverSettings::default());
    assert_eq!(status(&router, post(json::MEDIA_TYPE, "{oops")).await, 400);
    assert_eq!(status(&router, post(json::MEDIA_TYPE, "")).await, 400);
    let good = String::from_utf8(json::encode(&event("a", 1), Envelope { gapless: true, replay: None })).unwrap();
    let answer = ask(&router, post(BATCH, format!("[{{}},{good}]"))).await;
    assert_eq!(answer.status, 207);
    assert_eq!(answer.body["outcomes"][0]["status"], 400);
    assert_eq!(store.state(), ["a@1.1.0"]);
}

#[tokio::test]
async fn rubbish_of_a_known_sender_is_kept_byte_for_byte() {
    let settings = ReceiverSettings { undecodable: Undecodable::DeadLetter, ..Default::default() };
    let store = Store::new();
    let inbox: InboxService<Store, _> =
        InboxLayer::in_order(store.clone()).layer(memory::handler_fn(|_: &mut Vec<String>, _: &Event| Answer::Done));
    let router = router(inbox.clone(), settings);
    assert_eq!(status(&router, post(json::MEDIA_TYPE, "{oops")).await, 202);
    let good = String::from_utf8(json::encode(&event("a", 1), Envelope { gapless: true, replay: None })).unwrap();
    assert_eq!(status(&router, post(BATCH, format!(r#"[{{"id": "half" }},{good}]"#))).await, 202);
    let kept = inbox.operator().dead_letters(&Chosen::default(), 10).await.unwrap();
    let bodies: HashSet<_> = kept
        .iter()
        .map(|kept| match &kept.first.message {
            KeptMessage::Raw { message, .. } => String::from_utf8(message.body.to_vec()).unwrap(),
            KeptMessage::Event(event) => panic!("{event:?} was decoded"),
        })
        .collect();
    assert_eq!(bodies, HashSet::from(["{oops".to_owned(), r#"{"id": "half" }"#.to_owned()]));
}

#[tokio::test]
async fn a_layer_around_the_inbox_sees_every_request() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let outer = {
        let seen = seen.clone();
        tower::service_fn(move |incoming: Vec<Incoming>| {
            seen.lock().unwrap().push(incoming.len());
            std::future::ready(Ok::<_, StoreError>(vec![Applied::Parked(Waits::Claim); incoming.len()]))
        })
    };
    let router = router(outer, ReceiverSettings::default());
    assert_eq!(status(&router, batched(&[event("a", 1), event("b", 1)])).await, 202);
    assert_eq!(*seen.lock().unwrap(), [2]);
}

#[tokio::test]
async fn a_body_may_have_as_many_bytes_as_the_limit_says_and_no_more() {
    let mut length = HeaderMap::new();
    length.insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("10"));
    let whole = || Body::from("0123456789");
    let halves = || Body::from_stream(stream::iter(["01234", "56789"].map(Ok::<_, std::io::Error>)));
    for (limit, fits) in [(9, false), (10, true), (11, true)] {
        assert_eq!(check_length(&length, limit).is_ok(), fits);
        assert_eq!(read(whole(), limit).await.is_ok(), fits);
        assert_eq!(read(halves(), limit).await.is_ok(), fits);
    }
}

#[test]
fn a_message_is_kept_with_the_headers_that_say_what_it_is() {
    let mut headers = HeaderMap::new();
    for name in ["content-type", "ce-id", "authorization", "accept"] {
        headers.insert(name, header::HeaderValue::from_static("value"));
    }
    let mut kept: Vec<_> = raw(&headers, Bytes::new()).headers.into_iter().map(|(name, _)| name).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["ce-id", "content-type"]);
}

#[test]
fn a_body_that_is_as_it_is_may_say_so() {
    for (encoding, taken) in [("identity", true), ("gzip", false)] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static(encoding));
        assert_eq!(check_encoding(&headers).is_ok(), taken);
    }
}
