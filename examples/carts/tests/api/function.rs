//! The function behind API Gateway, as a process of its own that asks a runtime interface for invocations: Lambda's own
//! protocol, spoken by a server here.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::{
    fixture::{Api, customer, item},
    server,
};

/// Kills the function's process at the end.
struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The runtime interface: hands out invocations, and takes their answers.
#[derive(Clone)]
struct Interface {
    invocations: Arc<Mutex<mpsc::Receiver<Value>>>,
    answers: mpsc::Sender<Value>,
}

/// Where invocations are put in, and answers come out.
struct Gateway {
    invocations: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Value>,
    _function: Function,
}

impl Gateway {
    async fn start(api: &Api) -> Self {
        let (invocations, to_hand_out) = mpsc::channel(8);
        let (given, answers) = mpsc::channel(8);
        let interface = Interface { invocations: Arc::new(Mutex::new(to_hand_out)), answers: given };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .with_state(interface);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut command = Command::new(env!("CARGO_BIN_EXE_carts-lambda"));
        command
            .stdin(Stdio::null())
            .env("CARTS_TABLES", &api.prefix)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        for (name, value) in [("NAME", "carts"), ("MEMORY_SIZE", "128"), ("VERSION", "1")] {
            command.env(format!("AWS_LAMBDA_FUNCTION_{name}"), value);
        }
        if let Some(endpoint) = server::endpoint() {
            command.env("AWS_ENDPOINT_URL", endpoint);
            for (name, value) in
                [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "eu-west-1")]
            {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
        }
        Self { invocations, answers, _function: Function(command.spawn().unwrap()) }
    }

    /// What API Gateway (HTTP API, payload 2.0) makes of a request, and of the function's answer.
    async fn send(&mut self, method: &str, path: &str, headers: &Value, body: Option<&Value>) -> (u64, Value, Value) {
        let http = json!({ "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test" });
        let context = json!({
            "accountId": "1", "apiId": "a", "domainName": "a.example", "domainPrefix": "a", "http": http, "requestId": "r",
            "routeKey": "$default", "stage": "$default", "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1_773_342_238_000_u64,
        });
        let invocation = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers,
            "requestContext": context, "body": body.map(Value::to_string), "isBase64Encoded": false,
        });
        self.invocations.send(invocation).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_mins(1), self.answers.recv()).await.unwrap().unwrap();
        let body = answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        (answer["statusCode"].as_u64().unwrap(), answer["headers"].clone(), body)
    }
}

async fn next(State(interface): State<Interface>) -> Response {
    let Some(invocation) = interface.invocations.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:carts"),
    ];
    (headers, Json(invocation)).into_response()
}

async fn answered(State(interface): State<Interface>, answer: Bytes) {
    interface.answers.send(serde_json::from_slice(&answer).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_answers_as_the_server_does() {
    let api = Api::new().await;
    let mut gateway = Gateway::start(&api).await;
    let typed = json!({ "content-type": "application/json" });
    let (status, headers, created) = gateway.send("POST", "/cart", &typed, Some(&customer())).await;
    assert_eq!((status, headers["etag"].as_str()), (201, Some("\"1.1.0\"")));
    let id = created["id"].as_str().unwrap();
    let items = json!({ "items": [item("a", 2, 1177)] });
    let path = format!("/cart/{id}/add-items");
    let (status, _, added) = gateway.send("PUT", &path, &typed, Some(&items)).await;
    assert_eq!((status, &added["total"]), (200, &json!(2354)));
    let stale = json!({ "content-type": "application/json", "if-match": "\"1.1.0\"" });
    let (status, headers, problem) = gateway.send("PUT", &path, &stale, Some(&items)).await;
    assert_eq!((status, headers["content-type"].as_str()), (412, Some("application/problem+json")));
    assert_eq!(problem["status"], 412);
    let (status, headers, _) = gateway.send("OPTIONS", "/cart", &json!({}), None).await;
    assert_eq!((status, headers["access-control-allow-methods"].as_str()), (204, Some("POST, OPTIONS")));
    let (status, _, read) = gateway.send("GET", &format!("/cart/{id}"), &json!({}), None).await;
    assert_eq!((status, read), (200, added));
    assert_eq!(api.events().await.len(), 2);
}
