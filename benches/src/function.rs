//! A function's process, and the runtime interface of Lambda that it asks for invocations, with the times at which it does.
//!
//! Rule: "Using the Lambda runtime API for custom runtimes" of Lambda's developer guide.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use tokio::{
    process::{Child, Command},
    sync::{Notify, mpsc},
};

/// How long an invocation may take.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Interface {
    invocations: Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>,
    answers: mpsc::Sender<(String, Instant)>,
    asked: Arc<(Mutex<Option<Instant>>, Notify)>,
}

/// A process of a function.
pub struct Function {
    /// When the process was started.
    pub started: Instant,
    invocations: mpsc::Sender<String>,
    answers: mpsc::Receiver<(String, Instant)>,
    asked: Arc<(Mutex<Option<Instant>>, Notify)>,
    _process: Child,
}

impl Function {
    /// Starts `command`, which has the rest of its environment.
    pub async fn start(mut command: Command) -> Self {
        let (invocations, to_hand_out) = mpsc::channel(1);
        let (given, answers) = mpsc::channel(1);
        let asked = Arc::new((Mutex::new(None), Notify::new()));
        let invoked = Arc::new(tokio::sync::Mutex::new(to_hand_out));
        let interface = Interface { invocations: invoked, answers: given, asked: asked.clone() };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(answered))
            .route("/2018-06-01/runtime/init/error", post(answered))
            .with_state(interface);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        for (name, value) in [("NAME", "bench"), ("MEMORY_SIZE", "256"), ("VERSION", "1")] {
            command.env(format!("AWS_LAMBDA_FUNCTION_{name}"), value);
        }
        command.env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let started = Instant::now();
        let process = command.spawn().unwrap();
        Self { started, invocations, answers, asked, _process: process }
    }

    /// From its start until it asked for its first invocation.
    pub async fn ready(&self) -> Duration {
        let (first, told) = &*self.asked;
        loop {
            let waiting = told.notified();
            if let Some(at) = *first.lock().unwrap() {
                return at.duration_since(self.started);
            }
            tokio::time::timeout(TIMEOUT, waiting).await.expect("it asks for an invocation");
        }
    }

    /// Hands a payload in, and gives how long it took to be answered.
    pub async fn invoke(&mut self, payload: &str) -> Duration {
        let handed = Instant::now();
        self.invocations.send(payload.to_owned()).await.unwrap();
        let answer = tokio::time::timeout(TIMEOUT, self.answers.recv()).await.expect("it answers in time");
        let (answer, at) = answer.expect("it answers");
        assert_eq!(answer.replace(' ', ""), r#"{"batchItemFailures":[]}"#);
        at.duration_since(handed)
    }
}

async fn next(State(interface): State<Interface>) -> Response {
    let (first, told) = &*interface.asked;
    first.lock().unwrap().get_or_insert_with(Instant::now);
    told.notify_waiters();
    let Some(payload) = interface.invocations.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let deadline = jiff::Timestamp::now().as_millisecond() + i64::try_from(TIMEOUT.as_millis()).unwrap();
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:bench".to_owned()),
    ];
    (headers, payload).into_response()
}

async fn answered(State(interface): State<Interface>, answer: String) {
    // A function that is gone is asked for nothing more.
    let _ = interface.answers.send((answer, Instant::now())).await;
}
