//! A proxy before AWS that does what no emulator does: it throttles, answers with conflicts, turns away single entries of
//! a batch, loses calls and answers, is slow, holds calls back, and goes away.
//!
//! What becomes of a call is decided in this order: by a guard before all operations; by the script for its operation, one fault after the other; by a
//! standing rule for its operation; by chance, if a seed was given; else it passes. [`Proxy::before`] a service, what
//! passes is answered by it; [`Proxy::alone`], there is nobody, and what no script and no rule answers is refused.
//!
//! It understands the JSON protocols of AWS (DynamoDB, its Streams, EventBridge, Kinesis), the query protocol (STS, SNS)
//! and S3 with the bucket in the path. What it changes of a request is no longer what was signed, so entries are turned
//! away only before an emulator, or alone.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinHandle},
};

mod call;
mod chance;
mod entries;
mod fault;
mod serve;

pub use call::Call;
pub use chance::Odds;
pub use fault::{Fault, Held};

use chance::Chance;

/// A standing rule: what becomes of each call of an operation.
type Rule = Box<dyn FnMut(&Call) -> Fault + Send>;

/// What is refused, whatever the operation.
type Guard = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    /// Host and port of the service behind; none if the proxy stands alone.
    upstream: Option<String>,
    script: Mutex<VecDeque<(String, Fault)>>,
    guard: Mutex<Option<Guard>>,
    rules: Mutex<Vec<(String, Rule)>>,
    chance: Mutex<Option<Chance>>,
    calls: Mutex<Vec<Call>>,
    forgets: AtomicBool,
    accepted: Mutex<Vec<Value>>,
    open: Mutex<Vec<AbortHandle>>,
}

/// A proxy, for as long as it lives.
pub struct Proxy {
    address: SocketAddr,
    url: String,
    state: Arc<State>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = locked(&self.listening).take() {
            listening.abort();
        }
        self.cut();
    }
}

impl Proxy {
    /// Before the service at `upstream`, as `http://127.0.0.1:8000`.
    ///
    /// # Panics
    /// If `upstream` is not plain HTTP, or this machine has no free port.
    pub async fn before(upstream: &str) -> Self {
        let Some(authority) = upstream.strip_prefix("http://") else {
            panic!("a proxy speaks plain HTTP, and `{upstream}` is something else")
        };
        Self::start(Some(authority.trim_end_matches('/').to_owned())).await
    }

    /// With nobody behind it: every call is answered by a script or a rule, or refused.
    ///
    /// # Panics
    /// If this machine has no free port.
    pub async fn alone() -> Self {
        Self::start(None).await
    }

    async fn start(upstream: Option<String>) -> Self {
        let listener = match TcpListener::bind("127.0.0.1:0").await {
            Ok(listener) => listener,
            Err(error) => panic!("this machine has no free port: {error}"),
        };
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("a listener has no address: {error}"),
        };
        let state = Arc::new(State { upstream, ..State::default() });
        let listening = Mutex::new(Some(listen(listener, state.clone())));
        Self { address, url: format!("http://{address}"), state, listening }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next calls of `operation`, as `PutEvents`, fare like this, one after the other.
    pub fn script(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        locked(&self.state.script).extend(faults.into_iter().map(|fault| (operation.to_owned(), fault)));
    }

    /// Holds the next call of `operation` on its way.
    pub fn hold(&self, operation: &str) -> Held {
        let held = Held::default();
        self.script(operation, [Fault::Hold(held.clone())]);
        held
    }

    /// From now on `decide` says what becomes of a call of `operation` that no script is left for. It takes the place of
    /// an earlier rule.
    pub fn rule(&self, operation: &str, decide: impl FnMut(&Call) -> Fault + Send + 'static) {
        let mut rules = locked(&self.state.rules);
        rules.retain(|(of, _)| of != operation);
        rules.push((operation.to_owned(), Box::new(decide)));
    }

    /// From now on chance decides about calls without script and rule. The same seed draws the same, call by call as they
    /// arrive.
    pub fn seeded(&self, seed: u64, odds: Odds) {
        *locked(&self.state.chance) = Some(Chance::new(seed, odds));
    }

    /// From now on `guard` looks at every call before anything else does, and may say what becomes of it.
    pub fn guard(&self, guard: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *locked(&self.state.guard) = Some(Box::new(guard));
    }

    /// From now on no calls are kept, nor what was accepted: for a proxy that sees very many.
    pub fn forget(&self) {
        self.state.forgets.store(true, Ordering::Relaxed);
    }

    /// The calls of `operation` so far, in the order in which they arrived.
    pub fn calls(&self, operation: &str) -> Vec<Call> {
        locked(&self.state.calls).iter().filter(|call| call.operation == operation).cloned().collect()
    }

    /// All calls so far.
    pub fn all_calls(&self) -> Vec<Call> {
        locked(&self.state.calls).clone()
    }

    /// The entries of `PutEvents` that were accepted, in their order, duplicates included, whether the answer arrived or
    /// not.
    pub fn accepted(&self) -> Vec<Value> {
        locked(&self.state.accepted).clone()
    }

    /// Cuts the connections that are open; new ones are taken.
    pub fn cut(&self) {
        for connection in locked(&self.state.open).drain(..) {
            connection.abort();
        }
    }

    /// Nobody is there any more: connections are cut, new ones are refused.
    pub async fn down(&self) {
        let listening = locked(&self.listening).take();
        if let Some(listening) = listening {
            listening.abort();
            // The port is free once the task is gone; that it was aborted is what was asked for.
            let _ = listening.await;
        }
        self.cut();
    }

    /// There again, at the same address.
    ///
    /// # Panics
    /// If somebody else has taken the port meanwhile.
    pub async fn up(&self) {
        let listener = match TcpListener::bind(self.address).await {
            Ok(listener) => listener,
            Err(error) => panic!("{} was taken meanwhile: {error}", self.address),
        };
        *locked(&self.listening) = Some(listen(listener, self.state.clone()));
    }
}

fn listen(listener: TcpListener, state: Arc<State>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            state.clone().open(client);
        }
    })
}

impl State {
    /// Serves a connection, until it is closed or cut.
    fn open(self: Arc<Self>, client: TcpStream) {
        let serving = tokio::spawn(serve::serve(client, self.clone()));
        let mut open = locked(&self.open);
        open.retain(|connection| !connection.is_finished());
        open.push(serving.abort_handle());
    }

    /// Notes a call, and says what becomes of it.
    fn decide(&self, call: &Call) -> Fault {
        if !self.forgets.load(Ordering::Relaxed) {
            locked(&self.calls).push(call.clone());
        }
        if let Some(fault) = locked(&self.guard).as_mut().and_then(|guard| guard(call)) {
            return fault;
        }
        let scripted = {
            let mut script = locked(&self.script);
            let found = script.iter().position(|(of, _)| *of == call.operation);
            found.and_then(|index| script.remove(index)).map(|(_, fault)| fault)
        };
        scripted
            .or_else(|| {
                let mut rules = locked(&self.rules);
                rules.iter_mut().find(|(of, _)| *of == call.operation).map(|(_, decide)| decide(call))
            })
            .or_else(|| locked(&self.chance).as_mut().map(|chance| chance.decide(call)))
            .unwrap_or(Fault::Pass)
    }
}

/// What a panic left locked is as good as before: each is a list.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
