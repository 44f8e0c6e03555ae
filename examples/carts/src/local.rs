//! The first shell: a server of one's own, on loopback unless told otherwise.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Request, State},
    response::Response,
};
use http::StatusCode;

use crate::{
    Carts, answer,
    problem::Problem,
    router::{MAX_BODY_BYTES, finished, too_large},
};

/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The API on axum: for every path and method, [`answer`] is asked.
pub fn router(carts: Carts) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(carts)
}

async fn handle(State(carts): State<Carts>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    let problem = match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(body)) => return answer(&carts, http::Request::from_parts(parts, body)).await.map(Into::into),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        Ok(Err(rejection)) => Problem::new(rejection.status(), format!("the body broke off: {rejection}")),
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time: send it again"),
    };
    finished(problem.into_response()).map(Into::into)
}
