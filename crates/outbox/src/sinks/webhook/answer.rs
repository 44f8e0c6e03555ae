//! Reading answers, within bounds, whatever the target sends.
//!
//! What stands in an error's body may be what was sent, so it goes nowhere but into the reason of an event that is refused
//! by name, which the bookkeeping keeps with the event itself. What the failure of a call says ends up in logs and in the
//! status: it has the status and the remedy, and nothing of the body.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Response, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;

use super::{
    failure, retry_after,
    status::{Meaning, meaning, remedy},
};
use crate::sink::{Fault, Outcome, SinkError};

/// The content type of a `207` that has an outcome for each event.
pub const OUTCOMES_CONTENT_TYPE: &str = "application/vnd.outbox.outcomes+json";

/// What of an error's body is read.
const EXPLANATION_BYTES: usize = 2 * 1024;
/// What of it ends up in a reason.
const REASON_CHARS: usize = 300;
/// What of an acceptance's body is read so that its connection can be used again.
const DRAIN_BYTES: usize = 16 * 1024;
/// How long is waited for a body whose status has said everything already.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// What outcomes may take: some for the whole, and some for each event.
const OUTCOMES_BYTES: usize = 4 * 1024;
const OUTCOME_BYTES: usize = 1024;

/// Turns an answer into outcomes for `events` events. The status decides; the body only explains, except for outcomes.
pub(crate) async fn read(
    mut response: Response,
    origin: &str,
    events: usize,
    now: Timestamp,
) -> Result<Vec<Outcome>, SinkError> {
    let status = response.status();
    let fault = match meaning(status.as_u16()) {
        Meaning::Accepted => {
            drain(&mut response).await;
            return Ok(vec![Outcome::Accepted; events]);
        }
        Meaning::Outcomes => return read_outcomes(response, origin, events).await,
        Meaning::EventsFault if events == 1 => {
            let reason = reason(status, &explanation(&mut response).await);
            return Ok(vec![Outcome::Refused { permanent: true, reason }]);
        }
        Meaning::EventsFault => Fault::Event,
        Meaning::Throttle => Fault::Throttle,
        Meaning::SinksFault => Fault::Sink,
        Meaning::Unknown => Fault::Unknown,
    };
    let asked = retry_after::read(response.headers(), now);
    drain(&mut response).await;
    let message = describe(origin, status);
    let error = SinkError::new(fault, message).retry_after(asked);
    Err(if fault == Fault::Unknown { error.uncertain() } else { error })
}

/// Says what `origin` answered, and the remedy, for everybody to read.
pub(super) fn describe(origin: &str, status: StatusCode) -> String {
    format!("{origin} answered {}", reason(status, ""))
}

fn reason(status: StatusCode, explanation: &str) -> String {
    let mut text = status.as_u16().to_string();
    if let Some(name) = status.canonical_reason() {
        text = format!("{text} {name}");
    }
    if !explanation.is_empty() {
        text = format!("{text}: {explanation}");
    }
    match remedy(status.as_u16()) {
        "" => text,
        remedy => format!("{text} ({remedy})"),
    }
}

/// Reads a short body to its end, so that the connection can be used again.
async fn drain(response: &mut Response) {
    let to_the_end = async {
        let mut left = DRAIN_BYTES;
        while let Ok(Some(chunk)) = response.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                // Too long: a new connection is cheaper.
                None => break,
            }
        }
    };
    // The status has said everything; a body that never ends must not hold the events.
    let _ = tokio::time::timeout(BODY_PATIENCE, to_the_end).await;
}

/// The first of an error's body, as one line of text.
async fn explanation(response: &mut Response) -> String {
    let mut body = Vec::new();
    let start = async {
        while body.len() < EXPLANATION_BYTES {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            body.extend_from_slice(&chunk[..chunk.len().min(EXPLANATION_BYTES - body.len())]);
        }
    };
    // What has come by then will do.
    let _ = tokio::time::timeout(BODY_PATIENCE, start).await;
    shorten(&String::from_utf8_lossy(&body))
}

