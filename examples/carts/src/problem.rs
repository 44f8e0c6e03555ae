//! What went wrong, said to the client as problem details (RFC 9457).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::carts::CartsError;

/// Complaints in an answer at most: no request is answered with more than it sent.
const MAX_COMPLAINTS: usize = 50;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// The field, as `items[3].quantity`.
    pub field: String,
    /// What is wrong with it, and what it should be.
    pub detail: String,
}

/// Problem details. `type` is left out: it is `about:blank`, so the title is the status's own words.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: &'static str,
    /// What is wrong and what to do.
    pub detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Complaint>,
    /// Further headers of the answer.
    #[serde(skip)]
    pub(crate) headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { status: status.as_u16(), title, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// A request with wrong fields.
    pub fn of_fields(mut errors: Vec<Complaint>) -> Self {
        let count = errors.len();
        errors.truncate(MAX_COMPLAINTS);
        let first = errors.first().map(|complaint| format!("`{}` {}", complaint.field, complaint.detail));
        let first = first.unwrap_or_default();
        let detail = match count {
            0 | 1 => first,
            2..=MAX_COMPLAINTS => format!("{first}; {} more fields are wrong: see `errors`", count - 1),
            _ => format!("{first}; {} more fields are wrong: see the first {MAX_COMPLAINTS} in `errors`", count - 1),
        };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// One wrong header.
    pub(crate) fn of_header(name: &str, detail: &str) -> Self {
        let errors = vec![Complaint { field: name.to_owned(), detail: detail.to_owned() }];
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, format!("header `{name}` {detail}")) }
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer.
    pub fn into_response(self) -> Response<Bytes> {
        // A struct of texts and numbers is JSON.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}

impl From<CartsError> for Problem {
    fn from(error: CartsError) -> Self {
        let status = match &error {
            CartsError::NotFound => StatusCode::NOT_FOUND,
            CartsError::OtherVersion { .. } => StatusCode::PRECONDITION_FAILED,
            CartsError::Refused(_) => StatusCode::CONFLICT,
            CartsError::Reused | CartsError::TooLarge(_) => StatusCode::UNPROCESSABLE_ENTITY,
            CartsError::Busy(_) | CartsError::Unsettled(_) => StatusCode::SERVICE_UNAVAILABLE,
            CartsError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(%error, "a cart could not be read or changed");
        }
        let said = match &error {
            // What the database says is for the log.
            CartsError::Store(_) => "the carts cannot be read or written; tell who runs this service".to_owned(),
            other => other.to_string(),
        };
        let problem = Self::new(status, said);
        match &error {
            CartsError::OtherVersion { current } => match HeaderValue::from_str(&current.etag()) {
                Ok(etag) => problem.header(header::ETAG, etag),
                Err(_) => problem,
            },
            CartsError::Reused => {
                let detail = "was used for another request".to_owned();
                let errors = vec![Complaint { field: "Idempotency-Key".to_owned(), detail }];
                Self { errors, ..problem }
            }
            CartsError::Busy(_) | CartsError::Unsettled(_) => {
                problem.header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            CartsError::NotFound | CartsError::Refused(_) | CartsError::TooLarge(_) | CartsError::Store(_) => problem,
        }
    }
}
