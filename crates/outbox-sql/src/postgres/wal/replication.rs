//! A session of the replication protocol. PostgreSQL 18, sections 54.4 (streaming replication) and 54.7 (messages).

use std::{io, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use outbox::{ErrorKind, StoreError};
use postgres_protocol::message::frontend;
use tokio::time::timeout;

use super::{frame::Frames, login::log_in, lsn::Lsn, refused};
use crate::postgres::connection::{
    ConnectOptions,
    dial::{Target, dial, targets},
};

pub(super) const STREAMING: &str = "reading the log";
/// 2000-01-01, from which the server counts its microseconds.
const EPOCH: i64 = 946_684_800_000_000;
/// How long a short message may take to be sent.
const SEND_LIMIT: Duration = Duration::from_secs(20);

/// How long the server may take for what waits for nobody. A dead connection is noticed by nothing else while it says nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What a role's settings limit is meant for its statements, not for a stream that never ends; and a server that waits for
/// other transactions has to notice when nobody waits for it any more.
const SETTINGS: &str = "SET statement_timeout = 0; SET idle_session_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET client_connection_check_interval = '2s'";

/// A row of text values.
pub(super) type Row = Vec<Option<String>>;

/// A session that takes commands.
pub(super) struct Replication {
    frames: Frames,
}

/// What the server sends of its log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A message of the output plugin.
    Data(Bytes),
    /// That the server lives, and that everything before this place was sent.
    Alive { sent: Lsn, reply: bool },
}

/// A session that streams the log.
pub(super) struct Streaming {
    frames: Frames,
}

impl Replication {
    /// Connects to the first of the options' servers that is no standby.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if none can be reached; [`ErrorKind::NotPermitted`] if the role may not replicate, or
    /// every server is a standby; otherwise as the server says.
    pub(super) async fn connect(options: &ConnectOptions) -> Result<Self, StoreError> {
        let config = options.config().await?;
        let limit = options.connect_limit();
        let mut failure = StoreError::new(ErrorKind::Invalid, "the database's URL names no host");
        for target in targets(&config) {
            match timeout(limit, Self::at(options, &config, &target)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => failure = error,
                Err(_) => {
                    let message = format!(
                        "connecting to {options}: no answer within {limit:?}: check host, port and firewall, or raise `connect_timeout`"
                    );
                    failure = StoreError::new(ErrorKind::Unavailable, message);
                }
            }
        }
        Err(failure)
    }

    async fn at(
        options: &ConnectOptions,
        config: &tokio_postgres::Config,
        target: &Target,
    ) -> Result<Self, StoreError> {
        let mut frames = Frames::new(dial(options, target).await?);
        log_in(&mut frames, config).await?;
        let mut session = Self { frames };
        session.query(SETTINGS).await?;
        let rows = session.query("SELECT pg_is_in_recovery()").await?;
        if rows.first().and_then(|row| row.first()) != Some(&Some("f".to_owned())) {
            let message = format!("{options} is a standby, whose log is not read: name the primary");
            return Err(StoreError::new(ErrorKind::NotPermitted, message));
        }
        Ok(session)
    }

    /// Sends statements or a command, and gives the rows of all of them.
    ///
    /// # Errors
    /// As the server says, or as the connection failed; [`ErrorKind::Unavailable`] if there is no answer.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, StoreError> {
        answered(self.query_patiently(sql)).await
    }

    /// The same for what may wait for others, as long as the server takes.
    ///
    /// # Errors
    /// As the server says, or as the connection failed.
    pub(super) async fn query_patiently(&mut self, sql: &str) -> Result<Vec<Row>, StoreError> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(broken)?;
        self.frames.send(&message).await.map_err(broken)?;
        let (mut rows, mut refusal) = (Vec::new(), None);
        loop {
            let mut frame = self.frames.next().await.map_err(broken)?;
            match frame.tag {
                b'E' => refusal = Some(refused(STREAMING, &frame.body)),
                b'D' => rows.push(row(&mut frame.body).ok_or_else(|| strange("a row that ends early"))?),
                b'Z' => return refusal.map_or(Ok(rows), Err),
                // What columns there are, that a statement is done, notices.
                _ => {}
            }
        }
    }

    /// Which of the histories of the log the server writes.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn timeline(&mut self) -> Result<u32, StoreError> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let timeline = rows.into_iter().flatten().nth(1).flatten();
        timeline.and_then(|text| text.parse().ok()).ok_or_else(|| strange("a system without a timeline"))
    }

    /// Begins to stream what `publication` publishes, from where `slot` has confirmed, or `from` a later place. Each row comes once its
    /// transaction is committed, in the order of the commits.
    ///
    /// # Errors
    /// As the server says: no such slot, or it is in use, or was lost; [`ErrorKind::Unavailable`] if there is no answer.
    pub(super) async fn start(self, slot: &str, publication: &str, from: Lsn) -> Result<Streaming, StoreError> {
        answered(self.begin(slot, publication, from)).await
    }

    async fn begin(mut self, slot: &str, publication: &str, from: Lsn) -> Result<Streaming, StoreError> {
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}, binary 'true')",
            identifier(slot),
            literal(&identifier(publication)),
        );
        let mut message = BytesMut::new();
        frontend::query(&command, &mut message).map_err(broken)?;
        self.frames.send(&message).await.map_err(broken)?;
        loop {
            let frame = self.frames.next().await.map_err(broken)?;
            match frame.tag {
                b'E' => return Err(refused(STREAMING, &frame.body)),
                // Copying, both ways.
                b'W' => return Ok(Streaming { frames: self.frames }),
                b'N' | b'S' => {}
                found => return Err(strange(&format!("a message `{}`", char::from(found)))),
            }
        }
    }
}

