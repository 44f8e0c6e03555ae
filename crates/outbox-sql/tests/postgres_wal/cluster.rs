//! Servers of these tests' own: making a slot waits for every transaction that is open on a server, and some tests stop it.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use outbox_sql::postgres::{ConnectOptions, connect};
use tokio_postgres::Client;

static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
static CLUSTERS: AtomicUsize = AtomicUsize::new(0);
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A server, which is stopped once nobody holds this, or this process has ended, however it went.
pub(crate) struct Cluster {
    url: String,
    pub(crate) folder: PathBuf,
    _guard: Child,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-postgres")
}

impl Cluster {
    /// The one that tests share which do not disturb it.
    pub(crate) fn shared() -> Arc<Self> {
        SHARED.get_or_init(|| Self::start("")).clone()
    }

    /// One more, with these settings besides, as `-c name=value`.
    pub(crate) fn start(settings: &str) -> Arc<Self> {
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("outbox-test-wal-{}-{number}", std::process::id()));
        let mut command = Command::new(script());
        command.arg("start").arg(&folder).env("OUTBOX_TEST_POSTGRES_SETTINGS", settings);
        let started = command.output().expect("scripts/test-postgres can be run");
        let (told, said) = (String::from_utf8_lossy(&started.stdout), String::from_utf8_lossy(&started.stderr));
        assert!(started.status.success(), "these tests need a PostgreSQL server of their own:\n{said}");
        Arc::new(Self { url: told.trim().to_owned(), _guard: stop_at_the_end(&folder), folder })
    }

    /// Stops the server as `mode` says, which is `fast` or `immediate`, and starts it again.
    pub(crate) fn restart(&self, mode: &str) {
        let restarted = Command::new(script()).arg("restart").arg(&self.folder).arg(mode).output().unwrap();
        assert!(restarted.status.success(), "{}", String::from_utf8_lossy(&restarted.stderr));
    }

    /// A session in the server's own database.
    pub(crate) async fn session(&self) -> Client {
        session(&self.url).await
    }
}

/// Statics are never dropped, and a test process may be killed: so another process waits for the end of its input.
fn stop_at_the_end(folder: &PathBuf) -> Child {
    Command::new("sh")
        .args(["-c", "cat >/dev/null; exec \"$0\" stop \"$1\""])
        .arg(script())
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in our group, or the terminal's interrupt would end it too early.
        .process_group(0)
        .spawn()
        .expect("sh can be run")
}

/// A session at `url`.
pub(crate) async fn session(url: &str) -> Client {
    connect(&ConnectOptions::parse(url).unwrap()).await.unwrap()
}

/// A database that nobody else uses, removed with its slots when it is dropped.
pub(crate) struct Database {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) name: String,
}

impl Database {
    pub(crate) async fn new(cluster: Arc<Cluster>) -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("outbox_wal_{}_{number}", std::process::id());
        let made = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
        cluster.session().await.batch_execute(&made).await.unwrap();
        Self { cluster, name }
    }

    pub(crate) fn url(&self) -> String {
        let (host, _) = self.cluster.url.rsplit_once('/').unwrap();
        format!("{host}/{}", self.name)
    }

    pub(crate) async fn session(&self) -> Client {
        session(&self.url()).await
    }

    /// Makes a copy of it, in place of an earlier one.
    pub(crate) async fn back_up(&self) {
        remove(&self.cluster.url, &format!("{}_copy", self.name)).await;
        copy(&self.cluster.url, &self.name, &format!("{}_copy", self.name)).await;
    }

    /// Puts the copy in its place.
    pub(crate) async fn restore(&self) {
        remove(&self.cluster.url, &self.name).await;
        copy(&self.cluster.url, &format!("{}_copy", self.name), &self.name).await;
    }
}

/// Sources that are open still come back at any time, so it is tried again.
async fn copy(url: &str, from: &str, to: &str) {
    let server = session(url).await;
    let mut tries = 0;
    loop {
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'");
        server.batch_execute(&end).await.unwrap();
        let Err(error) = server.batch_execute(&format!("CREATE DATABASE {to} TEMPLATE {from}")).await else { return };
        tries += 1;
        assert!(tries < 100, "{from} cannot be copied: {error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn remove(url: &str, name: &str) {
    let server = session(url).await;
    let mut tries = 0;
    loop {
        let end = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = '{name}' AND active_pid IS NOT NULL"
        );
        server.batch_execute(&end).await.unwrap();
        let dropped = server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        let Err(error) = dropped else { return };
        tries += 1;
        assert!(tries < 100, "{name} cannot be dropped: {error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let (url, name) = (self.cluster.url.clone(), self.name.clone());
        // A runtime within a runtime is not allowed, but on a thread of its own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                remove(&url, &name).await;
                remove(&url, &format!("{name}_copy")).await;
            });
        });
        dropped.join().unwrap();
    }
}
