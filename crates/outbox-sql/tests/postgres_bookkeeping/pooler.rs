//! Through `PgBouncer`, which gives each transaction another connection of the server.

use std::{
    fmt::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use outbox_sql::postgres::{ConnectOptions, connect};
use tempfile::TempDir;

use crate::proxy::host_and_port;

/// A `PgBouncer` before the server, stopped when it is dropped.
pub(crate) struct Pooler {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    pub(crate) async fn start(url: &str) -> Self {
        let (host, server_port) = host_and_port(url).rsplit_once(':').map(own).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let (settings, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users"));
        let mut ini = String::new();
        writeln!(ini, "[databases]\n* = host={host} port={server_port}\n[pgbouncer]").unwrap();
        writeln!(ini, "listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =").unwrap();
        writeln!(ini, "auth_type = trust\nauth_file = {}\npool_mode = transaction", users.display()).unwrap();
        writeln!(ini, "default_pool_size = 3\nmax_client_conn = 500").unwrap();
        std::fs::write(&settings, ini).unwrap();
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        // It refuses to be root, and reads its files as who it is then.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // Debian puts it where only root's path leads.
        let debian = Path::new("/usr/sbin/pgbouncer");
        let mut command = Command::new(if debian.exists() { debian } else { Path::new("pgbouncer") });
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            command.args(["-u", "nobody"]);
        }
        let process = command.arg("-q").arg(&settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("this test needs PgBouncer: install the package `pgbouncer`");
        let pooler = Self { process, port, _folder: folder };
        let options = ConnectOptions::parse(&pooler.before(url)).unwrap();
        let answers = async {
            while connect(&options).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answers).await.expect("PgBouncer answers");
        pooler
    }

    /// `url`, by way of it.
    pub(crate) fn before(&self, url: &str) -> String {
        url.replacen(&host_and_port(url), &format!("127.0.0.1:{}", self.port), 1)
    }
}

fn own((host, port): (&str, &str)) -> (String, String) {
    (host.to_owned(), port.to_owned())
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
