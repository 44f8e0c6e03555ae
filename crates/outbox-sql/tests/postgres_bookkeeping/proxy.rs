//! A proxy before the server that holds back requests or answers, and cuts connections.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

pub(crate) struct Proxy {
    port: u16,
    server: Arc<Mutex<String>>,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
}

/// One connection through the proxy.
pub(crate) struct Link {
    /// Requests wait here until it is false.
    requests_held: watch::Sender<bool>,
    /// Answers are thrown away while it is true.
    answers_lost: watch::Sender<bool>,
    /// Answers are lost from the request on that has these bytes.
    fatal: Mutex<Option<&'static [u8]>>,
    /// Requests are held from the answer on that has these bytes.
    stilling: Mutex<Option<&'static [u8]>>,
    cut: watch::Sender<bool>,
    /// Bytes of requests that came in.
    asked: AtomicUsize,
    /// Bytes of answers that the server gave.
    answered: AtomicUsize,
    /// Whether the server's side has ended.
    ended: watch::Sender<bool>,
}

impl Proxy {
    /// Before the server at `host_and_port`.
    pub(crate) async fn start(host_and_port: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let links = Arc::<Mutex<Vec<Arc<Link>>>>::default();
        let server = Arc::new(Mutex::new(host_and_port.to_owned()));
        let (made, address) = (links.clone(), server.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let address = address.lock().unwrap().clone();
                let Ok(server) = TcpStream::connect(address).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let link = Arc::new(Link {
                    requests_held: watch::Sender::new(false),
                    answers_lost: watch::Sender::new(false),
                    fatal: Mutex::new(None),
                    stilling: Mutex::new(None),
                    cut: watch::Sender::new(false),
                    asked: AtomicUsize::new(0),
                    answered: AtomicUsize::new(0),
                    ended: watch::Sender::new(false),
                });
                made.lock().unwrap().push(link.clone());
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(requests(link.clone(), from_client, to_server));
                tokio::spawn(answers(link, from_server, to_client));
            }
        });
        Self { port, server, links }
    }

    /// Another server stands behind it from now on; connections to the one before are cut.
    pub(crate) fn lead_to(&self, host_and_port: &str) {
        host_and_port.clone_into(&mut self.server.lock().unwrap());
        for link in self.links() {
            link.cut();
        }
    }

    /// `url`, by way of the proxy.
    pub(crate) fn before(&self, url: &str) -> String {
        let address = host_and_port(url);
        url.replacen(&address, &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Those that were made until now.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.links.lock().unwrap().clone()
    }
}

pub(crate) fn host_and_port(url: &str) -> String {
    let behind_scheme = url.split_once("://").unwrap().1;
    let authority = behind_scheme.split(['/', '?']).next().unwrap();
    authority.rsplit('@').next().unwrap().to_owned()
}

impl Link {
    pub(crate) fn hold_requests(&self) {
        self.requests_held.send_replace(true);
    }

    /// Requests are held from the next answer on that has `bytes`, as if the process stood still then.
    pub(crate) fn hold_requests_from_answer(&self, bytes: &'static [u8]) {
        *self.stilling.lock().unwrap() = Some(bytes);
    }

    /// Waits until requests are held.
    pub(crate) async fn holds_requests(&self) {
        let wait = async { self.requests_held.subscribe().wait_for(|held| *held).await.map(|_| ()) };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap().unwrap();
    }

    pub(crate) fn let_requests_go(&self) {
        self.requests_held.send_replace(false);
    }

    pub(crate) fn lose_answers(&self) {
        self.answers_lost.send_replace(true);
    }

    /// Answers are lost from the next request on that has `bytes`, its own included.
    pub(crate) fn lose_answers_from(&self, bytes: &'static [u8]) {
        *self.fatal.lock().unwrap() = Some(bytes);
    }

    /// The client's side ends; the server's does not until what came in has been passed on.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }

    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Acquire)
    }

    /// Waits until the server has ended the connection, and so has done all that was asked over it.
    pub(crate) async fn ended(&self) {
        let wait = async { self.ended.subscribe().wait_for(|ended| *ended).await.map(|_| ()) };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap().unwrap();
    }
}

/// Whether `bytes` have those that are wanted, if any are.
fn has(bytes: &[u8], wanted: &Mutex<Option<&'static [u8]>>) -> bool {
    wanted.lock().unwrap().is_some_and(|wanted| bytes.windows(wanted.len()).any(|part| part == wanted))
}

async fn requests(link: Arc<Link>, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) {
    let mut bytes = vec![0; 1 << 16];
    let mut held = link.requests_held.subscribe();
    while let Ok(read @ 1..) = client.read(&mut bytes).await {
        link.asked.fetch_add(read, Ordering::AcqRel);
        held.wait_for(|held| !held).await.unwrap();
        if has(&bytes[..read], &link.fatal) {
            link.lose_answers();
        }
        if server.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    held.wait_for(|held| !held).await.unwrap();
    let _ = server.shutdown().await;
}

async fn answers(link: Arc<Link>, mut server: OwnedReadHalf, client: OwnedWriteHalf) {
    let mut client = Some(client);
    let mut bytes = vec![0; 1 << 16];
    let mut cut = link.cut.subscribe();
    loop {
        let read = tokio::select! {
            read = server.read(&mut bytes) => read,
            _ = cut.wait_for(|cut| *cut), if client.is_some() => {
                client = None;
                continue;
            }
        };
        let Ok(read @ 1..) = read else { break };
        link.answered.fetch_add(read, Ordering::AcqRel);
        if has(&bytes[..read], &link.stilling) {
            link.hold_requests();
        }
        if *link.answers_lost.borrow() {
            continue;
        }
        if let Some(writer) = &mut client
            && writer.write_all(&bytes[..read]).await.is_err()
        {
            client = None;
        }
    }
    link.ended.send_replace(true);
}
