//! Watches from outside: reads the processes' databases and arrival logs, asks none of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::watch;

use super::{
    arrivals::{Follower, Tally},
    chaos::Role,
    stage::{Stage, arrivals, database},
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// How far everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Events committed with their orders.
    pub committed: u64,
    /// The ledger.
    pub ledger: ConsumerProgress,
    /// The notifications.
    pub notifications: ConsumerProgress,
}

/// How far one consumer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConsumerProgress {
    /// What reached it.
    pub arrived: Tally,
    /// Events that it applied.
    pub applied: u64,
}

impl Progress {
    /// One consumer's.
    pub(crate) fn of(&self, role: Role) -> &ConsumerProgress {
        if role == Role::Ledger { &self.ledger } else { &self.notifications }
    }

    /// Events that have reached a consumer: how far the relay is, whatever becomes of one route.
    pub(crate) fn sent(&self) -> u64 {
        self.ledger.arrived.first.max(self.notifications.arrived.first)
    }

    /// Events that have reached both consumers.
    pub(crate) fn published(&self) -> u64 {
        self.ledger.arrived.first.min(self.notifications.arrived.first)
    }
}

/// Looks again and again, on a thread of its own, until nobody listens.
///
/// # Errors
/// That the thread does not start.
pub(crate) fn watch(stage: &Stage) -> Result<watch::Receiver<Progress>, String> {
    let (sender, receiver) = watch::channel(Progress::default());
    let mut observer = Observer::new(stage);
    thread::Builder::new()
        .name("observer".to_owned())
        .spawn(move || {
            while !sender.is_closed() {
                sender.send_replace(observer.look());
                thread::sleep(LOOK);
            }
        })
        .map_err(|error| format!("the observer does not start: {error}"))?;
    Ok(receiver)
}

/// The observer's open files.
#[derive(Debug)]
pub(crate) struct Observer {
    committed: Committed,
    consumers: [(Follower, Counter); 2],
    progress: Progress,
}

impl Observer {
    pub(crate) fn new(stage: &Stage) -> Self {
        let folder = stage.folder();
        let counter = |role, table| Counter { path: database(folder, role), table, connection: None, count: 0 };
        let follower = |role| Follower::new(arrivals(folder, role));
        Self {
            committed: match stage.server() {
                Some(server) => Committed::Told(server.committed()),
                None => Committed::Counted(counter(Role::Orders, "outbox_entries")),
            },
            consumers: [
                (follower(Role::Ledger), counter(Role::Ledger, "applied")),
                (follower(Role::Notifications), counter(Role::Notifications, "notifications")),
            ],
            progress: Progress::default(),
        }
    }

    /// Looks once. What cannot be read now, as a database in the middle of being made, stays as it was seen last.
    pub(crate) fn look(&mut self) -> Progress {
        let [ledger, notifications] = &mut self.consumers;
        self.progress.committed = self.committed.look();
        for ((follower, counter), progress) in
            [(ledger, &mut self.progress.ledger), (notifications, &mut self.progress.notifications)]
        {
            progress.applied = counter.look();
            if let Ok(tally) = follower.follow() {
                progress.arrived.clone_from(tally);
            }
        }
        self.progress.clone()
    }
}

/// How many events are committed.
#[derive(Debug)]
enum Committed {
    /// In a file, where it is counted.
    Counted(Counter),
    /// On a server, which somebody asks.
    Told(Arc<AtomicU64>),
}

impl Committed {
    fn look(&mut self) -> u64 {
        match self {
            Self::Counted(counter) => counter.look(),
            Self::Told(committed) => committed.load(Ordering::Relaxed),
        }
    }
}

/// The rows of a table that only grows, by its highest row number: no scan.
#[derive(Debug)]
struct Counter {
    path: std::path::PathBuf,
    table: &'static str,
    connection: Option<Connection>,
    count: u64,
}

impl Counter {
    fn look(&mut self) -> u64 {
        if self.connection.is_none() {
            self.connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok();
        }
        if let Some(connection) = &self.connection {
            let highest = format!("SELECT coalesce(max(rowid), 0) FROM {}", self.table);
            let count = connection.query_row(&highest, [], |row| row.get::<_, i64>(0));
            self.count = count.map_or(self.count, i64::unsigned_abs);
        }
        self.count
    }
}
