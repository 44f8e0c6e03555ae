//! A proxy before DynamoDB that does what no emulator does: it throttles, answers with conflicts, and loses answers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What becomes of a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is refused with this status and this body, and never gets there.
    Answer(u16, String),
    /// It gets there, and its answer is lost.
    LoseAnswer,
    /// It is answered by the service.
    Pass,
    /// It waits on its way until it is released.
    Hold(Held),
}

impl Fault {
    /// An error of the service's.
    pub(crate) fn error(code: &str) -> Self {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"as scripted"}}"#);
        Self::Answer(if code.contains("Internal") { 500 } else { 400 }, body)
    }

    /// A transaction cancelled for these reasons, by position.
    pub(crate) fn cancelled(codes: &[&str]) -> Self {
        let reasons: Vec<_> =
            codes.iter().map(|code| format!(r#"{{"Code":"{code}","Message":"as scripted"}}"#)).collect();
        let body = format!(
            r#"{{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"cancelled","CancellationReasons":[{}]}}"#,
            reasons.join(",")
        );
        Self::Answer(400, body)
    }
}

/// A call on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<[tokio::sync::Notify; 2]>);

impl Held {
    /// Waits until the call is there.
    pub(crate) async fn arrived(&self) {
        tokio::time::timeout(std::time::Duration::from_secs(30), self.0[0].notified()).await.expect("the call is made");
    }

    /// Lets it go on.
    pub(crate) fn release(&self) {
        self.0[1].notify_one();
    }
}

/// A call as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) operation: String,
    pub(crate) body: serde_json::Value,
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<(String, Fault)>>,
    calls: Mutex<Vec<Call>>,
}

/// A proxy, for as long as it lives.
pub(crate) struct Proxy {
    url: String,
    state: Arc<State>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Proxy {
    /// Before the server at `upstream`, as `http://127.0.0.1:8000`.
    pub(crate) async fn before(upstream: &str) -> Self {
        let upstream =
            upstream.strip_prefix("http://").expect("a proxy speaks plain HTTP").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        let listening = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, upstream.clone(), state.clone()));
                }
            }
        });
        Self { url, state, listening }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The next calls of `operation` fare like this, one after the other.
    pub(crate) fn script(&self, operation: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.script.lock().unwrap().extend(faults.into_iter().map(|fault| (operation.to_owned(), fault)));
    }

    /// Holds the next call of `operation` on its way.
    pub(crate) fn hold(&self, operation: &str) -> Held {
        let held = Held::default();
        self.script(operation, [Fault::Hold(held.clone())]);
        held
    }

    /// The calls of `operation` so far.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Call> {
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter(|call| call.operation == operation).cloned().collect()
    }
}

async fn serve(mut client: TcpStream, upstream: String, state: Arc<State>) -> Option<()> {
    let mut server = TcpStream::connect(&upstream).await.ok()?;
    loop {
        let request = message(&mut client).await?;
        let operation = header(&request, "x-amz-target")?.rsplit('.').next()?.to_owned();
        let body = &request[head_end(&request)?..];
        let body = serde_json::from_slice(body).unwrap_or_default();
        state.calls.lock().unwrap().push(Call { operation: operation.clone(), body });
        let fault = {
            let mut script = state.script.lock().unwrap();
            let found = script.iter().position(|(of, _)| *of == operation);
            found.and_then(|index| script.remove(index)).map_or(Fault::Pass, |(_, fault)| fault)
        };
        if let Fault::Answer(status, body) = &fault {
            let answer = format!(
                "HTTP/1.1 {status} Scripted\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes()).await.ok()?;
            continue;
        }
        if let Fault::Hold(held) = &fault {
            held.0[0].notify_one();
            held.0[1].notified().await;
        }
        server.write_all(&request).await.ok()?;
        let answer = message(&mut server).await?;
        match fault {
            Fault::LoseAnswer => return None,
            Fault::Pass | Fault::Hold(_) | Fault::Answer(..) => client.write_all(&answer).await.ok()?,
        }
    }
}

/// One message of HTTP/1.1, head and body.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = head_end(&bytes) {
            let done = match header(&bytes, "content-length") {
                Some(length) => bytes.len() >= end + length.trim().parse::<usize>().ok()?,
                None => header(&bytes, "transfer-encoding").is_none() || bytes.ends_with(b"\r\n0\r\n\r\n"),
            };
            if done {
                return Some(bytes);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

fn header(bytes: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..head_end(bytes)?]).into_owned();
    let line =
        head.lines().find_map(|line| line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name)))?;
    Some(line.1.trim().to_owned())
}
