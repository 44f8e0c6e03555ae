//! The sink passes the suite, against a server that speaks as much of Redis's protocol as it needs.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use custom_sink::RedisList;
use outbox::{
    Batch, Event, EventRef, Fault, NewEvent, Relay, RouteName, RouteSettings, Sink,
    cloudevents::json,
    memory::{ManualClock, MemoryBookkeeping, MemoryStore, SeededEntropy},
    testing::{Delivery, SinkUnderTest, conformance},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[derive(Default)]
struct State {
    list: Mutex<Vec<Event>>,
    refused: Mutex<BTreeSet<String>>,
    /// What it answers to everything.
    says: Mutex<Option<String>>,
    loses_an_answer: AtomicBool,
    connections: Mutex<Vec<JoinHandle<()>>>,
}

/// A Redis with one list, on a port of its own.
struct Redis {
    sink: Arc<RedisList>,
    address: String,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

impl Redis {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let listening = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let serving = tokio::spawn(serve(BufStream::new(connection), state.clone()));
                    state.connections.lock().unwrap().push(serving);
                }
            }
        });
        Self { sink: sink(&address), address, state, listening }
    }

    fn says(&self, answer: &str) {
        *self.state.says.lock().unwrap() = Some(format!("{answer}\r\n"));
    }

    fn ids(&self) -> Vec<String> {
        self.state.list.lock().unwrap().iter().map(|event| event.id().to_owned()).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.listening.abort();
        self.state.connections.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}

/// The parts of the next command; `None` once the other side has closed.
async fn command(connection: &mut BufStream<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let mut line = String::new();
    connection.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    let Some(count) = line.trim_end().strip_prefix('*') else {
        return Some(vec![line.trim_end().into()]);
    };
    let mut parts = Vec::new();
    for _ in 0..count.parse().ok()? {
        line.clear();
        connection.read_line(&mut line).await.ok()?;
        let mut part = vec![0; line.trim_end().strip_prefix('$')?.parse::<usize>().ok()? + 2];
        connection.read_exact(&mut part).await.ok()?;
        part.truncate(part.len() - 2);
        parts.push(part);
    }
    Some(parts)
}

async fn serve(mut connection: BufStream<TcpStream>, state: Arc<State>) {
    while let Some(parts) = command(&mut connection).await {
        let says = state.says.lock().unwrap().clone();
        let answer = match says {
            Some(answer) => answer,
            None if parts[0] == b"PING" => "+PONG\r\n".to_owned(),
            None => append(&parts, &state),
        };
        if state.loses_an_answer.swap(false, Ordering::SeqCst) {
            return;
        }
        if connection.write_all(answer.as_bytes()).await.is_err() || connection.flush().await.is_err() {
            return;
        }
    }
}

fn append(parts: &[Vec<u8>], state: &State) -> String {
    let [name, list, event] = parts else { panic!("{parts:?}") };
    assert_eq!([&**name, &**list], [&b"RPUSH"[..], b"orders"]);
    let event = json::decode(event).unwrap();
    if state.refused.lock().unwrap().contains(event.id()) {
        return "-ERR Element too large\r\n".to_owned();
    }
    let mut list = state.list.lock().unwrap();
    list.push(event);
    format!(":{}\r\n", list.len())
}

/// The sink, as a process opens it.
fn sink(address: &str) -> Arc<RedisList> {
    Arc::new(RedisList { address: address.to_owned(), list: "orders".to_owned(), idle: Vec::new().into() })
}

#[async_trait]
impl SinkUnderTest for Redis {
    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn delivered(&self) -> Vec<Delivery> {
        self.state.list.lock().unwrap().iter().cloned().map(Delivery::from).collect()
    }

    async fn open(&self) -> Option<Arc<dyn Sink>> {
        Some(sink(&self.address))
    }

    async fn refuse(&self, id: &str) -> bool {
        self.state.refused.lock().unwrap().insert(id.to_owned());
        true
    }

    async fn take_away(&self) -> bool {
        self.listening.abort();
        self.cut_connections().await
    }

