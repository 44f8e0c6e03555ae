//! A PostgreSQL server to measure on, databases filled with entries, and relays on them.

use std::{path::PathBuf, sync::Arc};

use outbox::{
    Bookkeeping as _, BusinessStore, Position, Relay, RouteName, RouteSettings, Sink, Source, relay::RelayBuilder,
};
use outbox_sql::{
    postgres::{
        BookkeepingSchema, ConnectOptions, InitOptions, PostgresBookkeeping, PostgresStore, StoreOptions, init,
        wal::{PUBLICATION, WalSettings, WalSource, publish},
    },
    sqlite::{BookkeepingOptions, SqliteBookkeeping},
};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// How a relay finds what is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// By polling.
    Poll,
    /// From the server's log.
    Wal,
}

/// A database of its own on the server that `OUTBOX_BENCH_POSTGRES` names, with the outbox's tables.
pub struct Database {
    url: String,
    client: Client,
    bookkeeping: PathBuf,
    /// Gone with the one that made it.
    _folder: Option<TempDir>,
}

async fn connected(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Database {
    /// Makes it anew.
    pub async fn new(name: &str) -> Self {
        let server = std::env::var("OUTBOX_BENCH_POSTGRES").expect("start this by benches/run-postgres");
        let root = connected(&server).await;
        root.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
        root.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
        let mut client = connected(&url).await;
        init(&mut client, &InitOptions::new("/bench")).await.unwrap();
        publish(&client, PUBLICATION).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { url, client, bookkeeping: folder.path().to_owned(), _folder: Some(folder) }
    }

    /// The one that another process has made, as [`relay_process`](Self::relay_process) tells.
    pub async fn of_parent(url: &str, bookkeeping: &str) -> Self {
        Self { url: url.to_owned(), client: connected(url).await, bookkeeping: bookkeeping.into(), _folder: None }
    }

    /// Starts this program again, with the arguments `relay`, how it reads, and what
    /// [`of_parent`](Self::of_parent) needs; its output is piped, and it is killed with the value.
    pub fn relay_process(&self, reads: Reads) -> tokio::process::Child {
        let reads = if reads == Reads::Poll { "poll" } else { "wal" };
        tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["relay", reads, &self.url])
            .arg(&self.bookkeeping)
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The session that made it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Another session.
    pub async fn session(&self) -> Client {
        connected(&self.url).await
    }

    /// How the library reaches it.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.url).unwrap()
    }

    /// Writes `entries` entries over `keys` keys, so many in a transaction, by four sessions that wait for no disk.
    pub async fn fill(&self, entries: usize, keys: usize, in_transaction: usize) {
        const SESSIONS: usize = 4;
        self.client.batch_execute("SELECT outbox.make_leaf('1 second')").await.unwrap();
        let mut writers = Vec::new();
        for session in 0..SESSIONS {
            let client = self.session().await;
            let transactions = entries / SESSIONS / in_transaction;
            writers.push(tokio::spawn(async move {
                client.batch_execute("SET synchronous_commit = off").await.unwrap();
                // Each session has keys of its own, so that none waits for another.
                let sql = format!(
                    "SELECT count(outbox.write('customer/' || ($1 + number) % {keys} || '/{session}', 'order.placed', $2))
                     FROM generate_series(1, {in_transaction}) AS number"
                );
                let statement = client.prepare(&sql).await.unwrap();
                let payload = crate::payload();
                for transaction in 0..transactions {
                    let first = i32::try_from(transaction * in_transaction).unwrap();
                    client.execute(&statement, &[&first, &payload]).await.unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        for after in ["VACUUM ANALYZE outbox.entries", "CHECKPOINT"] {
            self.client.batch_execute(after).await.unwrap();
        }
    }

    /// The store, as a relay opens it.
    pub async fn store(&self) -> PostgresStore {
        PostgresStore::open(self.options(), StoreOptions::default()).await.unwrap()
    }

    /// A relay with one route to `sink`, whose bookkeeping is a file: what is measured is the reading.
    pub async fn relay(&self, reads: Reads, sink: Arc<dyn Sink>) -> Relay {
        self.relay_to(reads, [("bench", sink)]).await
    }

    /// The same with these routes.
    pub async fn relay_to(&self, reads: Reads, routes: impl IntoIterator<Item = (&str, Arc<dyn Sink>)>) -> Relay {
        let store = Arc::new(self.store().await);
        let path = self.bookkeeping.join("relay.db");
        let options = BookkeepingOptions { create: true, ..BookkeepingOptions::default() };
        let bookkeeping = Arc::new(SqliteBookkeeping::open(path, options).unwrap());
        build(self.source(reads, &store).await, store, bookkeeping, routes)
    }

    /// As [`relay`](Self::relay), with its bookkeeping in the same database.
    pub async fn relay_beside(&self, reads: Reads, sink: Arc<dyn Sink>) -> Relay {
        let store = Arc::new(self.store().await);
        let (options, schema) = (self.options(), BookkeepingSchema::default());
        PostgresBookkeeping::init(&options, &schema).await.unwrap();
        let bookkeeping = PostgresBookkeeping::open(options, schema).await.unwrap();
        let bookkeeping = Arc::new(bookkeeping.witness_file(self.bookkeeping.join("witness")));
        build(self.source(reads, &store).await, store, bookkeeping, [("bench", sink)])
    }

    async fn source(&self, reads: Reads, store: &Arc<PostgresStore>) -> Arc<dyn Source> {
        match reads {
            Reads::Poll => store.clone(),
            Reads::Wal => Arc::new(WalSource::open(store.clone(), self.options(), WalSettings::new()).await.unwrap()),
        }
    }

    /// Where the relay with its bookkeeping in a file has stopped.
    pub async fn stopped_at(&self) -> Position {
        let path = self.bookkeeping.join("relay.db");
        let bookkeeping = SqliteBookkeeping::open(path, BookkeepingOptions::default()).unwrap();
        let route = RouteName::new("bench").unwrap();
        bookkeeping.checkpoints(&route).await.unwrap().remove(0).position
    }

    /// Drops the slots of this database: one that nobody reads holds the log for ever.
    pub async fn drop_slots(&self) {
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                   WHERE database = current_database() AND NOT active";
        self.client.batch_execute(sql).await.unwrap();
    }
}

fn build<'a>(
    source: Arc<dyn Source>,
    store: Arc<dyn BusinessStore>,
    bookkeeping: Arc<dyn outbox::Operator>,
    routes: impl IntoIterator<Item = (&'a str, Arc<dyn Sink>)>,
) -> Relay {
    let relay = Relay::builder().source(source).store(store).bookkeeping(bookkeeping);
    let add = |relay: RelayBuilder, (name, sink): (&str, Arc<dyn Sink>)| {
        relay.route(RouteSettings::new(RouteName::new(name).unwrap()), sink)
    };
    routes.into_iter().fold(relay, add).build().unwrap()
}

/// Runs a relay to `sink` for ever, if this process was started by [`Database::relay_process`].
pub async fn be_relay_if_asked(sink: Arc<dyn Sink>) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [relay, reads, url, bookkeeping] = arguments.as_slice() else { return };
    assert_eq!(relay, "relay");
    let reads = if reads == "poll" { Reads::Poll } else { Reads::Wal };
    let database = Database::of_parent(url, bookkeeping).await;
    database.relay_beside(reads, sink).await.run(std::future::pending()).await.unwrap();
}

/// Seconds of processor time: of this process, and of the server with all that it has started.
#[derive(Clone, Copy, Debug)]
pub struct Processor {
    /// This process.
    pub own: f64,
    /// The server.
    pub server: f64,
}

impl Processor {
    /// Spent until now, as Linux counts it.
    pub fn spent() -> Self {
        let mut spent = Self { own: of(std::path::Path::new("/proc/self/stat"), 2), server: 0.0 };
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.trim_end() == "postgres" {
                // With the children that have ended, which only the first server process has.
                spent.server += of(&entry.path().join("stat"), 4);
            }
        }
        spent
    }

    /// Spent by one process until now.
    pub fn of(process: u32) -> f64 {
        of(std::path::Path::new(&format!("/proc/{process}/stat")), 2)
    }

    /// Spent since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { own: self.own - before.own, server: self.server - before.server }
    }
}

/// Of `/proc/PID/stat`, fields 14 and on: user and system time, and that of children that have ended, in hundredths.
fn of(stat: &std::path::Path, fields: usize) -> f64 {
    let text = std::fs::read_to_string(stat).unwrap_or_default();
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split(' ').skip(11).take(fields).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
