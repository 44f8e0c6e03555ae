//! What went wrong, said to the client as problem details (RFC 9457).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{order::Complaint, service::OrdersError};

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
}

impl Problem {
    /// A problem with this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { status: status.as_u16(), title, detail: detail.into(), errors: Vec::new() }
    }

    /// An order with wrong fields.
    pub fn of_fields(errors: Vec<Complaint>) -> Self {
        let fields: Vec<_> =
            errors.iter().map(|complaint| format!("`{}` {}", complaint.field, complaint.detail)).collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, fields.join("; ")) }
    }
}

impl From<OrdersError> for Problem {
    fn from(error: OrdersError) -> Self {
        let status = match &error {
            OrdersError::Reused { .. } => StatusCode::CONFLICT,
            OrdersError::Event(_) => StatusCode::UNPROCESSABLE_ENTITY,
            OrdersError::Busy(_) | OrdersError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            OrdersError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(%error, "an order could not be placed or read");
        }
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
