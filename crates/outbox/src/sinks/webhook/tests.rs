use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;

use super::*;
use crate::{
    EventRef, Moment, NewEvent,
    cloudevents::{batch as cloudevents_batch, http, json},
    event::Identity,
    signature::Verifier,
    testing_event,
};

mod encodings;
mod server;
mod tls;

use server::{Reply, Server};

const NOW: i64 = 1_614_265_330;
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct Stopped;

impl Clock for Stopped {
    fn moment(&self) -> Moment {
        Moment::default()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }
}

fn sink(settings: WebhookSettings) -> WebhookSink {
    WebhookSink::new(settings, Arc::new(Stopped)).unwrap()
}

fn settings(server: &Server) -> WebhookSettings {
    WebhookSettings::new(server.url())
}

fn batches(server: &Server) -> WebhookSettings {
    WebhookSettings { encoding: Encoding::Batch, ..settings(server) }
}

fn batch(numbers: std::ops::RangeInclusive<u64>) -> Batch {
    let events = numbers.map(|n| EventRef::single(testing_event("t", Some("k"), n))).collect();
    Batch { events, gapless: true, replay: None }
}

async fn answered(status: &str, headers: &str, body: &str) -> Result<Vec<Outcome>, SinkError> {
    let server = Server::start(Reply::status(status, headers, body)).await;
    sink(settings(&server)).publish(&batch(1..=1)).await
}

async fn failed(status: &str, headers: &str) -> SinkError {
    answered(status, headers, "why").await.unwrap_err()
}

#[tokio::test]
async fn success_accepts_every_event() {
    assert_eq!(answered("204 No Content", "", "").await.unwrap(), [Outcome::Accepted]);
    let server = Server::start(Reply::status("202 Accepted", "", "thanks")).await;
    let outcomes = sink(batches(&server)).publish(&batch(1..=3)).await.unwrap();
    assert_eq!(outcomes, vec![Outcome::Accepted; 3]);
}

#[tokio::test]
async fn a_bad_event_is_refused_for_good_with_what_the_target_said() {
    let outcomes = answered("422 Unprocessable Entity", "", "units must\nbe positive\u{7}").await.unwrap();
    let [Outcome::Refused { permanent: true, reason }] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(reason, "422 Unprocessable Entity: units must be positive");
}

