//! A PostgreSQL server for tests, and a database of its own for each.
//!
//! The server is the one that `OUTBOX_TEST_POSTGRES` names by its URL, of a role that may make databases; else one that
//! `scripts/test-postgres` starts for this process, and stops when the process is gone, however it went. Other test
//! targets take this file by `#[path = "../postgres/server.rs"] mod server;`.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use outbox_sql::postgres::{ConnectOptions, connect};
use tokio_postgres::Client;

/// A private server, and the process that stops it once this one has ended.
struct Server {
    url: String,
    _guard: Option<Child>,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// The URL of the server's own database.
pub(crate) fn url() -> &'static str {
    &SERVER.get_or_init(Server::find).url
}

impl Server {
    fn find() -> Self {
        match std::env::var("OUTBOX_TEST_POSTGRES") {
            Ok(url) => Self { url, _guard: None },
            Err(_) => Self::start(),
        }
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-postgres");
        let folder = std::env::temp_dir().join(format!("outbox-test-postgres-{}", std::process::id()));
        let started =
            Command::new(&script).arg("start").arg(&folder).output().expect("scripts/test-postgres can be run");
        let (told, said) = (String::from_utf8_lossy(&started.stdout), String::from_utf8_lossy(&started.stderr));
        assert!(started.status.success(), "this test needs a PostgreSQL server, and none can be started:\n{said}");
        Self { url: told.trim().to_owned(), _guard: Some(stop_at_the_end(&script, &folder)) }
    }
}

/// Statics are never dropped, and a test process may be killed: so another process waits for the end of its input.
fn stop_at_the_end(script: &Path, folder: &PathBuf) -> Child {
    Command::new("sh")
        .args(["-c", "cat >/dev/null; exec \"$0\" stop \"$1\""])
        .arg(script)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in our group, or the terminal's interrupt would end it too early.
        .process_group(0)
        .spawn()
        .expect("sh can be run")
}

/// A database that nobody else uses, removed when it is dropped.
pub(crate) struct Database {
    name: String,
    url: String,
}

impl Database {
    /// An empty one.
    pub(crate) async fn new() -> Self {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("outbox_test_{}_{number}", std::process::id());
        let server = session(url()).await;
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
        // In another encoding or from a template with something in it, a test would test something else.
        let made = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
        server.batch_execute(&made).await.unwrap();
        Self { url: at_database(url(), &name), name }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// One more session.
    pub(crate) async fn session(&self) -> Client {
        session(&self.url).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime within a runtime is not allowed, but on a thread of its own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { session(url()).await.batch_execute(&sql).await })
        });
        if !std::thread::panicking() {
            dropped.join().unwrap().unwrap();
        }
    }
}

/// A session at `url`.
pub(crate) async fn session(url: &str) -> Client {
    connect(&ConnectOptions::parse(url).unwrap()).await.unwrap()
}

/// The URL of another database of the same server.
fn at_database(server: &str, name: &str) -> String {
    let (front, parameters) = match server.split_once('?') {
        Some((front, parameters)) => (front, format!("?{parameters}")),
        None => (server, String::new()),
    };
    let (host, _) = front.rsplit_once('/').expect("the server's URL names a database");
    format!("{host}/{name}{parameters}")
}
