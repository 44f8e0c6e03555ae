//! The second shell: a function behind API Gateway.

use bytes::Bytes;
use lambda_http::{Body, Error, Request, Response, service_fn};

use crate::{Carts, answer};

/// Serves invocations until the service stops the function's process.
///
/// # Errors
/// That the runtime's interface is not there.
pub async fn run(carts: Carts) -> Result<(), Error> {
    lambda_http::run(service_fn(async |request: Request| Ok::<_, Error>(respond(&carts, request).await))).await
}

async fn respond(carts: &Carts, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = Bytes::copy_from_slice(&body);
    let answered = answer(carts, http::Request::from_parts(parts, body)).await;
    // All that is answered is JSON, or nothing.
    answered
        .map(|body| String::from_utf8(body.into()).map_or_else(|error| Body::Binary(error.into_bytes()), Body::Text))
}
