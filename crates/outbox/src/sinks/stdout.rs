//! JSON lines on standard output.

use std::{
    fmt,
    io::{self, Write},
};

use async_trait::async_trait;

use super::{
    alone::{Alone, NotDone},
    lines,
};
use crate::{
    event::Event,
    sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits},
};

/// Writes events to standard output, one structured CloudEvent a line, in their order: for looking, and for piping
/// into another program.
///
/// *Durability*: none. An event counts as accepted once the operating system has taken its line; what the program
/// behind a pipe does with it is unknown. *Duplicates*: after a failed write, whole lines of the call may be there
/// already, and the last one may be torn; it is ended before the next call's first line. *Cancellation*: a write to a pipe
/// that nobody reads goes on after its call was dropped, for as long as the pipe is open; until it has ended, every call
/// fails as the sink's fault, and no further thread waits. It holds up neither the runtime's nor the process's end.
///
/// Line breaks inside a JSON payload become spaces.
#[derive(Clone)]
pub struct StdoutSink {
    output: Alone<Output>,
}

struct Output {
    writer: Box<dyn Write + Send>,
    /// A write failed, and may have left half a line.
    torn: bool,
}

impl Output {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let torn = std::mem::replace(&mut self.torn, true);
        if torn {
            self.writer.write_all(b"\n")?;
        }
        self.writer.write_all(lines)?;
        self.writer.flush()?;
        self.torn = false;
        Ok(())
    }
}

impl StdoutSink {
    /// A sink that writes to this process's standard output.
    pub fn new() -> Self {
        Self::to(io::stdout())
    }

    fn to(writer: impl Write + Send + 'static) -> Self {
        Self { output: Alone::new(Output { writer: Box::new(writer), torn: false }) }
    }
}

impl Default for StdoutSink {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StdoutSink")
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn limits(&self) -> SinkLimits {
        lines::LIMITS
    }

    fn size(&self, event: &Event) -> usize {
        lines::size(event)
    }

    /// Always well: whether somebody reads is known only from writing.
    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let lines = lines::encode(batch);
        match self.output.run("outbox-stdout", move |output| output.append(&lines)).await {
            Ok(Ok(())) => Ok(vec![Outcome::Accepted; batch.events.len()]),
            Ok(Err(error)) => Err(failure(error)),
            Err(not_done) => Err(not_written(not_done)),
        }
    }
}

fn not_written(not_done: NotDone) -> SinkError {
    match not_done {
        NotDone::Stuck => SinkError::new(
            Fault::Sink,
            "nobody reads standard output: an earlier write to it has not ended; let the program behind the pipe go on, \
             or start the relay again together with it",
        ),
        NotDone::NoThread(error) => {
            let message = "no thread to write to standard output could be started: raise the limit on threads";
            SinkError::new(Fault::Sink, message).because(error)
        }
        NotDone::CutShort => SinkError::new(Fault::Unknown, "writing to standard output was cut short").uncertain(),
    }
}

fn failure(error: io::Error) -> SinkError {
    let message = if error.kind() == io::ErrorKind::BrokenPipe {
        "nobody reads standard output any more: start the relay again together with the program behind the pipe".into()
    } else {
        format!("cannot write to standard output: {error}")
    };
    SinkError::new(Fault::Sink, message).uncertain().because(error)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, sync::Arc, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::{EventRef, testing_event};

    fn batch(numbers: std::ops::RangeInclusive<u64>) -> Batch {
        let events = numbers.map(|n| EventRef::single(testing_event("t", Some("k"), n))).collect();
        Batch { events, gapless: false, replay: None }
    }

    #[tokio::test]
    async fn every_event_of_a_batch_is_a_line_of_the_output_in_order() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = StdoutSink::to(writer);
        assert_eq!(sink.publish(&batch(1..=2)).await.unwrap(), vec![Outcome::Accepted; 2]);
        drop(sink);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        let ids: Vec<_> = output.lines().map(|line| ["k@1.1.0", "k@1.2.0"].map(|id| line.contains(id))).collect();
        assert_eq!(ids, [[true, false], [false, true]]);
    }

    #[tokio::test]
    async fn a_broken_pipe_is_the_sinks_fault() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let error = StdoutSink::to(writer).publish(&batch(1..=1)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Sink);
        assert!(error.message.contains("nobody reads"), "{error}");
    }

    #[test]
    fn behind_a_write_that_is_stuck_calls_fail_and_the_runtime_ends() {
        let (mut reader, writer) = io::pipe().unwrap();
        // More than any pipe holds.
        let large = batch(1..=50_000);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let sink = StdoutSink::to(writer);
            let dropped = timeout(Duration::from_millis(1), sink.publish(&large)).await;
            assert!(dropped.is_err(), "the pipe took everything");
            for _ in 0..3 {
                let error = sink.publish(&batch(1..=1)).await.unwrap_err();
                assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
                assert!(error.message.contains("nobody reads"), "{error}");
            }
        });
        // Waits for the runtime's threads; the test would not end.
        drop(runtime);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        assert_eq!(output.lines().count(), 50_000, "no call but the first has written anything");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_full_device_is_the_sinks_fault() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = StdoutSink::to(full).publish(&batch(1..=1)).await.unwrap_err();
        assert_eq!((error.fault, error.uncertain), (Fault::Sink, true));
    }

    /// Takes half of the first write, then fails once.
    struct Halving {
        taken: Arc<std::sync::Mutex<Vec<u8>>>,
        writes: usize,
    }

    impl Write for Halving {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            let count = match self.writes {
                1 => bytes.len() / 2,
                2 => return Err(io::ErrorKind::StorageFull.into()),
                _ => bytes.len(),
            };
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_torn_line_is_ended_before_the_next_one() {
        let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = StdoutSink::to(Halving { taken: Arc::clone(&taken), writes: 0 });
        sink.publish(&batch(1..=1)).await.unwrap_err();
        sink.publish(&batch(1..=1)).await.unwrap();
        let output = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> =
            output.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).collect();
        assert_eq!(lines, [false, true]);
    }
}