#[tokio::test]
async fn a_refused_batch_of_several_blames_an_event_without_saying_which() {
    let server = Server::start(Reply::status("400 Bad Request", "", "")).await;
    let sink = sink(batches(&server));
    assert_eq!(sink.publish(&batch(1..=2)).await.unwrap_err().fault, Fault::Event);
    let outcomes = sink.publish(&batch(1..=1)).await.unwrap();
    assert!(matches!(outcomes[..], [Outcome::Refused { permanent: true, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn missing_rights_are_the_sinks_fault_with_the_remedy() {
    let error = failed("401 Unauthorized", "").await;
    assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
    assert!(error.message.contains("401") && error.message.contains("credentials"), "{error}");
}

#[tokio::test]
async fn what_a_target_says_is_in_no_message_of_a_failed_call_for_it_may_be_a_payload() {
    let echo = "card 4111-1111";
    let mut said = Vec::new();
    for status in ["302 Found", "401 Unauthorized", "404 Not Found", "429 Too Many Requests", "500 Oh"] {
        said.push(answered(status, "", echo).await.unwrap_err());
    }
    for body in
        [format!(r#"{{"outcomes":"{echo}"}}"#), format!(r#"{{"outcomes":[{{"status":"{echo}"}}]}}"#), echo.into()]
    {
        let server = Server::start(outcomes_reply(&body)).await;
        said.push(sink(batches(&server)).publish(&batch(1..=1)).await.unwrap_err());
    }
    // Of several events nobody knows yet whom it is about.
    let server = Server::start(Reply::status("422 Unprocessable Entity", "", echo)).await;
    said.push(sink(batches(&server)).publish(&batch(1..=2)).await.unwrap_err());
    for error in said {
        assert!(!format!("{error:?}").contains("4111"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_error_is_unknown_and_uncertain() {
    let error = failed("500 Internal Server Error", "").await;
    assert_eq!((error.fault, error.uncertain, error.retry_after), (Fault::Unknown, true, None));
}

#[tokio::test]
async fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let error = failed("503 Service Unavailable", "retry-after: 7\r\n").await;
    assert_eq!((error.fault, error.retry_after), (Fault::Unknown, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn a_throttle_asks_for_seconds() {
    let error = failed("429 Too Many Requests", "Retry-After: 30\r\n").await;
    assert_eq!((error.fault, error.uncertain), (Fault::Throttle, false));
    assert_eq!(error.retry_after, Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_throttle_asks_for_a_date() {
    let error = failed("429 Too Many Requests", "retry-after: Thu, 25 Feb 2021 15:03:10 GMT\r\n").await;
    assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let mut elsewhere = Server::start(Reply::status("200 OK", "", "")).await;
    let location = format!("location: {}\r\n", elsewhere.url());
    let error = failed("307 Temporary Redirect", &location).await;
    assert_eq!(error.fault, Fault::Sink);
    assert!(error.message.contains("`url`"), "{error}");
    assert!(elsewhere.is_quiet());
}

#[tokio::test]
async fn a_refused_connection_is_the_sinks_fault_and_surely_without_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let sink = sink(WebhookSettings::new(format!("http://127.0.0.1:{port}/secret?token=secret")));
    let error = sink.publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
    assert!(error.message.contains("cannot connect") && error.message.contains("port"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert_eq!(sink.check().await.unwrap_err().fault, Fault::Sink);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_the_sinks_fault() {
    let error = sink(WebhookSettings::new("http://nowhere.invalid")).publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
    // No more: a machine without a resolver may run into the connection's time limit instead.
    assert!(error.message.contains("cannot connect to http://nowhere.invalid"), "{error}");
}

#[tokio::test]
async fn no_answer_in_time_is_unknown_and_uncertain() {
    let server = Server::start(Reply::Silence(Vec::new())).await;
    let short = Duration::from_millis(50);
    let settings = WebhookSettings { timeout: short, connect_timeout: short, ..settings(&server) };
    let error = sink(settings).publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Unknown, true));
    assert!(error.message.contains("did not answer in time"), "{error}");
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_is_unknown_and_uncertain() {
    for half in ["", "HTTP/1.1 20", "rubbish\r\n\r\n"] {
        let server = Server::start(Reply::Close(half.into())).await;
        let error = sink(settings(&server)).publish(&batch(1..=1)).await.unwrap_err();
        assert_eq!((error.fault, error.uncertain), (Fault::Unknown, true), "{half}");
    }
}

#[tokio::test]
async fn an_acceptance_whose_body_never_ends_is_an_acceptance() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n";
    for reply in [Reply::Endless(head.into()), Reply::Silence(head.into()), Reply::Close(head.into())] {
        let server = Server::start(reply).await;
        let outcomes = sink(settings(&server)).publish(&batch(1..=1)).await.unwrap();
        assert_eq!(outcomes, [Outcome::Accepted]);
    }
}

#[tokio::test]
async fn an_error_whose_body_never_ends_is_cut_short() {
    let server = Server::start(Reply::Endless(b"HTTP/1.1 500 Oh\r\ncontent-length: 999999999999\r\n\r\n".into())).await;
    let error = sink(settings(&server)).publish(&batch(1..=1)).await.unwrap_err();
    assert!(error.message.contains("500") && error.message.len() < 500, "{error}");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    for (status, body) in [("200 OK", "thanks"), ("204 No Content", ""), ("500 Oh", "sorry")] {
        let mut server = Server::start(Reply::status(status, "", body)).await;
        let sink = sink(settings(&server));
        let _ = sink.publish(&batch(1..=1)).await;
        let _ = sink.publish(&batch(2..=2)).await;
        assert_eq!((server.next().await.connection, server.next().await.connection), (1, 1), "{status}");
    }
}

fn outcomes_reply(body: &str) -> Reply {
    Reply::status("207 Multi-Status", &format!("content-type: {OUTCOMES_CONTENT_TYPE}; charset=utf-8\r\n"), body)
}

#[tokio::test]
async fn a_batch_gets_an_outcome_for_each_event() {
    let body = r#"{"outcomes":[{"status":202},{"status":422,"reason":"no"},{"status":429,"retry_after":5}]}"#;
    let server = Server::start(outcomes_reply(body)).await;
    let outcomes = sink(batches(&server)).publish(&batch(1..=3)).await.unwrap();
    let refused = Outcome::Refused { permanent: true, reason: "422 Unprocessable Entity: no".into() };
    let throttled = Outcome::Throttled { after: Some(Duration::from_secs(5)) };
    assert_eq!(outcomes, [Outcome::Accepted, refused, throttled]);
}

#[tokio::test]
async fn outcomes_that_do_not_fit_the_batch_are_never_taken_for_acceptance() {
    let accepted = |count| format!(r#"{{"outcomes":[{}]}}"#, vec![r#"{"status":202}"#; count].join(","));
    let long = format!(r#"{{"outcomes":[{{"status":202,"reason":"{}"}}]}}"#, "x".repeat(100_000));
    for body in [accepted(0), accepted(1), accepted(3), String::new(), "{}".into(), r#"{"outcomes":[{}]}"#.into(), long]
    {
        let server = Server::start(outcomes_reply(&body)).await;
        let error = sink(batches(&server)).publish(&batch(1..=2)).await.unwrap_err();
        assert_eq!((error.fault, error.uncertain), (Fault::Unknown, true), "{body}");
    }
}

#[tokio::test]
async fn another_kind_of_multi_status_is_never_taken_for_acceptance() {
    let reply = Reply::status("207 Multi-Status", "content-type: application/xml\r\n", "<multistatus/>");
    let server = Server::start(reply).await;
    let error = sink(batches(&server)).publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Unknown, true));
}

#[tokio::test]
async fn a_check_posts_no_event_and_takes_any_answer_from_a_target_that_is_there() {
    for status in ["204 No Content", "401 Unauthorized", "405 Method Not Allowed", "500 Oh"] {
        let mut server = Server::start(Reply::status(status, "", "")).await;
        sink(settings(&server)).check().await.unwrap();
        let request = server.next().await;
        assert_eq!((request.line.as_str(), request.body.as_slice()), ("OPTIONS /events", b"".as_slice()), "{status}");
        assert!(server.is_quiet());
    }
}

#[tokio::test]
async fn a_check_says_when_events_would_go_nowhere() {
    for status in ["301 Moved", "404 Not Found", "410 Gone", "503 Service Unavailable"] {
        let server = Server::start(Reply::status(status, "", "")).await;
        let error = sink(settings(&server)).check().await.unwrap_err();
        assert_eq!(error.fault, Fault::Sink, "{status}");
        assert!(error.message.contains(&status[..3]), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_where_one_is_configured() {
    let mut proxy = Server::start(Reply::status("200 OK", "", "")).await;
    let proxy_url = format!("http://127.0.0.1:{}", proxy.port);
    let settings = WebhookSettings { proxy: Some(proxy_url), ..WebhookSettings::new("http://nowhere.invalid/events") };
    sink(settings).publish(&batch(1..=1)).await.unwrap();
    assert_eq!(proxy.next().await.line, "POST http://nowhere.invalid/events");
}
