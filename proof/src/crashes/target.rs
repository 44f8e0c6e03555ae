//! A webhook's target whose mood the test sets, and that notes every arrival.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use outbox::{
    Event,
    cloudevents::http::{Received, decode},
};
use serde_json::json;
use tokio::{net::TcpSocket, runtime::Runtime};

use super::{arrivals::Arrival, rig::eventually};

/// What a target answers to an event.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 204.
    Accept,
    /// 204, after a while.
    AcceptAfter(Duration),
    /// 422 with a reason.
    Refuse(&'static str),
    /// 500, for the whole request.
    Fail,
    /// Nothing, ever.
    Hang,
    /// 429: not now.
    Throttle,
}

type Mood = Arc<dyn Fn(&Event) -> Answer + Send + Sync>;

struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    mood: Mutex<Mood>,
    /// Whether a batch gets an outcome for each event, or is refused as a whole.
    outcomes: bool,
}

/// An HTTP server on an address of its own.
pub struct Target {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Default for Target {
    fn default() -> Self {
        Self::new()
    }
}

impl Target {
    /// A target that accepts everything.
    pub fn new() -> Self {
        let mut target = Self::down_at_first();
        target.up();
        target
    }

    /// A target that answers a batch as a whole, as one that knows nothing of Outbox does.
    pub fn of_whole_batches() -> Self {
        let mut target = Self::make(false);
        target.up();
        target
    }

    /// A target that refuses connections until it comes up.
    pub fn down_at_first() -> Self {
        Self::make(true)
    }

    fn make(outcomes: bool) -> Self {
        // An address that nobody else binds, lest somebody takes the port while the target is down.
        static HOSTS: AtomicU8 = AtomicU8::new(1);
        let host = HOSTS.fetch_add(1, Ordering::SeqCst);
        let [high, low, ..] = std::process::id().to_be_bytes()[2..] else { unreachable!("four bytes") };
        let address = IpAddr::from(Ipv4Addr::new(127, high | 0x40, low, host));
        let mood: Mood = Arc::new(|_| Answer::Accept);
        let shared = Shared { arrivals: Mutex::default(), mood: Mutex::new(mood), outcomes };
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        Self { shared: Arc::new(shared), address: socket.local_addr().unwrap(), runtime: None }
    }

    /// Listens, at the same address as before.
    pub fn up(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = runtime.enter();
        let listener = eventually("the address is free", || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(self.address).and_then(|()| socket.listen(1024)).ok()
        });
        let router = Router::new().fallback(receive).with_state(self.shared.clone());
        let router = router.layer(axum::extract::DefaultBodyLimit::max(64 << 20));
        runtime.spawn(async move { axum::serve(listener, router).await });
        drop(inside);
        self.runtime = Some(runtime);
    }

    /// Closes every connection and refuses new ones.
    pub fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A route's sink: this target, with further settings.
    pub fn sink(&self, settings: &str) -> String {
        let settings = if settings.is_empty() { String::new() } else { format!(", {settings}") };
        format!("webhook = {{ url = 'http://{}/events'{settings} }}\n", self.address)
    }

    /// A route `main` to this target, with further settings of its own.
    pub fn route(&self, settings: &str) -> String {
        format!("[[route]]\nname = 'main'\n{}{settings}", self.sink(""))
    }

    /// Answers by `mood` from now on.
    pub fn set_mood(&self, mood: impl Fn(&Event) -> Answer + Send + Sync + 'static) {
        *self.shared.mood.lock().unwrap() = Arc::new(mood);
    }

    /// Everything that has arrived.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    /// What has arrived from the `first`-th on, counted from 0.
    pub fn arrivals_since(&self, first: usize) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().get(first..).unwrap_or_default().to_vec()
    }

    /// How much has arrived.
    pub fn count(&self) -> usize {
        self.shared.arrivals.lock().unwrap().len()
    }

    /// Waits until so much has arrived.
    pub fn wait_count(&self, count: usize) {
        eventually(&format!("{count} arrivals"), || (self.count() >= count).then_some(()));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let (events, batch) = match decode(pairs, body) {
        Ok(Received::One(event)) => (vec![event], false),
        Ok(Received::Batch(events)) => (events.into_iter().map(Result::unwrap).collect(), true),
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let relay = headers.get("x-relay").map(|value| value.to_str().unwrap().to_owned());
    let answers = note(&shared, &events, relay.as_deref());
    for answer in &answers {
        match answer {
            Answer::Hang => std::future::pending::<()>().await,
            Answer::AcceptAfter(delay) => tokio::time::sleep(*delay).await,
            Answer::Accept | Answer::Refuse(_) | Answer::Fail | Answer::Throttle => {}
        }
    }
    if answers.iter().any(|answer| matches!(answer, Answer::Fail)) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "it fell over").into_response();
    }
    if answers.iter().any(|answer| matches!(answer, Answer::Throttle)) {
        return (StatusCode::TOO_MANY_REQUESTS, "not now").into_response();
    }
    let refused = answers.iter().find_map(|answer| match answer {
        Answer::Refuse(reason) => Some(*reason),
        _ => None,
    });
    match refused {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(_) if batch && shared.outcomes => outcomes(&answers),
        Some(reason) => (StatusCode::UNPROCESSABLE_ENTITY, reason).into_response(),
    }
}

/// Notes what arrives and what is answered, in one go, so that the order of the notes is that of the arrivals.
fn note(shared: &Shared, events: &[Event], relay: Option<&str>) -> Vec<Answer> {
    let mood = shared.mood.lock().unwrap().clone();
    let mut arrivals = shared.arrivals.lock().unwrap();
    let answers: Vec<_> = events.iter().map(|event| mood(event)).collect();
    let whole = shared.outcomes || !answers.iter().any(|answer| matches!(answer, Answer::Refuse(_)));
    let whole = whole && !answers.iter().any(|answer| matches!(answer, Answer::Fail | Answer::Throttle));
    for (event, answer) in events.iter().zip(&answers) {
        let accepted = whole && matches!(answer, Answer::Accept | Answer::AcceptAfter(_));
        arrivals.push(Arrival::of(event, relay, accepted));
    }
    answers
}

fn outcomes(answers: &[Answer]) -> Response {
    let outcome = |answer: &Answer| match answer {
        Answer::Refuse(reason) => json!({ "status": 422, "reason": reason }),
        _ => json!({ "status": 202 }),
    };
    let body = json!({ "outcomes": answers.iter().map(outcome).collect::<Vec<_>>() });
    Response::builder()
        .status(StatusCode::MULTI_STATUS)
        .header(header::CONTENT_TYPE, "application/vnd.outbox.outcomes+json")
        .body(Body::from(body.to_string()))
        .unwrap()
}
