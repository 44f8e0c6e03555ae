//! A small HTTP/1.1 server on a loopback port, which does exactly what a test says, misbehaviour included.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// What a client sent.
#[derive(Debug)]
pub(super) struct Received {
    /// Method and path.
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The number of its connection, from 1.
    pub(super) connection: usize,
}

impl Received {
    /// The only value of a header; panics if there is none or several.
    pub(super) fn header(&self, name: &str) -> &str {
        let values: Vec<_> = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value).collect();
        let [value] = values.as_slice() else { panic!("`{name}`: {values:?}") };
        value
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n == name)
    }
}

/// What to do with a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// Sends these bytes and waits for the next request.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes.
    Close(Vec<u8>),
    /// Sends these bytes, then more without end.
    Endless(Vec<u8>),
    /// Sends these bytes, then nothing, but stays connected.
    Silence(Vec<u8>),
}

impl Reply {
    pub(super) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes())
    }
}

pub(super) struct Server {
    pub(super) port: u16,
    received: mpsc::UnboundedReceiver<Received>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Gives every request the same reply.
    pub(super) async fn start(reply: Reply) -> Self {
        Self::listen(reply, None).await
    }

    pub(super) async fn start_tls(reply: Reply, config: rustls::ServerConfig) -> Self {
        Self::listen(reply, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(reply: Reply, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (reply, sender, tls) = (reply.clone(), sender.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, connection, reply, sender).await,
                        // A client that does not trust the certificate goes away.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, connection, reply, sender).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { port, received, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.port)
    }

    /// The next request that arrived.
    pub(super) async fn next(&mut self) -> Received {
        self.received.recv().await.unwrap()
    }

    /// Whether no further request has arrived.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.received.try_recv().is_err()
    }
}

/// Ends with the connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    reply: Reply,
    sender: mpsc::UnboundedSender<Received>,
) -> Option<()> {
    loop {
        let request = read_request(&mut stream, connection).await?;
        sender.send(request).ok()?;
        let (Reply::Bytes(bytes) | Reply::Close(bytes) | Reply::Endless(bytes) | Reply::Silence(bytes)) = &reply;
        stream.write_all(bytes).await.ok()?;
        stream.flush().await.ok()?;
        match reply {
            Reply::Bytes(_) => {}
            Reply::Close(_) => return None,
            Reply::Endless(_) => loop {
                stream.write_all(&[b'x'; 4096]).await.ok()?;
            },
            Reply::Silence(_) => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { line, headers, body, connection })
}
