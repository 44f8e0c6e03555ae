//! Waking a relay when something was committed: at once in this process, by file change from another, and by a slow
//! poll behind both.

use std::{
    ffi::OsString,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::sync::Notify;

use super::connection::real_path;

/// The poll where file changes cannot be watched.
const POLL_UNWATCHED: Duration = Duration::from_millis(100);

/// A file changes before its commit can be seen: the last page is written, then made durable, then told of in shared
/// memory, which nobody is notified of. So looks follow a change, each after twice the time of the one before.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// How many such looks there are: together they cover 127 ms of a slow disk.
const LOOKS: u32 = 7;

/// Wakes the relay that reads a store in the same process. Cheap to clone and to call.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Says that something was committed. Call it after the commit; a call while nobody waits is kept for whoever waits
    /// next, and many of them count as one.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Waits for commits.
pub(crate) struct Changes {
    waker: Waker,
    poll: Duration,
    /// Looks done since the last change.
    looks: AtomicU32,
    /// Watches for as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Watches the database at `path`, with a look every `poll` besides: a notification can be missing on a network
    /// file system, or when the file is replaced.
    pub(crate) fn watch(path: &Path, poll: Duration) -> Self {
        let waker = Waker::default();
        match watcher(path, waker.clone()) {
            Ok(watcher) => Self { waker, poll, looks: AtomicU32::new(LOOKS), _watcher: Some(watcher) },
            Err(error) => {
                let poll = poll.min(POLL_UNWATCHED);
                tracing::warn!(
                    database = %path.display(), %error, ?poll,
                    "file changes cannot be watched, so the database is polled: raise `fs.inotify.max_user_instances` or `max_user_watches`"
                );
                Self { waker, poll, looks: AtomicU32::new(LOOKS), _watcher: None }
            }
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for a commit or for the poll. Dropping the wait loses no wake-up: a permit that was given and not taken
    /// goes to the next wait.
    pub(crate) async fn changed(&self) {
        let looks = self.looks.load(Ordering::Relaxed);
        let pause = if looks < LOOKS { FIRST_LOOK * (1 << looks) } else { self.poll };
        tokio::select! {
            biased;
            () = self.waker.0.notified() => self.looks.store(0, Ordering::Relaxed),
            () = tokio::time::sleep(pause.min(self.poll)) => {
                self.looks.store(looks.saturating_add(1).min(LOOKS), Ordering::Relaxed);
            }
        }
    }
}

/// Watches the directory, for the WAL comes and goes, and gives word of changes to the database and to its WAL.
fn watcher(path: &Path, waker: Waker) -> notify::Result<RecommendedWatcher> {
    let file = real_path(path);
    let name = file.file_name().map(OsString::from).unwrap_or_default();
    let mut wal = name.clone();
    wal.push("-wal");
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        Ok(event) => {
            let ours = |path: &std::path::PathBuf| path.file_name().is_some_and(|file| file == wal || file == name);
            if event.need_rescan() || (is_change(event.kind) && event.paths.iter().any(ours)) {
                waker.wake();
            }
        }
        // Whatever was missed, a read finds it.
        Err(_) => waker.wake(),
    })?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether something may have been written. Opening and closing is not: the relay itself opens the WAL to make it
/// durable, and would wake itself for ever.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Access(_) => false,
        EventKind::Any | EventKind::Other | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_that_comes_while_nobody_waits_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let changes = Changes::watch(&directory.path().join("a.db"), Duration::from_secs(60));
        changes.waker().wake();
        let before = tokio::time::Instant::now();
        changes.changed().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_wait_loses_no_wake_up() {
        let directory = tempfile::tempdir().unwrap();
        let changes = Changes::watch(&directory.path().join("a.db"), Duration::from_secs(60));
        {
            let mut wait = Box::pin(changes.changed());
            assert!(futures_poll(wait.as_mut()).is_pending());
            changes.waker().wake();
        }
        let before = tokio::time::Instant::now();
        changes.changed().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_follow_a_change_until_its_commit_must_be_visible() {
        let directory = tempfile::tempdir().unwrap();
        let changes = Changes::watch(&directory.path().join("a.db"), Duration::from_secs(60));
        changes.waker().wake();
        let before = tokio::time::Instant::now();
        for _ in 0..=LOOKS {
            changes.changed().await;
        }
        assert_eq!(before.elapsed(), Duration::from_millis(127));
        changes.changed().await;
        assert_eq!(before.elapsed(), Duration::from_millis(60_127));
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_wake_up_the_poll_comes() {
        let directory = tempfile::tempdir().unwrap();
        let changes = Changes::watch(&directory.path().join("a.db"), Duration::from_secs(60));
        let before = tokio::time::Instant::now();
        changes.changed().await;
        assert_eq!(before.elapsed(), Duration::from_secs(60));
    }

    fn futures_poll(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> std::task::Poll<()> {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    }
}
