//! A sink that pushes events to a list of Redis, from which workers take them: `RPUSH list <CloudEvent>`, one command an
//! event, all commands of a call in one write. `docs/backends.md` goes through it; its suite is `tests/conformance.rs`.

use std::io;

use async_trait::async_trait;
use outbox::{Batch, Event, Fault, Outcome, Sink, SinkError, SinkLimits, cloudevents::json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::{net::TcpStream, sync::Mutex};

/// The one thing that Redis says against an event. All else it says of itself, `-ERR max number of clients reached` too.
const REFUSED: &str = "-ERR Element too large";

/// Publishes to a list of Redis.
pub struct RedisList {
    /// Host and port.
    pub address: String,
    /// The name of the list.
    pub list: String,
    /// Connections that no call is using.
    pub idle: Mutex<Vec<BufStream<TcpStream>>>,
}

impl RedisList {
    /// Sends `commands` and reads a line of answer for each, which has to begin like one of `known`. The connection is put
    /// back only once all were read: a call that fails or is dropped takes it along, or the next one would read answers that
    /// are not its own.
    async fn call(&self, commands: &[u8], known: &[&str], count: usize) -> Result<Vec<String>, SinkError> {
        let answered = async {
            // A statement of its own: within the `match` the lock would be held until the connection is made.
            let idle = self.idle.lock().await.pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => BufStream::new(TcpStream::connect(&self.address).await?),
            };
            connection.write_all(commands).await?;
            connection.flush().await?;
            let mut answers = vec![String::new(); count];
            for answer in &mut answers {
                connection.read_line(answer).await?;
                let is_known = answer.ends_with('\n') && known.iter().any(|known| answer.starts_with(known));
                is_known.then_some(()).ok_or_else(|| io::Error::other(format!("it answered {answer:?}")))?;
            }
            self.idle.lock().await.push(connection);
            Ok(answers)
        };
        // Whatever failed: some of the events may be in the list.
        let message = format!("Redis at {} takes nothing: see that it is up and can be written", self.address);
        answered.await.map_err(|error: io::Error| SinkError::new(Fault::Sink, message).uncertain().because(error))
    }
}

#[async_trait]
impl Sink for RedisList {
    // Not ordered: what follows a refused command is carried out all the same. So a call has one event of a key at most.
    fn limits(&self) -> SinkLimits {
        SinkLimits { ordered_calls: false, max_events: 100, max_bytes: 4 << 20, max_event_bytes: 1 << 20, max_calls: 4 }
    }

    fn size(&self, event: &Event) -> usize {
        json::encoded_size(event) + self.list.len() + 80
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.call(b"PING\r\n", &["+PONG\r"], 1).await.map(|_| ())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let envelope = batch.envelope();
        let (name, list, mut commands) = (self.list.len(), &self.list, Vec::new());
        for event in batch.events.iter().map(|event| json::encode(event, envelope)) {
            let head = format!("*3\r\n$5\r\nRPUSH\r\n${name}\r\n{list}\r\n${}\r\n", event.len());
            commands.extend([head.as_bytes(), &event, b"\r\n"].concat());
        }
        let outcome = |answer: String| match answer.strip_prefix('-') {
            Some(reason) => Outcome::Refused { permanent: true, reason: reason.trim_end().to_owned() },
            None => Outcome::Accepted,
        };
        Ok(self.call(&commands, &[":", REFUSED], batch.events.len()).await?.into_iter().map(outcome).collect())
    }
}
