//! A server of a test's own, that can be crashed, copied, restored, and followed by a standby.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use outbox_sql::postgres::{ConnectOptions, InitOptions, PostgresStore, StoreOptions, init};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::{
    proxy::{Proxy, host_and_port},
    server,
};

static CLUSTERS: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Cluster {
    /// Removed at the end, with all copies.
    room: TempDir,
    folder: PathBuf,
    url: String,
    standbys: Vec<PathBuf>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/test-postgres")
}

fn programs() -> PathBuf {
    let found = Command::new(script()).arg("find").output().unwrap();
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Runs one of the server's programs as who may run the server.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let path = programs().join(program);
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(&path);
        command
    } else {
        Command::new(&path)
    };
    // A server that is started keeps what it inherits open.
    let log = std::fs::File::create(folder.join(format!("{program}.out"))).unwrap();
    let status =
        command.args(arguments).current_dir(folder).stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
    let said = std::fs::read_to_string(folder.join(format!("{program}.out"))).unwrap();
    assert!(status.success(), "{program} {arguments:?}: {said}");
    Output { status, stdout: said.into_bytes(), stderr: Vec::new() }
}

impl Cluster {
    /// Started, with `settings` besides those of every test server, and the outbox's tables made.
    pub(crate) async fn start(settings: &str) -> Self {
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let room = tempfile::Builder::new().prefix(&format!("outbox-cluster-{number}-")).tempdir().unwrap();
        std::fs::set_permissions(room.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let folder = room.path().join("primary");
        let started = Command::new(script())
            .arg("start")
            .arg(&folder)
            .env("OUTBOX_TEST_POSTGRES_SETTINGS", settings)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(started.status.success(), "this test needs a PostgreSQL server of its own: {said}");
        let url = String::from_utf8(started.stdout).unwrap().trim().to_owned();
        let cluster = Self { room, folder, url, standbys: Vec::new() };
        init(&mut cluster.session().await, &InitOptions::new("/orders")).await.unwrap();
        cluster
    }

    pub(crate) async fn session(&self) -> Client {
        server::session(&self.url).await
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::open(self.options(), StoreOptions::default()).await.unwrap()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.url).unwrap()
    }

    /// A proxy before it, and the URL by way of that.
    pub(crate) async fn proxied(&self) -> (Proxy, String) {
        let proxy = Proxy::start(&host_and_port(&self.url)).await;
        let url = proxy.before(&self.url);
        (proxy, url)
    }

    fn control(&self, arguments: &[&str]) {
        let data = self.folder.join("data");
        let log = self.folder.join("log");
        let mut all = vec!["-D", data.to_str().unwrap(), "-w", "-t", "60", "-l", log.to_str().unwrap()];
        all.extend(arguments);
        run(&self.folder, "pg_ctl", &all);
    }

    /// As a power failure, but for what the operating system has.
    pub(crate) fn crash(&self) {
        self.control(&["-m", "immediate", "restart"]);
    }

    pub(crate) fn stop(&self) {
        self.control(&["-m", "fast", "stop"]);
    }

    /// Starts it again as it was started.
    fn start_again(&self, folder: &Path) {
        let options = std::fs::read_to_string(folder.join("options")).unwrap();
        self.control(&["-o", &options, "start"]);
    }

    /// A copy of all files, as a disk snapshot; the server is stopped meanwhile.
    pub(crate) fn back_up(&self) {
        let given = std::fs::read_to_string(self.folder.join("data/postmaster.opts")).unwrap();
        let (_, options) = given.trim().split_once(' ').unwrap();
        std::fs::write(self.folder.join("options"), options.replace('"', "'")).unwrap();
        self.stop();
        copy(&self.folder.join("data"), &self.room.path().join("copy"));
        self.start_again(&self.folder);
    }

    /// Puts the copy in the place of what is there.
    pub(crate) fn restore(&self) {
        self.stop();
        std::fs::remove_dir_all(self.folder.join("data")).unwrap();
        copy(&self.room.path().join("copy"), &self.folder.join("data"));
        self.start_again(&self.folder);
    }

