//! JSON lines in a file.

use std::{
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

mod journal;
mod opening;

use journal::Journal;

use super::{
    alone::{Alone, NotDone},
    lines,
};
use crate::{
    event::Event,
    sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits},
};

/// Appends events to a file, one structured CloudEvent a line, in their order.
///
/// *Durability*: an event is accepted once its line is on the disk (`fdatasync`); a new file's name is made durable
/// too. *Atomicity*: what a failed write left is cut off again, before anything else is written. A line that a crash
/// tore is cut off when the file is opened next, with a warning: it was never accepted, so it comes again.
/// *Duplicates*: whole lines that were on the disk before a crash but not yet accepted come again, with the same ids.
/// *One writer*: the file is locked while the sink lives; readers are free to follow it, and may see a line that is cut
/// off again. *Cancellation*: a write to a disk that hangs goes on after its call was dropped; until it has ended, every
/// call fails as the sink's fault, and no further thread waits.
///
/// Where the file is renamed or removed meanwhile, as log rotation does, the next call goes on in a new file of that
/// name (Unix only; elsewhere stop the relay first). Line breaks inside a JSON payload become spaces.
#[derive(Clone)]
pub struct FileSink {
    writer: Alone<Writer>,
    path: Arc<Path>,
}

impl fmt::Debug for FileSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Writer {
    path: Arc<Path>,
    journal: Journal<File>,
}

/// A file that cannot take events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileSinkError {
    /// The file cannot be opened, made or read.
    #[error("cannot open `{path}` for appending: {cause}; the directory has to exist, and the relay may write there")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// A directory, a device or a pipe.
    #[error("`{path}` is not a regular file: name a file, or use the stdout sink for pipes")]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// Somebody else writes it.
    #[error("`{path}` is locked by another writer: give every route and relay a file of its own")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file ends in something that no sink of this kind wrote.
    #[error(
        "`{path}` does not end with a line break, and its last line is no event: name another file, or end its last line"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl FileSink {
    /// Opens `path` for appending, making it if need be, and cuts off a line that a crash tore. Blocks on the disk.
    ///
    /// # Errors
    /// [`FileSinkError`] if the file cannot be opened, is locked by another writer, or ends in something foreign;
    /// nothing has been cut off then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileSinkError> {
        let path: Arc<Path> = path.as_ref().into();
        let writer = Writer { journal: Journal::new(opening::open(&path)?), path };
        Ok(Self::on(writer))
    }

    fn on(writer: Writer) -> Self {
        let path = Arc::clone(&writer.path);
        Self { writer: Alone::new(writer), path }
    }

    /// Whether [`open`](Self::open) would succeed at `path`, without making, mending or changing anything; `false` if it
    /// would make the file. Blocks on the disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn check_path(path: impl AsRef<Path>) -> Result<bool, FileSinkError> {
        opening::check(path.as_ref())
    }

    /// Carries out `work` on a thread that may block, one at a time.
    async fn blocking(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<(), SinkError> + Send + 'static,
    ) -> Result<(), SinkError> {
        // A panic leaves at most a torn line, which the journal knows about.
        self.writer.run("outbox-file", work).await.unwrap_or_else(|not_done| Err(not_written(&self.path, not_done)))
    }
}

fn not_written(path: &Path, not_done: NotDone) -> SinkError {
    let path = path.display();
    match not_done {
        NotDone::Stuck => {
            let message = format!("an earlier write to `{path}` has not ended; look at the disk, or at the mount");
            SinkError::new(Fault::Sink, message)
        }
        NotDone::NoThread(error) => {
            let message = format!("no thread to write to `{path}` could be started: raise the limit on threads");
            SinkError::new(Fault::Sink, message).because(error)
        }
        NotDone::CutShort => SinkError::new(Fault::Unknown, format!("writing to `{path}` was cut short")).uncertain(),
    }
}

impl Writer {
    /// Goes on in a new file where the old one was renamed or removed: lines in a file that nobody finds are lost.
    fn follow_rotation(&mut self) -> Result<(), SinkError> {
        if opening::is_still_at(self.journal.medium(), &self.path) {
            return Ok(());
        }
        tracing::info!(path = %self.path.display(), "the file was renamed or removed; going on in a new one");
        let opened = opening::open(&self.path);
        let file = opened.map_err(|error| SinkError::new(Fault::Sink, error.to_string()).because(error))?;
        self.journal = Journal::new(file);
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        self.follow_rotation()?;
        self.journal.append(lines).map_err(|error| {
            let failure = SinkError::new(Fault::Sink, remedy(&self.path, &error)).because(error);
            if self.journal.is_torn() { failure.uncertain() } else { failure }
        })
    }
}

fn remedy(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            format!("no room to append to `{path}`: {error}; free some, and the route goes on by itself")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("may not append to `{path}`: {error}; grant the relay the right to write there")
        }
        _ => format!("cannot append to `{path}`: {error}; look at the disk"),
    }
}

#[async_trait]
impl Sink for FileSink {
    fn limits(&self) -> SinkLimits {
        lines::LIMITS
    }

    fn size(&self, event: &Event) -> usize {
        lines::size(event)
    }

    /// Whether the file is still there and ready for more; also mends what a failed write left.
    async fn check(&self) -> Result<(), SinkError> {
        self.blocking(|writer| writer.append(b"")).await
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let lines = lines::encode(batch);
        self.blocking(move |writer| writer.append(&lines)).await?;
        Ok(vec![Outcome::Accepted; batch.events.len()])
    }
}

#[cfg(test)]
mod tests;
