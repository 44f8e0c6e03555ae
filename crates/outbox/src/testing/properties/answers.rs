//! Answers of a webhook's target.

use std::cell::RefCell;

use axum::http::{HeaderName, HeaderValue, Response};
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};

use super::{message::Message, payload::hides, told};
use crate::{
    sink::{Fault, Outcome},
    sinks::webhook::{LONGEST_RETRY_AFTER, read_answer},
};

const ORIGIN: &str = "https://ledger.example.com";

/// The bytes of an answer: its status (two bytes) and for how many events it is (one), then a header a line, an empty
/// line, the body.
///
/// # Panics
/// If a property does not hold.
pub fn webhook_answer(bytes: &[u8]) {
    thread_local!(static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) });
    let Some(([high, low, events], rest)) = bytes.split_first_chunk() else { return };
    let status = 200 + u16::from_be_bytes([*high, *low]) % 400;
    let events = usize::from(*events).max(1);
    let message = Message::of(rest);
    let mut response = Response::new(message.body.to_vec());
    *response.status_mut() = match axum::http::StatusCode::from_u16(status) {
        Ok(status) => status,
        Err(error) => panic!("{status}: {error}"),
    };
    for (name, value) in &message.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            response.headers_mut().append(name, value);
        }
    }
    let answer = RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| match Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => panic!("no runtime: {error}"),
        });
        runtime.block_on(read_answer(response.into(), ORIGIN, events, Timestamp::UNIX_EPOCH))
    });
    match answer {
        Ok(outcomes) => {
            assert_eq!(outcomes.len(), events, "an outcome for each event");
            for outcome in &outcomes {
                of_one(outcome, status);
            }
        }
        Err(error) => {
            told(&error.message);
            assert!(error.message.contains(ORIGIN), "whose answer? {}", error.message);
            assert!(error.retry_after.is_none_or(|after| after <= LONGEST_RETRY_AFTER));
            assert!(!(200..300).contains(&status) || error.fault == Fault::Unknown, "{status}: {:?}", error.fault);
            hides(&String::from_utf8_lossy(message.body), &String::from_utf8_lossy(rest), &error.message);
            hides_strings(message.body, &error.message);
        }
    }
}

fn of_one(outcome: &Outcome, status: u16) {
    match outcome {
        Outcome::Accepted => assert!((200..300).contains(&status), "{status} was taken for an acceptance"),
        Outcome::Throttled { after } => assert!(after.is_none_or(|after| after <= LONGEST_RETRY_AFTER)),
        Outcome::Refused { reason, .. } | Outcome::Failed { reason } => told(reason),
    }
}

/// What stands in the body may be what was sent.
fn hides_strings(body: &[u8], error: &str) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return };
    // As if all of it were a payload.
    let wrapped = format!(r#"{{"data":{value}}}"#);
    super::hides_payload(&wrapped, &wrapped, error);
}
