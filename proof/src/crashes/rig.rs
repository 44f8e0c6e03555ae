//! A folder with a database and a configuration, and what is done in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use outbox::{Clock as _, Moment, Place, System};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::process::RelayProcess;

/// How long anything may take that a test waits for: far longer than it does on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something, and gives it.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now().since(since) < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(3));
    }
}

/// The clock of the tests.
pub fn now() -> Moment {
    System.moment()
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// Everything it said, without its line breaks.
    pub fn said(&self) -> String {
        format!("{} {}", self.out, self.err).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The lease and the progress of route `main`, read in one snapshot of the bookkeeping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Books {
    /// The lease's epoch.
    pub epoch: i64,
    /// The route's checkpoint.
    pub position: i64,
    /// Whether the owner gave the lease up.
    pub released: bool,
    /// The present or last owner.
    pub holder: String,
}

/// A folder of its own with a database `orders.db` and a configuration.
#[derive(Debug)]
pub struct Rig {
    binary: PathBuf,
    folder: PathBuf,
    relays: AtomicUsize,
}

impl Rig {
    /// A rig of `binary` in `folder`, which is made if need be, with these routes and, before them, whatever else the
    /// configuration has; initialised.
    pub fn new(binary: &Path, folder: &Path, config: &str) -> Self {
        let rig = Self { binary: binary.to_owned(), folder: folder.to_owned(), relays: AtomicUsize::new(0) };
        std::fs::create_dir_all(folder).unwrap();
        rig.configure("outbox.toml", config);
        let ran = rig.outbox(&["init"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        rig
    }

    /// Writes a configuration: a failover time of a second, and what is given.
    pub fn configure(&self, file: &str, config: &str) {
        let relay = if config.contains("[relay]") { "" } else { "[relay]\nfailover = '1s'\n" };
        let text = format!("[store]\nsqlite = 'orders.db'\nproducer = '/orders'\n{relay}{config}");
        std::fs::write(self.path(file), text).unwrap();
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets how far the wall clocks are off of processes that go by the file that is given back.
    pub fn shift(&self, hours: i64) -> PathBuf {
        let (file, next) = (self.path("shift"), self.path("shift.next"));
        std::fs::write(&next, (hours * 3600).to_string()).unwrap();
        std::fs::rename(&next, &file).unwrap();
        file
    }

    /// The binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A command of the binary, in this folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).current_dir(self.folder()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn outbox(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command with `--json`, which has to succeed, and gives what it printed.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.outbox(&[&["--json"], args].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", ran.out))
    }

    /// Starts a relay of `outbox.toml`.
    pub fn relay(&self) -> RelayProcess {
        self.relay_of("outbox.toml")
    }

    /// Starts a relay of another configuration.
    pub fn relay_of(&self, config: &str) -> RelayProcess {
        self.start(self.command(&["relay", "--config", config]))
    }

    /// Starts a relay by a command that becomes one.
    pub fn start(&self, command: Command) -> RelayProcess {
        let number = self.relays.fetch_add(1, Ordering::SeqCst);
        RelayProcess::start(command, self.path(&format!("relay-{number}.log")))
    }

    /// The status, whatever its exit code says.
    pub fn status(&self) -> Value {
        let ran = self.outbox(&["--json", "status"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err))
    }

    /// Waits until the status is as wanted, and gives it.
    pub fn wait_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let since = now();
        loop {
            let ran = self.outbox(&["--json", "status"]);
            last = serde_json::from_str(&ran.out).unwrap_or(last);
            if last.is_object() && wanted(&last) {
                return last;
            }
            assert!(now().since(since) < PATIENCE, "waited in vain: {what}: {last:#} {}", ran.err);
            // Each look is a process: seldom enough that what is waited for has the processor.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has a relay publish everything, and stops it in order.
    pub fn publish_all(&self) {
        let relay = self.relay();
        self.wait_published();
        let stopped = relay.stop();
        assert_eq!(stopped.code, 0, "{}", stopped.err);
    }

    /// Waits until every route has published everything and keeps nothing.
    pub fn wait_published(&self) {
        self.wait_status("everything is published", |status| {
            status["routes"].as_array().unwrap().iter().all(|route| {
                route["state"] == "flowing"
                    && ["backlog", "retrying", "dead", "parked"].iter().all(|count| route[count] == 0)
            })
        });
    }

    /// A connection to the database, as the service has one.
    pub fn database(&self) -> Connection {
        let connection = Connection::open(self.path("orders.db")).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
        connection
    }

    /// Commits one event for each number, to one of `keys` keys, in transactions of `batch`.
    pub fn write(&self, numbers: impl IntoIterator<Item = u32>, keys: u32, batch: usize) {
        self.write_events(
            numbers.into_iter().map(|number| (format!("key/{}", number % keys), number.to_string())),
            batch,
        );
    }

    /// Commits events: keys and payloads, in transactions of `batch`.
    pub fn write_events(&self, events: impl IntoIterator<Item = (String, String)>, batch: usize) {
        let mut connection = self.database();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let transaction = connection.transaction().unwrap();
            for (key, data) in events.by_ref().take(batch) {
                transaction
                    .prepare_cached("INSERT INTO outbox (key, type, data) VALUES (?1, 'order.placed', ?2)")
                    .unwrap()
                    .execute((key, data))
                    .unwrap();
            }
            transaction.commit().unwrap();
        }
    }

    /// The places that are committed, by key, in the order of their commits. For entries of one event.
    pub fn committed(&self) -> BTreeMap<String, Vec<Place>> {
        let connection = self.database();
        let mut statement = connection
            .prepare("SELECT key, incarnation, sequence FROM outbox_entries WHERE key IS NOT NULL ORDER BY id")
            .unwrap();
        let mut committed: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?))).unwrap();
        for row in rows {
            let (key, incarnation, sequence) = row.unwrap();
            committed.entry(key).or_default().push(Place::new(incarnation, sequence.unsigned_abs(), 0));
        }
        committed
    }

    /// Makes a copy of the database, as a backup does.
    pub fn back_up(&self, to: &str) {
        let to = self.path(to);
        self.database().execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
        let copy = Connection::open(&to).unwrap();
        copy.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).unwrap();
    }

    /// Puts a copy in the place of the database.
    pub fn restore(&self, from: &str) {
        for file in ["orders.db-wal", "orders.db-shm"] {
            // There is none after a clean end of all that used it.
            let _ = std::fs::remove_file(self.path(file));
        }
        std::fs::copy(self.path(from), self.path("restoring.db")).unwrap();
        std::fs::rename(self.path("restoring.db"), self.path("orders.db")).unwrap();
    }

    /// Stops a relay by SIGSTOP, but not in the midst of a transaction: SQLite's locks would keep everybody out for as long
    /// as it stands, and nothing would be seen of the lease.
    pub fn stop_between_writes(&self, relay: &RelayProcess) {
        eventually("the relay stands outside of a transaction", || {
            relay.stand_still();
            let is_free = |file: &str| {
                let connection = Connection::open(self.path(file)).unwrap();
                connection.busy_timeout(Duration::from_millis(50)).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
            };
            if is_free("orders.db") && is_free("orders.db.relay") {
                return Some(());
            }
            relay.signal("CONT");
            None
        });
    }

    /// The bookkeeping as it stands; `None` before any relay has taken the lease or stored a checkpoint.
    pub fn books(&self) -> Option<Books> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(self.path("orders.db.relay"), flags).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        books(&connection)
    }
}

/// The lease and the progress of route `main`.
pub fn books(connection: &Connection) -> Option<Books> {
    let sql = "SELECT epoch, CAST(position AS INTEGER), released, holder FROM leases, checkpoints WHERE route = 'main'";
    let read = connection.prepare_cached(sql).unwrap().query_row([], |row| {
        Ok(Books { epoch: row.get(0)?, position: row.get(1)?, released: row.get(2)?, holder: row.get(3)? })
    });
    read.ok()
}
