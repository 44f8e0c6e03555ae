//! Messages of the server, one by one, as they are on the wire.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::postgres::connection::dial::Stream;

/// How much is read at once, and made room for at once: what a message says of its length is believed only as far as its
/// bytes have come.
const CHUNK: usize = 64 << 10;
/// What PostgreSQL itself allows.
const LARGEST: usize = 1 << 30;

/// A message of the server.
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// Reads and writes messages.
pub(super) struct Frames {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    /// The last read took all that had come.
    is_drained: bool,
}

impl Frames {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, incoming: BytesMut::with_capacity(CHUNK), is_drained: true }
    }

    /// The next message. May be dropped at any time: what was read of it is kept for the next call.
    ///
    /// # Errors
    /// If the connection ended, or what came is no message.
    pub(super) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = take(&mut self.incoming)? {
                return Ok(frame);
            }
            self.incoming.reserve(CHUNK);
            let room = self.incoming.capacity() - self.incoming.len();
            let read = self.stream.read_buf(&mut self.incoming).await?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server ended the connection"));
            }
            self.is_drained = read < room;
        }
    }

    /// The next message, if it has come already.
    ///
    /// # Errors
    /// If what came is no message.
    pub(super) fn ready(&mut self) -> io::Result<Option<Frame>> {
        take(&mut self.incoming)
    }

    /// Whether all that had come by the last read is taken, as far as that can be told.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Sends `message`, whole. Dropped before it is done, the connection cannot be used any more.
    ///
    /// # Errors
    /// If the connection ended.
    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await?;
        self.stream.flush().await
    }
}

/// Takes the first message, if all of it is there.
fn take(incoming: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some((head, _)) = incoming.split_first_chunk::<5>() else { return Ok(None) };
    let [tag, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=LARGEST).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes is none")));
    }
    if incoming.len() <= length {
        return Ok(None);
    }
    let mut body = incoming.split_to(length + 1).freeze();
    body.advance(5);
    Ok(Some(Frame { tag, body }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_are_cut() {
        let sent = [message(b'a', b""), message(b'b', &vec![7; 200_000]), message(b'c', b"end")].concat();
        let (ours, mut theirs) = tokio::io::duplex(1_000);
        let mut frames = Frames::new(Box::new(ours));
        let writing = tokio::spawn(async move { theirs.write_all(&sent).await });
        for (tag, length) in [(b'a', 0), (b'b', 200_000), (b'c', 3)] {
            let frame = frames.next().await.unwrap();
            assert_eq!((frame.tag, frame.body.len()), (tag, length));
        }
        writing.await.unwrap().unwrap();
        assert_eq!(frames.next().await.err().unwrap().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_message_that_says_it_is_huge_takes_no_room_before_it_has_come() {
        let (ours, mut theirs) = tokio::io::duplex(1_000);
        let mut frames = Frames::new(Box::new(ours));
        theirs.write_all(&[b'd', 0x3f, 0xff, 0xff, 0xff, 1]).await.unwrap();
        drop(theirs);
        assert!(frames.next().await.is_err());
        assert!(frames.incoming.capacity() <= 4 * CHUNK, "{}", frames.incoming.capacity());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut incoming = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = take(&mut incoming) {
                prop_assert!(frame.body.len() < bytes.len());
            }
        }
    }
}
