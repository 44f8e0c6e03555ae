//! The forwarder of Lambda. From the start of its process to the first time that it asks for an invocation, and to the first
//! event that the bus has accepted, beside a function in Rust that does nothing, and a forwarder in Node with its SDK. Then a
//! batch of 1,000 records through it, against a bare loop of `PutEvents` with the same entries. A server on loopback plays
//! bus and bookkeeping, and answers at once.
//!
//! `benches/run-forwarder [ROUNDS]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use axum::{Router, extract::State, http::HeaderMap, routing::post};
use benches::{
    dynamodb::{Server, is_asked_to_serve},
    function::Function,
    stop_watch::nanos,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::process::Command;

/// Records of the batch, each of a key of its own.
const RECORDS: usize = 1_000;
/// As the sink has them under way at most.
const CALLS: usize = 8;
const STORE: &str = r#"{"Item":{"id":{"S":"store"},"layout":{"N":"1"},"store_id":{"S":"00112233445566778899aabbccddeeff"},
    "producer":{"S":"/carts"},"incarnation":{"N":"1"},"max_event_bytes":{"N":"409600"},"retention_seconds":{"N":"2592000"}}}"#;

/// What the server has seen.
#[derive(Default)]
struct Seen {
    /// When the first entries were accepted since it was asked last.
    first: Option<u64>,
    /// The calls' bodies, while they are wanted.
    bodies: Option<Vec<Value>>,
    /// The registered routes, once there are any: no function is the first of its kind.
    routes: Option<Value>,
}

type Shared = Arc<Mutex<Seen>>;

/// Plays `EventBridge` and `DynamoDB`: takes everything, and has what a forwarder reads.
async fn answer(State(seen): State<Shared>, headers: HeaderMap, body: String) -> String {
    let target = headers.get("x-amz-target").unwrap().to_str().unwrap();
    match target.rsplit('.').next().unwrap() {
        "PutEvents" => put_events(&seen, &body),
        "DescribeEventBus" => r#"{"Name":"bench"}"#.to_owned(),
        "GetItem" => item(&seen, &serde_json::from_str(&body).unwrap()),
        "TransactWriteItems" => {
            let body: Value = serde_json::from_str(&body).unwrap();
            let mut puts = body["TransactItems"].as_array().unwrap().iter().map(|action| &action["Put"]["Item"]);
            if let Some(routes) = puts.find(|item| item["id"]["S"] == "routes") {
                seen.lock().unwrap().routes = Some(routes.clone());
            }
            "{}".to_owned()
        }
        "Query" => r#"{"Items":[],"Count":0}"#.to_owned(),
        _ => "{}".to_owned(),
    }
}

