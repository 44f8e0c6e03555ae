//! A proxy before the server that counts how often the client spoke after the server did: round trips.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub(crate) struct Turns {
    port: u16,
    turns: Arc<AtomicUsize>,
}

impl Turns {
    /// Before the server at `host_and_port`.
    pub(crate) async fn start(host_and_port: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (turns, server) = (Arc::<AtomicUsize>::default(), host_and_port.to_owned());
        let counted = turns.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                tokio::spawn(pass(client, server, counted.clone()));
            }
        });
        Self { port, turns }
    }

    /// `url`, by way of the proxy.
    pub(crate) fn before(&self, url: &str) -> String {
        url.replacen(&crate::proxy::host_and_port(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// Those until now.
    pub(crate) fn count(&self) -> usize {
        self.turns.load(Ordering::Acquire)
    }
}

/// What the client has said is passed on before the server is heard.
async fn pass(mut client: TcpStream, mut server: TcpStream, turns: Arc<AtomicUsize>) -> io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut client_spoke_last = false;
    loop {
        tokio::select! {
            biased;
            read = client.read(&mut asked) => {
                let read @ 1.. = read? else { return Ok(()) };
                if !client_spoke_last {
                    turns.fetch_add(1, Ordering::AcqRel);
                }
                client_spoke_last = true;
                server.write_all(&asked[..read]).await?;
            }
            read = server.read(&mut answered) => {
                let read @ 1.. = read? else { return Ok(()) };
                client_spoke_last = false;
                client.write_all(&answered[..read]).await?;
            }
        }
    }
}
