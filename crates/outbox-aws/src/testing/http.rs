//! As much of HTTP/1.1 as the servers of this module need: whole messages, one after the other on a connection.
//!
//! Rule: RFC 9112. Messages are read into memory, for tests send small ones.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What a head may take.
const HEAD_BYTES: usize = 64 << 10;
/// What a body may take.
const BODY_BYTES: usize = 64 << 20;

/// A request or an answer.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Request line or status line, without its line break.
    pub(super) start: String,
    /// Names as they were sent, and values.
    pub(super) headers: Vec<(String, String)>,
    /// The body, no longer in chunks.
    pub(super) body: Bytes,
}

impl Message {
    /// An answer with `status`.
    pub(super) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { start: format!("HTTP/1.1 {status} Scripted"), headers, body: body.into() }
    }

    /// The value of the header `name`, whatever its case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A request's method and target.
    pub(super) fn request_line(&self) -> (&str, &str) {
        let mut words = self.start.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// An answer's status.
    pub(super) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The message as it goes over the wire: with its length, and never in chunks.
    fn head(&self, to: Sent) -> String {
        use std::fmt::Write as _;
        let mut head = format!("{}\r\n", self.start);
        let own = |name: &str| {
            let framing = ["content-length", "transfer-encoding", "expect"];
            framing.iter().any(|framing| name.eq_ignore_ascii_case(framing))
        };
        for (name, value) in self.headers.iter().filter(|(name, _)| !own(name)) {
            _ = write!(head, "{name}: {value}\r\n");
        }
        let length = match to {
            // What the body of a GET would have had.
            Sent::AnswerToHead => self.header("content-length").map_or_else(|| "0".to_owned(), str::to_owned),
            Sent::Whole => self.body.len().to_string(),
        };
        _ = write!(head, "content-length: {length}\r\n\r\n");
        head
    }
}

/// What a message is, as far as its body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It has the body that it says.
    Whole,
    /// The answer to a `HEAD`: it says how long a body would be, and has none.
    AnswerToHead,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    read: BytesMut,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// Connects to `authority`, as `127.0.0.1:8000`.
    pub(super) async fn to(authority: &str) -> io::Result<Self> {
        TcpStream::connect(authority).await.map(Self::new)
    }

    /// The next message; `None` once the other side has closed the connection between two of them.
    pub(super) async fn receive(&mut self, sent: Sent) -> io::Result<Option<Message>> {
        let Some(mut message) = self.head().await? else { return Ok(None) };
        if message.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let chunked = message.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        message.body = match message.header("content-length") {
            _ if sent == Sent::AnswerToHead => Bytes::new(),
            _ if chunked => self.chunks().await?,
            Some(length) => {
                let length = length.trim().parse().map_err(|_| unreadable("a content length that is no number"))?;
                self.exactly(length).await?
            }
            None => Bytes::new(),
        };
        Ok(Some(message))
    }

    /// Sends a message whole.
    pub(super) async fn send(&mut self, message: &Message, sent: Sent) -> io::Result<()> {
        let mut bytes = message.head(sent).into_bytes();
        if sent == Sent::Whole {
            bytes.extend_from_slice(&message.body);
        }
        self.stream.write_all(&bytes).await
    }

    async fn head(&mut self) -> io::Result<Option<Message>> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.read.len() > HEAD_BYTES {
                return Err(unreadable("a head that does not end"));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                let between = self.read.is_empty();
                return if between { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let head = String::from_utf8_lossy(&self.read.split_to(end)).into_owned();
        self.read.advance(4);
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Ok(Some(Message { start, headers, body: Bytes::new() }))
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        if length > BODY_BYTES {
            return Err(unreadable("a body of more than 64 MiB"));
        }
        while self.read.len() < length {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.split_to(length).freeze())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.read.split_to(end)).into_owned();
                self.read.advance(2);
                return Ok(line);
            }
            if self.read.len() > HEAD_BYTES || self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn chunks(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| unreadable("a chunk without a size"))?;
            if size == 0 {
                // Trailers, up to an empty line.
                while !self.line().await?.is_empty() {}
                return Ok(body.freeze());
            }
            body.extend_from_slice(&self.exactly(size).await?);
            self.line().await?;
            if body.len() > BODY_BYTES {
                return Err(unreadable("a body of more than 64 MiB"));
            }
        }
    }
}

fn unreadable(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of `sent`.
    async fn read(sent: &'static [u8]) -> Vec<Message> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sending = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for part in sent.chunks(7) {
                stream.write_all(part).await.unwrap();
            }
        });
        let mut connection = Connection::new(listener.accept().await.unwrap().0);
        let mut messages = Vec::new();
        while let Some(message) = connection.receive(Sent::Whole).await.unwrap() {
            messages.push(message);
        }
        sending.await.unwrap();
        messages
    }

    #[tokio::test]
    async fn messages_with_lengths_in_chunks_and_without_bodies_follow_each_other() {
        let messages = read(
            b"POST / HTTP/1.1\r\nX-Amz-Target: A.B\r\nContent-Length: 3\r\n\r\nabc\
              POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: v\r\n\r\n\
              GET /b/k HTTP/1.1\r\n\r\n",
        )
        .await;
        let bodies: Vec<_> = messages.iter().map(|message| message.body.as_ref()).collect();
        assert_eq!(bodies, [&b"abc"[..], b"abcde", b""]);
        assert_eq!(messages[0].header("x-amz-target"), Some("A.B"));
        assert_eq!(messages[2].request_line(), ("GET", "/b/k"));
    }

    #[test]
    fn what_is_sent_on_says_its_length_and_keeps_its_headers() {
        let headers = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue"), ("a", "b")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let message = Message { start: "PUT / HTTP/1.1".to_owned(), headers, body: Bytes::from_static(b"abc") };
        assert_eq!(message.head(Sent::Whole), "PUT / HTTP/1.1\r\na: b\r\ncontent-length: 3\r\n\r\n");
    }
}
