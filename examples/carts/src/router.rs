//! From a request to a response, whatever carries them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::Value;

use crate::{
    cart::Change,
    carts::{Carts, CartsError, Done, Repeat},
    problem::Problem,
    request,
};

mod headers;

/// The largest body that is read: more than any request needs, and less than API Gateway and Lambda take.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Set where a request was done before, and is answered as then.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What there is.
#[derive(Clone, Copy, Debug)]
enum Route<'a> {
    Carts,
    Cart(&'a str),
    AddItems(&'a str),
    CheckOut(&'a str),
    Health,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let parts: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        match parts[..] {
            ["cart"] => Some(Self::Carts),
            ["cart", id] => Some(Self::Cart(id)),
            ["cart", id, "add-items"] => Some(Self::AddItems(id)),
            ["cart", id, "checkout"] => Some(Self::CheckOut(id)),
            ["health"] => Some(Self::Health),
            _ => None,
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Carts => "POST, OPTIONS",
            Self::AddItems(_) | Self::CheckOut(_) => "PUT, OPTIONS",
            Self::Cart(_) | Self::Health => "GET, HEAD, OPTIONS",
        }
    }
}

/// Answers a request. Whatever a shell serves, it asks this.
///
/// A 2xx to a change is answered once the cart and the event about it are committed. After any other answer than 503
/// nothing was done; after a 503 that says so it is not known, and the same request with the same `Idempotency-Key` finds out.
///
/// *Cancellation*: a call that is dropped may have changed the cart.
pub async fn answer(carts: &Carts, request: Request<Bytes>) -> Response<Bytes> {
    let is_head = request.method() == Method::HEAD;
    let mut response = routed(carts, &request).await.unwrap_or_else(Problem::into_response);
    if is_head {
        *response.body_mut() = Bytes::new();
    }
    finished(response)
}

/// What every answer has: a page of any origin may read it, for nothing here is believed for a cookie.
pub(crate) fn finished(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = HeaderValue::from_static("etag, location, retry-after, idempotency-replayed");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn routed(carts: &Carts, request: &Request<Bytes>) -> Result<Response<Bytes>, Problem> {
    let Some(route) = Route::of(request.uri().path()) else {
        let there = "there are `/cart`, `/cart/{id}`, `/cart/{id}/add-items` and `/cart/{id}/checkout`";
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at this path: {there}")));
    };
    match (route, request.method().as_str()) {
        (_, "OPTIONS") => Ok(preflight(route)),
        (Route::Carts, "POST") => create(carts, request).await,
        (Route::AddItems(id), "PUT") => {
            let items = request::items(json_body(request)?)?;
            change(carts, id, Change::Add(items), request).await
        }
        (Route::CheckOut(id), "PUT") => {
            if !request.body().is_empty() {
                request::nothing(json_body(request)?)?;
            }
            change(carts, id, Change::CheckOut, request).await
        }
        (Route::Cart(id), "GET" | "HEAD") => get(carts, id, request.headers()).await,
        (Route::Health, "GET" | "HEAD") => {
            carts.check().await?;
            Ok(json_response(StatusCode::OK, &serde_json::json!({ "status": "ok" })))
        }
        (route, _) => {
            let detail = format!("this method is not for this path: use {}", route.methods());
            let allow = HeaderValue::from_static(route.methods());
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).header(header::ALLOW, allow))
        }
    }
}

/// What a browser asks before it sends a request of another origin.
fn preflight(route: Route<'_>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static(route.methods());
    let asked = HeaderValue::from_static("content-type, idempotency-key, if-match, if-none-match");
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

async fn create(carts: &Carts, request: &Request<Bytes>) -> Result<Response<Bytes>, Problem> {
    let new = request::new_cart(json_body(request)?)?;
    let repeat = repeat(request, &new)?;
    let done = carts.create(new, repeat.as_ref()).await?;
    let location = format!("/cart/{}", done.stored.cart.id);
    let mut response = cart_response(StatusCode::CREATED, &done);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn change(carts: &Carts, id: &str, change: Change, request: &Request<Bytes>) -> Result<Response<Bytes>, Problem> {
    let versions = headers::if_match(request.headers())?;
    let repeat = repeat(request, &change)?;
    let done = carts.change(id, &change, versions.as_deref(), repeat.as_ref()).await?;
    Ok(cart_response(StatusCode::OK, &done))
}

async fn get(carts: &Carts, id: &str, headers: &HeaderMap) -> Result<Response<Bytes>, Problem> {
    let stored = carts.get(id).await?.ok_or(CartsError::NotFound)?;
    let is_known = headers::knows(headers, &stored.version().etag());
    let mut response = cart_response(StatusCode::OK, &Done { stored, is_repeated: false });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Bytes::new();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    Ok(response)
}

/// What tells a request that is sent again.
fn repeat(request: &Request<Bytes>, asked: &impl serde::Serialize) -> Result<Option<Repeat>, Problem> {
    let Some(key) = headers::idempotency_key(request.headers())? else { return Ok(None) };
    let asked = serde_json::to_vec(asked).unwrap_or_default();
    Ok(Some(Repeat::new(key, request.uri().path(), &asked)))
}

/// The body as JSON.
fn json_body(request: &Request<Bytes>) -> Result<Value, Problem> {
    let body = request.body();
    if body.len() > MAX_BODY_BYTES {
        return Err(too_large());
    }
    if !headers::says_json(request.headers()) {
        let detail = "the body has to be JSON, and to say so: send it with `content-type: application/json`";
        let accept = HeaderValue::from_static("application/json");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT, accept));
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = if body.is_empty() {
            "the body is empty: send an object in JSON".to_owned()
        } else {
            format!("the body is not JSON: {error}")
        };
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// A body that is not read.
pub(crate) fn too_large() -> Problem {
    let detail = format!("the body has more than {MAX_BODY_BYTES} bytes: add fewer items at a time");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn cart_response(status: StatusCode, done: &Done) -> Response<Bytes> {
    let mut response = json_response(status, &done.stored.cart);
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&done.stored.version().etag()) {
        headers.insert(header::ETAG, etag);
    }
    // It may be kept, but has to be asked for each time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if done.is_repeated {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn json_response(status: StatusCode, body: &impl serde::Serialize) -> Response<Bytes> {
    // Structs of texts and numbers are JSON.
    let mut response = Response::new(serde_json::to_vec(body).unwrap_or_default().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
