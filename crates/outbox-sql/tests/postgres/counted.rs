//! A session that counts how often the client spoke after the server did: its round trips.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_postgres::{Client, NoTls};

struct Counted {
    stream: TcpStream,
    spoke_last: AtomicBool,
    turns: Arc<AtomicUsize>,
}

/// A session at `url`, and what gives the number of its round trips so far.
pub(crate) async fn session(url: &str) -> (Client, impl Fn() -> usize) {
    let config: tokio_postgres::Config = url.parse().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", config.get_ports()[0])).await.unwrap();
    let turns = Arc::<AtomicUsize>::default();
    let stream = Counted { stream, spoke_last: AtomicBool::new(false), turns: turns.clone() };
    let (client, connection) = config.connect_raw(stream, NoTls).await.unwrap();
    tokio::spawn(connection);
    (client, move || turns.load(Ordering::Acquire))
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.spoke_last.store(false, Ordering::Release);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) && !self.spoke_last.swap(true, Ordering::AcqRel) {
            self.turns.fetch_add(1, Ordering::AcqRel);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
