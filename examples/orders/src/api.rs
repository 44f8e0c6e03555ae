//! The HTTP side: reads requests, writes answers, decides nothing.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use crate::{
    order::{NewOrder, Order},
    problem::Problem,
    service::{CustomerTotals, Placed, Service},
};

/// More than any order needs.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The service's HTTP API.
pub fn router(service: Service) -> Router {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(order))
        .route("/customers/{id}", get(customer))
        .route("/health", get(health))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(service)
}

/// Answers only once the order and its event are committed.
async fn place(State(service): State<Service>, body: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let request: NewOrder = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body is not an order: {error}")))?;
    let order = request.check().map_err(Problem::of_fields)?;
    let location = format!("/orders/{}", order.order_id);
    let (status, sequence, order_id) = match service.place(order).await? {
        Placed::New { order_id, sequence } => (StatusCode::CREATED, sequence, order_id),
        Placed::Before { order_id, sequence } => (StatusCode::OK, sequence, order_id),
    };
    let answer = Json(json!({ "order_id": order_id, "sequence": sequence }));
    Ok((status, [(header::LOCATION, location)], answer).into_response())
}

async fn order(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<Order>, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no order with this id");
    Ok(Json(service.order(id).await?.ok_or_else(missing)?))
}

async fn customer(State(service): State<Service>, Path(id): Path<String>) -> Result<Json<CustomerTotals>, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "this customer has placed no order");
    Ok(Json(service.customer(id).await?.ok_or_else(missing)?))
}

async fn health(State(service): State<Service>) -> Result<Json<serde_json::Value>, Problem> {
    service.check().await?;
    Ok(Json(json!({ "status": "ok" })))
}