impl Streaming {
    /// What the server sends next. May be dropped at any time without loss.
    ///
    /// # Errors
    /// As the server says, or as the connection failed.
    pub(super) async fn next(&mut self) -> Result<Heard, StoreError> {
        loop {
            let frame = self.frames.next().await.map_err(broken)?;
            if let Some(heard) = heard(frame.tag, frame.body)? {
                return Ok(heard);
            }
        }
    }

    /// The same, if it has come already.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub(super) fn ready(&mut self) -> Result<Option<Heard>, StoreError> {
        while let Some(frame) = self.frames.ready().map_err(broken)? {
            if let Some(heard) = heard(frame.tag, frame.body)? {
                return Ok(Some(heard));
            }
        }
        Ok(None)
    }

    /// Whether nothing more had come by the last look.
    pub(super) fn is_drained(&self) -> bool {
        self.frames.is_drained()
    }

    /// Tells the server that everything before `written` has come, and that nothing before `confirmed` is needed any
    /// more; `reply` asks how far it has sent.
    ///
    /// # Errors
    /// If the connection failed; dropped before it is done, it cannot be used any more.
    pub(super) async fn tell(
        &mut self,
        written: Lsn,
        confirmed: Lsn,
        now: Timestamp,
        reply: bool,
    ) -> Result<(), StoreError> {
        let mut body = [0; 34];
        let mut fields = &mut body[..];
        fields.put_u8(b'r');
        fields.put_u64(written.0);
        fields.put_u64(confirmed.0);
        fields.put_u64(confirmed.0);
        fields.put_i64(now.as_microsecond().saturating_sub(EPOCH));
        fields.put_u8(u8::from(reply));
        let mut message = BytesMut::with_capacity(64);
        frontend::CopyData::new(&body[..]).map_err(broken)?.write(&mut message);
        if let Ok(sent) = timeout(SEND_LIMIT, self.frames.send(&message)).await {
            return sent.map_err(broken);
        }
        let message = format!("{STREAMING}: the server took no message for {SEND_LIMIT:?}");
        Err(StoreError::new(ErrorKind::Unavailable, message))
    }
}

/// Waits for an answer, but not for ever: then the connection cannot be used any more.
async fn answered<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| {
        let message = format!("{STREAMING}: the server gave no answer within {ANSWER_LIMIT:?}");
        Err(StoreError::new(ErrorKind::Unavailable, message))
    })
}

/// What a message of a copying server says; `None` for what does not matter.
fn heard(tag: u8, mut body: Bytes) -> Result<Option<Heard>, StoreError> {
    match tag {
        b'd' => copied(&mut body).map(Some).ok_or_else(|| strange("a message of the log that ends early")),
        b'E' => Err(refused(STREAMING, &body)),
        b'c' | b'C' => {
            Err(StoreError::new(ErrorKind::Unavailable, format!("{STREAMING}: the server is being shut down")))
        }
        b'N' | b'S' => Ok(None),
        found => Err(strange(&format!("a message `{}`", char::from(found)))),
    }
}

fn copied(body: &mut Bytes) -> Option<Heard> {
    match body.try_get_u8().ok()? {
        b'w' => {
            // Where it starts, where the log ends, the clock: none of them is needed, as the messages say it better.
            (body.len() >= 24).then(|| body.advance(24))?;
            Some(Heard::Data(body.clone()))
        }
        b'k' => {
            let sent = Lsn(body.try_get_u64().ok()?);
            let _clock = body.try_get_i64().ok()?;
            Some(Heard::Alive { sent, reply: body.try_get_u8().ok()? == 1 })
        }
        _ => None,
    }
}

fn row(body: &mut Bytes) -> Option<Row> {
    let columns = body.try_get_u16().ok()?;
    let mut row = Row::new();
    for _ in 0..columns {
        let length = body.try_get_i32().ok()?;
        row.push(match usize::try_from(length) {
            Err(_) => None,
            Ok(length) => {
                let value = body.get(..length)?;
                let text = std::str::from_utf8(value).ok()?.to_owned();
                body.advance(length);
                Some(text)
            }
        });
    }
    Some(row)
}

/// `name` as an identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a literal. Commands of the replication protocol know no other escape.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn strange(found: &str) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, format!("{STREAMING}: {found} was not expected"))
}

fn broken(error: io::Error) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, format!("{STREAMING}: {error}")).because(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn data_and_keepalives_are_told_apart() {
        let data = [&b"w"[..], &[0; 24], b"B..."].concat();
        assert_eq!(heard(b'd', data.into()).unwrap(), Some(Heard::Data(Bytes::from_static(b"B..."))));
        let alive = [&b"k"[..], &7_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        assert_eq!(heard(b'd', alive.into()).unwrap(), Some(Heard::Alive { sent: Lsn(7), reply: true }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_dead_is_not_waited_on_for_ever() {
        let session = || {
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            (Replication { frames: Frames::new(Box::new(ours)) }, theirs)
        };
        let (mut asking, _silent) = session();
        assert_eq!(asking.query("SELECT 1").await.unwrap_err().kind(), ErrorKind::Unavailable);
        let (beginning, _silent) = session();
        assert!(beginning.start("s", "p", Lsn(0)).await.is_err_and(|error| error.kind().retry()));
    }

    #[test]
    fn names_are_quoted_whatever_they_are() {
        assert_eq!(literal(&identifier("a\"b'c")), "'\"a\"\"b''c\"'");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tag: u8, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = heard(tag, bytes.clone().into());
            let _ = row(&mut bytes.into());
        }
    }
}