    /// A copy of all files at `to` while the server runs, that follows it once it is started. As `pg_basebackup` does it, which
    /// not every installation has.
    async fn copy_online(&self, to: &Path) {
        let session = self.session().await;
        session.batch_execute("SELECT pg_backup_start('standby', true)").await.unwrap();
        copy(&self.folder.join("data"), to);
        let sql = "SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)";
        let label: String = session.query_one(sql, &[]).await.unwrap().get(0);
        std::fs::write(to.join("backup_label"), label).unwrap();
        for other in ["postmaster.pid", "postmaster.opts"] {
            std::fs::remove_file(to.join(other)).unwrap();
        }
        std::fs::write(to.join("standby.signal"), "").unwrap();
        let settings = std::fs::OpenOptions::new().append(true).open(to.join("postgresql.auto.conf"));
        writeln!(settings.unwrap(), "primary_conninfo = '{}'", self.url).unwrap();
        own(to);
    }

    /// A standby that streams from here, at its own URL.
    pub(crate) async fn standby(&mut self) -> Standby {
        let mut rules = std::fs::OpenOptions::new().append(true).open(self.folder.join("data/pg_hba.conf")).unwrap();
        rules.write_all(b"host replication all 127.0.0.1/32 trust\n").unwrap();
        self.session().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let folder = self.room.path().join("standby");
        std::fs::create_dir(&folder).unwrap();
        own(&folder);
        self.copy_online(&folder.join("data")).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c max_connections=200 \
             -c max_prepared_transactions=20 -c max_wal_senders=40 -c wal_level=logical",
            folder.display()
        );
        let (data, log) = (folder.join("data"), folder.join("log"));
        let (data, log) = (data.to_str().unwrap(), log.to_str().unwrap());
        run(&folder, "pg_ctl", &["-D", data, "-w", "-t", "60", "-l", log, "-o", &options, "start"]);
        self.standbys.push(folder.clone());
        let (front, database) = self.url.rsplit_once('/').unwrap();
        let (host, _) = front.rsplit_once(':').unwrap();
        Standby { folder, url: format!("{host}:{port}/{database}") }
    }
}

/// A server that follows another one until it is promoted.
pub(crate) struct Standby {
    folder: PathBuf,
    url: String,
}

impl Standby {
    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.url).unwrap()
    }

    pub(crate) async fn session(&self) -> Client {
        server::session(&self.url).await
    }

    /// From now on it gets nothing more.
    pub(crate) async fn stop_following(&self) {
        let settings = self.folder.join("data/postgresql.auto.conf");
        let mut settings = std::fs::OpenOptions::new().append(true).open(settings).unwrap();
        settings.write_all(b"primary_conninfo = ''\n").unwrap();
        let client = self.session().await;
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let gone = async {
            while !client.query("SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL", &[]).await.unwrap().is_empty()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the standby stops following");
    }

    pub(crate) fn promote(&self) {
        let data = self.folder.join("data");
        run(&self.folder, "pg_ctl", &["-D", data.to_str().unwrap(), "-w", "-t", "60", "promote"]);
    }

    /// The same, in the place of the server before, as where a name leads to another address.
    pub(crate) fn take_over(&self, proxy: &Proxy) {
        self.promote();
        proxy.lead_to(&host_and_port(&self.url));
    }
}

fn own(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("-R").arg("postgres").arg(path).status().unwrap().success());
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for folder in &self.standbys {
            let data = folder.join("data");
            let mut command = Command::new(if is_root() { "runuser" } else { "env" });
            if is_root() {
                command.args(["-u", "postgres", "--"]);
            }
            let _ =
                command.arg(programs().join("pg_ctl")).arg("-D").arg(data).args(["-m", "immediate", "stop"]).output();
        }
        let _ = Command::new(script()).arg("stop").arg(&self.folder).output();
    }
}
