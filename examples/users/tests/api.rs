//! The HTTP API, and what it leaves in the database, with either table of events.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../../../crates/outbox-sql/tests/postgres/server.rs"]
mod server;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use outbox_sql::postgres::ConnectOptions;
use serde_json::{Value, json};
use server::Database;
use tower::ServiceExt as _;
use users::{EventTable, Users, router};

struct Api {
    database: Database,
    router: Router,
    events: &'static str,
}

impl Api {
    async fn start(events: EventTable) -> Self {
        let database = Database::new().await;
        let options = ConnectOptions::parse(database.url()).unwrap();
        let router = router(Users::connect(options, events).await.unwrap());
        let events = match events {
            EventTable::Own => "SELECT EventType, UserId, Payload::text FROM Outbox ORDER BY Id",
            EventTable::Native => "SELECT type, key, data FROM outbox.entries ORDER BY id",
        };
        Self { database, router, events }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let answer = self.router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn create(&self, id: i64, name: &str) -> (StatusCode, Value) {
        self.send("POST", "/users", &json!({ "userId": id, "name": name })).await
    }

    /// Type, key and payload of each event.
    async fn events(&self) -> Vec<(String, String, Value)> {
        let rows = self.database.session().await.query(self.events, &[]).await.unwrap();
        let payload = |text: String| serde_json::from_str(&text).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), payload(row.get(2)))).collect()
    }
}

const BOTH: [EventTable; 2] = [EventTable::Own, EventTable::Native];

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_the_event_are_there_once_it_is_answered() {
    for events in BOTH {
        let api = Api::start(events).await;
        let john = json!({ "userId": 1, "name": "John Doe", "version": 1 });
        assert_eq!(api.create(1, "John Doe").await, (StatusCode::CREATED, john.clone()));
        let jane = json!({ "userId": 1, "name": "Jane Doe", "version": 2 });
        let renamed = api.send("PUT", "/users/1/name", &json!({ "name": "Jane Doe" })).await;
        assert_eq!(renamed, (StatusCode::OK, jane.clone()));
        assert_eq!(api.send("GET", "/users/1", &Value::Null).await, (StatusCode::OK, jane.clone()));
        let told = [("UserCreated", john), ("UserRenamed", jane)];
        let told = told.map(|(kind, payload)| (kind.to_owned(), "1".to_owned(), payload));
        assert_eq!(api.events().await, told, "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_fails_at_its_commit_leaves_neither_user_nor_event() {
    for events in BOTH {
        let api = Api::start(events).await;
        // A reference that leads nowhere, and is looked at when the transaction commits.
        let trap = "CREATE TABLE teams (id bigint PRIMARY KEY); \
            CREATE TABLE members (team bigint REFERENCES teams DEFERRABLE INITIALLY DEFERRED); \
            CREATE FUNCTION join_team() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO members VALUES (1); RETURN NULL; END'; \
            CREATE TRIGGER joined AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION join_team()";
        api.database.session().await.batch_execute(trap).await.unwrap();
        assert_eq!(api.create(1, "John Doe").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(api.send("GET", "/users/1", &Value::Null).await.0, StatusCode::NOT_FOUND);
        assert_eq!(api.events().await, [], "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_creates_nothing_twice() {
    for events in BOTH {
        let api = Api::start(events).await;
        api.create(1, "John Doe").await;
        let (status, user) = api.create(1, "John Doe").await;
        assert_eq!((status, &user["version"]), (StatusCode::OK, &json!(1)));
        assert_eq!(api.events().await.len(), 1, "{events:?}");
        assert_eq!(api.send("PUT", "/users/2/name", &json!({ "name": "x" })).await.0, StatusCode::NOT_FOUND);
    }
}