/// One line of at most 300 characters, without control characters.
pub(super) fn shorten(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line = String::new();
    let mut count = 0;
    for character in visible {
        if character.is_whitespace() && (line.is_empty() || line.ends_with(' ')) {
            continue;
        }
        if count == REASON_CHARS {
            line.push('…');
            break;
        }
        line.push(if character.is_whitespace() { ' ' } else { character });
        count += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<EventOutcome>,
}

#[derive(Deserialize)]
struct EventOutcome {
    status: u16,
    reason: Option<String>,
    retry_after: Option<u64>,
}

/// Reads an answer with an outcome for each event. One that cannot be read, or that has another number of them, says
/// nothing about any event: then all of them count as unknown.
async fn read_outcomes(response: Response, origin: &str, events: usize) -> Result<Vec<Outcome>, SinkError> {
    let unusable = |problem: &str| {
        let message = format!("{origin} answered 207 {problem}; mend the target, or have it answer 2xx or an error");
        SinkError::new(Fault::Unknown, message).uncertain()
    };
    if !has_outcomes(&response) {
        return Err(unusable(&format!("without content type {OUTCOMES_CONTENT_TYPE}, so it is unclear what it took")));
    }
    let body = read_body(response, OUTCOMES_BYTES + events * OUTCOME_BYTES).await;
    let body = match body {
        Ok(Some(body)) => body,
        Ok(None) => return Err(unusable("with a body of more than 1 KiB for each event")),
        Err(error) => return Err(failure::of_call(error, origin)),
    };
    let Outcomes { outcomes } = serde_json::from_slice(&body)
        .map_err(|error| unusable(&format!("with a body that is not the JSON of outcomes ({})", where_not(&error))))?;
    if outcomes.len() != events {
        return Err(unusable(&format!("with {} outcomes for {events} events", outcomes.len())));
    }
    Ok(outcomes.into_iter().map(outcome).collect())
}

/// Where a body is no JSON, or not the expected one. The parser's own words may hold what stands there.
fn where_not(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "no JSON",
        serde_json::error::Category::Data => "other JSON",
    };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

fn has_outcomes(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(OUTCOMES_CONTENT_TYPE)
}

/// The whole body, or `None` if it has more than `limit` bytes.
async fn read_body(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > limit - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn outcome(EventOutcome { status, reason: explanation, retry_after }: EventOutcome) -> Outcome {
    let after = retry_after.map(retry_after::seconds);
    let refused = |permanent| {
        let explanation = shorten(explanation.as_deref().unwrap_or_default());
        let reason = match StatusCode::from_u16(status) {
            Ok(status) => reason(status, &explanation),
            Err(_) => format!("{status}, which is no HTTP status: {explanation}"),
        };
        Outcome::Refused { permanent, reason }
    };
    match meaning(status) {
        Meaning::Accepted => Outcome::Accepted,
        Meaning::Throttle => Outcome::Throttled { after },
        Meaning::Unknown if status == 503 && after.is_some() => Outcome::Throttled { after },
        Meaning::EventsFault => refused(true),
        // An outcome has no outcomes of its own; the others name this event, and may be mended.
        Meaning::Outcomes | Meaning::SinksFault | Meaning::Unknown => refused(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(status: u16, retry_after: Option<u64>) -> Outcome {
        outcome(EventOutcome { status, reason: Some("why".into()), retry_after })
    }

    #[test]
    fn an_events_outcome_follows_the_table() {
        assert_eq!(read_one(202, None), Outcome::Accepted);
        assert_eq!(read_one(429, Some(5)), Outcome::Throttled { after: Some(Duration::from_secs(5)) });
        assert_eq!(read_one(503, Some(7_200)), Outcome::Throttled { after: Some(retry_after::LONGEST) });
        let refused = |status| match read_one(status, None) {
            Outcome::Refused { permanent, reason } => (permanent, reason.contains("why")),
            outcome => panic!("{status}: {outcome:?}"),
        };
        assert_eq!([422, 400].map(refused), [(true, true); 2]);
        assert_eq!([207, 404, 409, 500, 503, 0, 1000].map(refused), [(false, true); 7]);
    }

    #[test]
    fn a_reason_is_one_short_line_without_control_characters() {
        assert_eq!(shorten("  a\r\n\t b\u{1b}[31mc\u{85}d \n"), "a b [31mc d");
        assert_eq!(shorten(&"x".repeat(1_000)).chars().count(), REASON_CHARS + 1);
        assert_eq!(shorten(&"ä".repeat(REASON_CHARS)), "ä".repeat(REASON_CHARS));
    }
}