    async fn take_nothing(&self) -> bool {
        self.says("-ERR max number of clients reached");
        true
    }

    async fn cut_connections(&self) -> bool {
        let connections = std::mem::take(&mut *self.state.connections.lock().unwrap());
        for connection in connections {
            connection.abort();
            let _ = connection.await;
        }
        true
    }

    async fn lose_an_answer(&self) -> bool {
        self.state.loses_an_answer.store(true, Ordering::SeqCst);
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms() {
    let passed_over = conformance::passed_over_by(conformance::sink::all(Redis::start)).await;
    let checks: Vec<_> = passed_over.iter().map(|one| one.check.as_str()).collect();
    // It does not promise what these look at.
    let ordered = ["events_of_a_call_arrive_in_order", "nothing_of_a_key_is_accepted_behind_what_was_refused"];
    assert_eq!(checks, ordered);
}

/// What Redis answers that says nothing of an event, and what is no answer to what was asked.
const OF_REDIS_ITSELF: [&str; 14] = [
    "-ERR max number of clients reached",
    "-ERR unknown command 'RPUSH', with args beginning with: 'orders'",
    "-ERR Protocol error: invalid bulk length",
    "-OOM command not allowed when used memory > 'maxmemory'.",
    "-LOADING Redis is loading the dataset in memory",
    "-READONLY You can't write against a read only replica.",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "-NOAUTH Authentication required.",
    "-NOPERM User default has no permissions to run the 'rpush' command",
    "-WRONGTYPE Operation against a key holding the wrong kind of value",
    "-CLUSTERDOWN The cluster is down",
    "-MOVED 3999 127.0.0.1:6381",
    "HTTP/1.1 400 Bad Request",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_says_of_itself_blames_no_event() {
    for answer in OF_REDIS_ITSELF {
        let redis = Redis::start().await;
        redis.says(answer);
        let event = json::decode(br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#).unwrap();
        let batch = Batch { events: vec![EventRef::single(event)], gapless: false, replay: None };
        let published = redis.sink.publish(&batch).await;
        assert_eq!(published.map_err(|error| (error.fault, error.uncertain)), Err((Fault::Sink, true)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_passed_by_nothing_but_pong() {
    for answer in OF_REDIS_ITSELF.into_iter().chain(["+OK", "+PONGO", ":1", ""]) {
        let redis = Redis::start().await;
        redis.sink.check().await.unwrap();
        redis.says(answer);
        assert_eq!(redis.sink.check().await.map_err(|error| error.fault), Err(Fault::Sink), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_publishes_through_it() {
    let redis = Redis::start().await;
    let store = MemoryStore::new("/orders", Arc::new(ManualClock::default()), Arc::new(SeededEntropy::new(1))).unwrap();
    for number in 0..30 {
        let event = NewEvent::builder("t").key(format!("order/{}", number % 3)).json(&number).build().unwrap();
        store.write([event]).unwrap();
    }
    let store = Arc::new(store);
    let relay = Relay::builder()
        .source(store.clone())
        .store(store)
        .bookkeeping(Arc::new(MemoryBookkeeping::new(&SeededEntropy::new(2))))
        .route(RouteSettings::new(RouteName::new("redis").unwrap()), redis.sink())
        .build()
        .unwrap();
    let published = async {
        while redis.ids().len() < 30 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let running = relay.run(async {
        tokio::time::timeout(Duration::from_secs(30), published).await.unwrap();
    });
    running.await.unwrap();
    for key in 0..3 {
        let of_key: Vec<_> = redis.ids().into_iter().filter(|id| id.starts_with(&format!("order/{key}@"))).collect();
        let wanted: Vec<_> = (1..=10).map(|sequence| format!("order/{key}@1.{sequence}.0")).collect();
        assert_eq!(of_key, wanted, "each key in order, each event once");
    }
}

#[test]
fn the_sink_has_under_60_lines_of_code() {
    let code = include_str!("../src/lib.rs").lines().map(str::trim);
    let lines = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(lines < 60, "{lines} lines");
}
