//! A proxy between relay and target that loses what passes.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::sleep,
};

/// How long a relay waits for its target in these worlds.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(400);
/// Of how many requests one is struck.
const ONE_IN: u32 = 4;

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The connection is reset before the request reaches the target.
    Request,
    /// The target has the request; the connection is reset in place of the answer.
    Answer,
    /// Half of the answer comes, then the connection ends.
    HalfAnswer,
    /// The answer comes after the relay has stopped waiting for it.
    LateAnswer,
    /// The request comes to the target after the relay has stopped waiting for the answer.
    LateRequest,
}

impl Loss {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Request, Self::Answer, Self::HalfAnswer, Self::LateAnswer, Self::LateRequest];

    /// Whether the target gets what the relay believes unanswered, so that it comes again.
    const fn doubles(self) -> bool {
        !matches!(self, Self::Request)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "connections reset before the request",
            Self::Answer => "answers lost",
            Self::HalfAnswer => "half answers",
            Self::LateAnswer => "answers after the timeout",
            Self::LateRequest => "requests delivered after the timeout",
        })
    }
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    loss: Mutex<Option<Loss>>,
    rng: Mutex<Rng>,
    struck: AtomicUsize,
    doubled: AtomicUsize,
}

impl Shared {
    /// What becomes of the next request.
    fn strike(&self) -> Option<Loss> {
        let loss = (*self.loss.lock().unwrap())?;
        if self.rng.lock().unwrap().u32(..ONE_IN) > 0 {
            return None;
        }
        self.struck.fetch_add(1, Ordering::SeqCst);
        self.doubled.fetch_add(usize::from(loss.doubles()), Ordering::SeqCst);
        Some(loss)
    }
}

/// A proxy in front of one target. Passes everything on until it is told to lose something.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// A proxy in front of `target`.
    pub fn new(target: SocketAddr, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            loss: Mutex::new(None),
            rng: Mutex::new(Rng::with_seed(seed)),
            struck: AtomicUsize::new(0),
            doubled: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = accepting.clone();
                // A connection that fails is what this is about: the relay has to cope.
                tokio::spawn(async move { pass(&shared, client).await.ok() });
            }
        });
        Self { shared, address, runtime: Some(runtime) }
    }

    /// The URL for a route.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Loses this from now on, or nothing.
    pub fn lose(&self, loss: Option<Loss>) {
        *self.shared.loss.lock().unwrap() = loss;
    }

    /// How many requests were struck.
    pub fn struck(&self) -> usize {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// How many of them may have reached the target without the relay knowing.
    pub fn doubled(&self) -> usize {
        self.shared.doubled.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Passes one connection on, a request at a time: the relay sends the next one only after an answer.
async fn pass(shared: &Shared, mut client: TcpStream) -> std::io::Result<()> {
    let mut target = TcpStream::connect(shared.target).await?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (mut sent, mut answered) = (vec![0_u8; 1 << 16], vec![0_u8; 1 << 16]);
    // Whether a request is under way, and what becomes of it.
    let (mut asked, mut loss) = (false, None);
    loop {
        tokio::select! {
            read = client.read(&mut sent) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                if !asked {
                    (asked, loss) = (true, shared.strike());
                    match loss {
                        Some(Loss::Request) => return reset(&client),
                        Some(Loss::LateRequest) => sleep(CALL_TIMEOUT * 2).await,
                        Some(Loss::Answer | Loss::HalfAnswer | Loss::LateAnswer) | None => {}
                    }
                }
                target.write_all(&sent[..length]).await?;
            }
            read = target.read(&mut answered) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                asked = false;
                match loss.take() {
                    Some(Loss::Answer) => return reset(&client),
                    Some(Loss::HalfAnswer) => return client.write_all(&answered[..length / 2]).await,
                    Some(Loss::LateAnswer) => sleep(CALL_TIMEOUT * 2).await,
                    Some(Loss::Request | Loss::LateRequest) | None => {}
                }
                client.write_all(&answered[..length]).await?;
            }
        }
    }
}

/// Has a connection end the hard way, once it is dropped.
fn reset(client: &TcpStream) -> std::io::Result<()> {
    client.set_zero_linger()
}
