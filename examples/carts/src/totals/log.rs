//! Every event that came, as it came: a line of JSON each. What the log group of the bus is on AWS.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use outbox::{
    ErrorKind, StoreError,
    cloudevents::{Envelope, json},
    inbox::Incoming,
};

/// A file that is appended to. An event that comes twice is there twice: publication is at least once.
#[derive(Clone, Debug)]
pub(super) struct EventLog(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    file: File,
    /// Whether the last line is whole. A full disk or a crash may have left a half of it.
    is_whole: bool,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self { file, is_whole: last == *b"\n" })
    }

    /// Behind a half line a new one begins: else both would be lost.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_whole, false) {
            self.file.write_all(b"\n")?;
        }
        self.file.write_all(lines)?;
        self.is_whole = true;
        self.file.sync_data()
    }
}

impl EventLog {
    /// Opens the log, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Lines::open(path)?))))
    }

    /// Appends what came, on the disk when it returns. What is no event has no line.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] as the file system says: then nothing may be acknowledged.
    pub(super) async fn append(&self, incoming: &[Incoming]) -> Result<(), StoreError> {
        let mut lines = Vec::new();
        for event in incoming {
            if let Incoming::Event(event) = event {
                json::encode_line_into(&mut lines, event, Envelope { gapless: event.gapless(), replay: None });
                lines.push(b'\n');
            }
        }
        let log = self.0.clone();
        let written =
            tokio::task::spawn_blocking(move || log.lock().unwrap_or_else(PoisonError::into_inner).append(&lines));
        let failed = |error: io::Error| {
            StoreError::new(ErrorKind::Unavailable, "the log of events cannot be written").because(error)
        };
        written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_half_a_line_has_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        for _ in 0..2 {
            let mut log = Lines::open(&path).unwrap();
            log.append(b"{\"id\": 1}\n").unwrap();
            log.append(b"{\"id\": 2}\n").unwrap();
            // As a crash in the middle leaves it.
            log.file.write_all(b"{\"id\"").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, ["{\"id\": 1}", "{\"id\": 2}", "{\"id\"", "{\"id\": 1}", "{\"id\": 2}", "{\"id\""]);
    }
}
