//! The HTTP side: reads requests, writes answers, decides nothing.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::Deserialize;
use serde_json::json;

use crate::users::{User, Users, UsersError};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewUser {
    user_id: i64,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewName {
    name: String,
}

/// The service's HTTP API.
pub fn router(users: Users) -> Router {
    Router::new()
        .route("/users", post(create))
        .route("/users/{id}", get(one))
        .route("/users/{id}/name", put(rename))
        .with_state(users)
}

/// Answers only once the user and the event are committed.
async fn create(State(users): State<Users>, Json(new): Json<NewUser>) -> Result<(StatusCode, Json<User>), UsersError> {
    match users.create(new.user_id, &new.name).await? {
        Some(user) => Ok((StatusCode::CREATED, Json(user))),
        None => Ok((StatusCode::OK, Json(users.get(new.user_id).await?))),
    }
}

async fn rename(
    State(users): State<Users>,
    Path(id): Path<i64>,
    Json(new): Json<NewName>,
) -> Result<Json<User>, UsersError> {
    users.rename(id, &new.name).await.map(Json)
}

async fn one(State(users): State<Users>, Path(id): Path<i64>) -> Result<Json<User>, UsersError> {
    users.get(id).await.map(Json)
}

impl IntoResponse for UsersError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "detail": self.to_string() }))).into_response()
    }
}
