//! A proxy before the server that cuts the first connection that commits, before or behind the commit.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Where the connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never gets the COMMIT.
    Before,
    /// The server has done it, and its answer is lost.
    Behind,
}

pub(crate) struct Cutter {
    port: u16,
    /// Taken when it was done.
    cut: Arc<Mutex<Option<Cut>>>,
}

impl Cutter {
    /// Before the server at `address`.
    pub(crate) async fn start(address: &str, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cutter = Self { port, cut: Arc::new(Mutex::new(Some(cut))) };
        let (server, cut) = (address.to_owned(), cutter.cut.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                tokio::spawn(link(client, server, cut.clone()));
            }
        });
        cutter
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }
}

/// One connection. Returning closes both its ends.
async fn link(mut client: TcpStream, mut server: TcpStream, cut: Arc<Mutex<Option<Cut>>>) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let is_commit = asked[..read].windows(6).any(|part| part == b"COMMIT");
                let cut = if is_commit { cut.lock().unwrap().take() } else { None };
                if cut == Some(Cut::Before) {
                    return;
                }
                server.write_all(&asked[..read]).await.unwrap();
                if cut == Some(Cut::Behind) {
                    // It answers once it is done.
                    assert!(server.read(&mut answered).await.unwrap() > 0);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
