//! A function's process and the runtime interface that it asks: Lambda's own protocol, spoken by a server here.
//!
//! Rule: "Using the Lambda runtime API for custom runtimes" of Lambda's developer guide.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use outbox::{Clock as _, System};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    sync::{Mutex, mpsc},
};

/// How long after its deadline a function is killed that has not answered.
const GRACE: Duration = Duration::from_millis(200);

/// What came of an invocation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The function answered.
    Answered(Value),
    /// It said that it failed.
    Failed(Value),
    /// Its process died, or was killed because its time was over.
    Died,
}

impl Outcome {
    /// The sequence number that a batch is to be handed in again from; none if all of it is done.
    ///
    /// Rule: "Configuring partial batch response": an empty or misnamed identifier means the whole batch.
    pub(crate) fn failed_from(&self, batch: &[Value]) -> Option<usize> {
        let Self::Answered(answer) = self else { return Some(0) };
        let failures = answer["batchItemFailures"].as_array().cloned().unwrap_or_default();
        let index = |failure: &Value| {
            let number = failure["itemIdentifier"].as_str().unwrap_or_default();
            batch.iter().position(|record| record["dynamodb"]["SequenceNumber"] == number).unwrap_or(0)
        };
        failures.iter().map(index).min()
    }
}

/// What the interface hands out.
struct Invocation {
    payload: String,
    deadline_ms: i64,
}

#[derive(Clone)]
struct Interface {
    invocations: Arc<Mutex<mpsc::Receiver<Invocation>>>,
    outcomes: mpsc::Sender<Outcome>,
}

/// How many processes were started.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// One process of a function, which takes one invocation at a time.
pub(crate) struct Sandbox {
    invocations: mpsc::Sender<Invocation>,
    outcomes: mpsc::Receiver<Outcome>,
    process: Arc<Mutex<Child>>,
    printed: PathBuf,
}

/// Kills a process in the middle.
#[derive(Clone)]
pub(crate) struct Killer(Arc<Mutex<Child>>);

impl Killer {
    pub(crate) async fn kill(&self) {
        // It may be gone already.
        let _gone = self.0.lock().await.kill().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.printed);
    }
}

impl Sandbox {
    /// Starts `program` with these variables.
    pub(crate) async fn start(program: &str, environment: &[(String, String)]) -> Self {
        let (invocations, to_hand_out) = mpsc::channel(1);
        let (given, outcomes) = mpsc::channel(4);
        let interface = Interface { invocations: Arc::new(Mutex::new(to_hand_out)), outcomes: given };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failed))
            .route("/2018-06-01/runtime/init/error", post(failed))
            .layer(DefaultBodyLimit::max(8 << 20))
            .with_state(interface);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut command = Command::new(program);
        let name = format!("printed-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let printed = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        command.stdin(Stdio::null()).stdout(File::create(&printed).unwrap()).kill_on_drop(true);
        command.env("AWS_LAMBDA_RUNTIME_API", address.to_string());
        for (name, value) in [("NAME", "carts"), ("MEMORY_SIZE", "256"), ("VERSION", "1")] {
            command.env(format!("AWS_LAMBDA_FUNCTION_{name}"), value);
        }
        // It is known by its name to whoever judges its rights.
        command.env("AWS_SDK_UA_APP_ID", Path::new(program).file_name().unwrap());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let process = Arc::new(Mutex::new(command.spawn().unwrap()));
        Self { invocations, outcomes, process, printed }
    }

    /// What it printed last that is JSON.
    pub(crate) fn printed(&self) -> Value {
        let text = std::fs::read_to_string(&self.printed).unwrap();
        text.lines().rev().find_map(|line| serde_json::from_str(line).ok()).expect("a line of JSON")
    }

    pub(crate) fn killer(&self) -> Killer {
        Killer(self.process.clone())
    }

    /// Hands `payload` in and waits for what comes of it, `time` at most: then the process is killed, as the service does.
    pub(crate) async fn invoke(&mut self, payload: String, time: Duration) -> Outcome {
        let deadline_ms = System.wall().as_millisecond() + i64::try_from(time.as_millis()).unwrap();
        self.invocations.send(Invocation { payload, deadline_ms }).await.unwrap();
        let over = tokio::time::sleep(time + GRACE);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                outcome = self.outcomes.recv() => return outcome.unwrap_or(Outcome::Died),
                () = &mut over => {
                    self.killer().kill().await;
                    return Outcome::Died;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    if self.process.lock().await.try_wait().unwrap().is_some() {
                        return self.outcomes.try_recv().unwrap_or(Outcome::Died);
                    }
                }
            }
        }
    }
}

async fn next(State(interface): State<Interface>) -> Response {
    let Some(invocation) = interface.invocations.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", invocation.deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-west-1:123456789012:function:carts-forwarder".to_owned(),
        ),
    ];
    (headers, invocation.payload).into_response()
}

async fn answered(State(interface): State<Interface>, answer: Bytes) -> StatusCode {
    interface.outcomes.send(Outcome::Answered(serde_json::from_slice(&answer).unwrap())).await.unwrap();
    StatusCode::ACCEPTED
}

async fn failed(State(interface): State<Interface>, answer: Bytes) -> StatusCode {
    interface.outcomes.send(Outcome::Failed(serde_json::from_slice(&answer).unwrap())).await.unwrap();
    StatusCode::ACCEPTED
}
