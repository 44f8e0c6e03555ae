//! What a receiver answers.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

use crate::inbox::Applied;

/// The content type of a `207` that has an outcome for each event.
const OUTCOMES: &str = "application/vnd.outbox.outcomes+json";
/// When a sender may come back whose key stopped.
const STOPPED: Duration = Duration::from_secs(60);

/// What is said of one event.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    #[serde(serialize_with = "number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Verdict {
    /// The verdict on an event that the inbox was given.
    pub(super) fn of(applied: Applied) -> Self {
        match applied {
            Applied::Applied | Applied::Duplicate | Applied::Superseded | Applied::Ignored => {
                Self::taken(StatusCode::NO_CONTENT)
            }
            Applied::Parked(_) | Applied::Retrying { .. } | Applied::DeadLetter { .. } => {
                Self::taken(StatusCode::ACCEPTED)
            }
            Applied::Refused { reason } => Self::refused(StatusCode::UNPROCESSABLE_ENTITY, &reason),
            Applied::Stopped { reason } => Self::refused(StatusCode::FORBIDDEN, &reason),
        }
    }

    fn taken(status: StatusCode) -> Self {
        Self { status, reason: None, retry_after: None }
    }

    pub(super) fn refused(status: StatusCode, reason: &str) -> Self {
        Self { status, reason: Some(reason.to_owned()), retry_after: None }
    }

    /// The event may come again later.
    pub(super) fn later(reason: &str) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            reason: Some(reason.to_owned()),
            retry_after: Some(STOPPED.as_secs()),
        }
    }

    fn is_taken(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn into_response(self) -> Response {
        if self.is_taken() {
            return empty(self.status);
        }
        problem(self.status, self.reason.as_deref().unwrap_or_default())
    }
}

#[derive(Serialize)]
struct Outcomes {
    outcomes: Vec<Verdict>,
}

/// The answer to a batch.
pub(super) fn batch(mut verdicts: Vec<Verdict>) -> Response {
    if verdicts.iter().all(Verdict::is_taken) {
        let kept = verdicts.iter().any(|verdict| verdict.status == StatusCode::ACCEPTED);
        return empty(if kept { StatusCode::ACCEPTED } else { StatusCode::NO_CONTENT });
    }
    if verdicts.iter().all(|verdict| verdict.status == StatusCode::FORBIDDEN) {
        return verdicts.swap_remove(0).into_response();
    }
    // Within a batch a route that has gaps stops the keys that it has them in, and those alone.
    for verdict in &mut verdicts {
        if verdict.status == StatusCode::FORBIDDEN {
            verdict.status = StatusCode::TOO_MANY_REQUESTS;
            verdict.retry_after = Some(STOPPED.as_secs());
        }
    }
    json(StatusCode::MULTI_STATUS, OUTCOMES, &Outcomes { outcomes: verdicts })
}

/// The answer to a request in which there was nothing.
pub(super) fn nothing() -> Response {
    empty(StatusCode::NO_CONTENT)
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A request that was not taken as a whole.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, detail: &str) -> Self {
        Self { status, detail: detail.to_owned(), retry_after: None }
    }

    /// Not now.
    pub(super) fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(Duration::from_secs(2))
    }

    pub(super) fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = problem(self.status, &self.detail);
        if let Some(delay) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs()));
        }
        response
    }
}

/// A problem as RFC 9457 describes it.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    #[derive(Serialize)]
    struct Problem<'d> {
        title: &'static str,
        status: u16,
        detail: &'d str,
    }
    let title = status.canonical_reason().unwrap_or("Error");
    json(status, "application/problem+json", &Problem { title, status: status.as_u16(), detail })
}

fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response {
    // Text and numbers only: this cannot fail.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