fn put_events(seen: &Shared, body: &str) -> String {
    let entries = body.matches(r#""DetailType""#).count();
    let mut seen = seen.lock().unwrap();
    seen.first.get_or_insert_with(nanos);
    if let Some(bodies) = &mut seen.bodies {
        bodies.push(serde_json::from_str(body).unwrap());
    }
    let accepted = vec![r#"{"EventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}"#; entries];
    format!(r#"{{"FailedEntryCount":0,"Entries":[{}]}}"#, accepted.join(","))
}

/// The rows that a forwarder finds: whose tables they are, the bookkeeping's id, the route's, and the forwarders' lease.
fn item(seen: &Shared, asked: &Value) -> String {
    let key = &asked["Key"];
    let text = |name: &str| key[name]["S"].as_str().unwrap_or_default();
    match (text("id"), text("kind"), text("name")) {
        ("store", _, _) => STORE.to_owned(),
        ("routes", _, _) => match &seen.lock().unwrap().routes {
            Some(routes) => json!({ "Item": routes }).to_string(),
            None => "{}".to_owned(),
        },
        (_, "meta", "identity") => {
            json!({ "Item": { "layout": { "N": "1" }, "id": { "S": "bench" }, "version": { "N": "0" } } }).to_string()
        }
        (_, "route", name) => {
            json!({ "Item": { "name": { "S": name }, "id": { "S": "bench" }, "opened": { "N": "0" } } }).to_string()
        }
        (_, "lease", name) => json!({ "Item": {
            "name": { "S": name }, "epoch": { "N": "1" }, "beat": { "N": "1" }, "holder": { "S": "bench" },
            "duration_ms": { "N": "0" }, "released": { "BOOL": false },
        } })
        .to_string(),
        _ => "{}".to_owned(),
    }
}

async fn serve() {
    let seen = Shared::default();
    let first = |State(seen): State<Shared>| async move { seen.lock().unwrap().first.take().unwrap_or(0).to_string() };
    let record = |State(seen): State<Shared>| async move { seen.lock().unwrap().bodies = Some(Vec::new()) };
    let recorded = |State(seen): State<Shared>| async move {
        serde_json::to_string(&seen.lock().unwrap().bodies.take().unwrap_or_default()).unwrap()
    };
    let router = Router::new()
        .route("/", post(answer))
        .route("/first", post(first))
        .route("/record", post(record))
        .route("/recorded", post(recorded))
        .layer(axum::extract::DefaultBodyLimit::max(32 << 20))
        .with_state(seen);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

/// A batch of records, each an entry with one event of 1 KB.
fn batch(records: usize) -> String {
    let now = jiff::Timestamp::now();
    let record = |number: usize| {
        let (key, data) = (format!("cart/{number}"), benches::payload());
        let image = json!({
            "key": { "S": key }, "sequence": { "N": "1" }, "incarnation": { "N": "1" }, "after": { "S": "0.0.0" },
            "count": { "N": "1" }, "commit_id": { "B": "BwcHBwcHBwcHBwcHBwcHBw==" },
            "recorded_at": { "N": now.as_millisecond().to_string() },
            "expires_at": { "N": (now.as_second() + 2_592_000).to_string() },
            "events": { "L": [{ "M": { "type": { "S": "cart.changed" }, "data": { "S": data } } }] },
        });
        json!({
            "eventID": format!("{number:032x}"), "eventName": "INSERT", "eventVersion": "1.1",
            "eventSource": "aws:dynamodb", "awsRegion": "eu-west-1",
            "dynamodb": {
                "ApproximateCreationDateTime": now.as_second(), "NewImage": image, "SizeBytes": 1400,
                "Keys": { "key": { "S": key }, "sequence": { "N": "1" } },
                "SequenceNumber": format!("{:030}", 100_000_000_000 + number), "StreamViewType": "NEW_IMAGE",
            },
            "eventSourceARN": "arn:aws:dynamodb:eu-west-1:123456789012:table/bench-entries/stream/2026-11-21T00:00:00.000",
        })
    };
    json!({ "Records": (0..records).map(record).collect::<Vec<_>>() }).to_string()
}

/// The functions that are compared.
#[derive(Clone, Copy)]
enum Kind {
    Forwarder,
    Empty,
    Node,
}

impl Kind {
    fn command(self, url: &str) -> Command {
        let beside = |name: &str| std::env::current_exe().unwrap().with_file_name(name);
        let mut command = match self {
            Self::Forwarder => {
                let named = std::env::var_os("OUTBOX_BENCH_FORWARDER").map(PathBuf::from);
                Command::new(named.unwrap_or_else(|| beside("outbox-forwarder")))
            }
            Self::Empty => Command::new(beside("forwarder_empty")),
            Self::Node => {
                let mut node = Command::new("node");
                node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/node-forwarder/index.mjs"));
                node
            }
        };
        for service in ["DYNAMODB", "DYNAMODB_STREAMS", "EVENTBRIDGE"] {
            command.env(format!("AWS_ENDPOINT_URL_{service}"), url);
        }
        for (name, value) in [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
            ("OUTBOX_STORE", "bench"),
            ("OUTBOX_BOOKKEEPING", "bench-bookkeeping"),
            ("OUTBOX_BUS", "bench"),
            ("NODE_NO_WARNINGS", "1"),
        ] {
            command.env(name, value);
        }
        command
    }
}

/// The server, and how it is asked what it has seen.
struct Stub {
    server: Server,
    http: reqwest::Client,
}

impl Stub {
    async fn ask(&self, what: &str) -> String {
        let answer = self.http.post(format!("{}/{what}", self.server.url())).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// The time from a process's start to its first `next`, and to the first accepted event.
    async fn start_up(&self, kind: Kind, payload: &str) -> (Duration, Duration) {
        self.ask("first").await;
        let (before, began) = (nanos(), Instant::now());
        let mut function = Function::start(kind.command(self.server.url())).await;
        let ready = function.ready().await;
        let lag = function.started.duration_since(began);
        if matches!(kind, Kind::Empty) {
            return (ready, ready);
        }
        function.invoke(payload).await;
        let first = self.ask("first").await.parse::<u64>().unwrap();
        assert!(first > 0, "no event arrived");
        (ready, Duration::from_nanos(first - before).saturating_sub(lag))
    }

    /// The calls that the forwarder makes of `payload`.
    async fn calls_of(&self, function: &mut Function, payload: &str) -> Vec<Vec<PutEventsRequestEntry>> {
        self.ask("record").await;
        function.invoke(payload).await;
        let bodies: Vec<Value> = serde_json::from_str(&self.ask("recorded").await).unwrap();
        let entries = |body: &Value| body["Entries"].as_array().unwrap().iter().map(entry).collect();
        bodies.iter().map(entries).collect()
    }
}

fn entry(of: &Value) -> PutEventsRequestEntry {
    let text = |name: &str| of[name].as_str().map(str::to_owned);
    PutEventsRequestEntry::builder()
        .set_event_bus_name(text("EventBusName"))
        .set_source(text("Source"))
        .set_detail_type(text("DetailType"))
        .set_detail(text("Detail"))
        .build()
}

/// Sends the same calls, as many at once, and looks that each entry was taken.
async fn bare(client: &aws_sdk_eventbridge::Client, calls: &[Vec<PutEventsRequestEntry>]) -> Duration {
    let started = Instant::now();
    let sends = futures_util::stream::iter(calls).map(|entries| async move {
        let answer = client.put_events().set_entries(Some(entries.clone())).send().await.unwrap();
        assert_eq!((answer.failed_entry_count, answer.entries().len()), (0, entries.len()));
    });
    sends.buffer_unordered(CALLS).collect::<Vec<()>>().await;
    started.elapsed()
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    benches::percentile(&samples, 0.5)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Prints two times beside Node's, of which they are to be a third at most.
fn beside(what: &str, ours: Duration, empty: Option<Duration>, node: Duration) {
    let (ours, node) = (milliseconds(ours), milliseconds(node));
    let share = ours / node * 100.0;
    let verdict = if share <= 100.0 / 3.0 { "met" } else { "MISSED" };
    let empty = empty.map_or_else(String::new, |empty| format!("  empty {:>6.1} ms", milliseconds(empty)));
    println!("{what:<44} {ours:>6.1} ms{empty}  Node {node:>6.1} ms  ratio {share:>3.0} %  bar 33 %  {verdict}");
}

async fn start_ups(stub: &Stub, rounds: usize) {
    let one = batch(1);
    let mut times = [const { (Vec::new(), Vec::new()) }; 3];
    // In turns, so that whatever else the machine does meets all of them. The first round reads the programs from disk.
    for round in 0..=rounds {
        for (kind, (ready, accepted)) in [Kind::Forwarder, Kind::Empty, Kind::Node].into_iter().zip(&mut times) {
            let (next, first) = stub.start_up(kind, &one).await;
            if round > 0 {
                ready.push(next);
                accepted.push(first);
            }
        }
    }
    let [forwarder, empty, node] = times.map(|(ready, accepted)| (median(ready), median(accepted)));
    beside("process start to the first `next`", forwarder.0, Some(empty.0), node.0);
    beside("process start to the first accepted event", forwarder.1, None, node.1);
}

async fn batches(stub: &Stub, rounds: usize) {
    let payload = batch(RECORDS);
    let mut function = Function::start(Kind::Forwarder.command(stub.server.url())).await;
    let calls = stub.calls_of(&mut function, &payload).await;
    assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), RECORDS);
    let client = stub.server.event_bridge().await;
    bare(&client, &calls).await;
    let mut node = Function::start(Kind::Node.command(stub.server.url())).await;
    node.invoke(&payload).await;
    let (mut ours, mut floor, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(function.invoke(&payload).await);
        floor.push(bare(&client, &calls).await);
        nodes.push(node.invoke(&payload).await);
    }
    let rate = |times: Vec<Duration>| RECORDS as f64 / median(times).as_secs_f64();
    benches::report("a batch of 1,000 records", rate(ours), rate(floor), "events/s", 0.8);
    println!("{:<44} {:>10.0} events/s", "  the same in Node, without order and bookkeeping", rate(nodes));
}

#[tokio::main]
async fn main() {
    if is_asked_to_serve() {
        return serve().await;
    }
    let rounds = std::env::args().nth(1).map_or(20, |rounds| rounds.parse().unwrap());
    let stub = Stub { server: Server::start().await, http: reqwest::Client::new() };
    start_ups(&stub, rounds).await;
    batches(&stub, rounds).await;
}
