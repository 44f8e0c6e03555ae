//! Every event that came, as it came: a line of JSON each. What the log group of the bus is on AWS.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use outbox::{
    ErrorKind, StoreError,
    cloudevents::{Envelope, json},
    inbox::Incoming,
};

/// A file that is appended to. An event that comes twice is there twice: publication is at least once.
#[derive(Clone, Debug)]
pub(super) struct EventLog(Arc<File>);

impl EventLog {
    /// Opens the log, or makes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(OpenOptions::new().create(true).append(true).open(path)?)))
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
        let file = self.0.clone();
        let written = tokio::task::spawn_blocking(move || (&*file).write_all(&lines).and_then(|()| file.sync_data()));
        let failed = |error: io::Error| {
            StoreError::new(ErrorKind::Unavailable, "the log of events cannot be written").because(error)
        };
        written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
    }
}
