//! File systems of their own, in a mount namespace that ends with the test: small ones, and such that may not be written to.
//!
//! Any user may make one where user namespaces are allowed, as they are by default.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{process::RelayProcess, rig::Rig};

/// Mounts a file system of 4 MiB at a folder.
pub const SMALL: &str = "mount -t tmpfs -o size=4m small \"$1\"";

/// A mount namespace in which a script has mounted something.
#[derive(Debug)]
pub struct Mounts {
    keeper: Child,
}

impl Mounts {
    /// Runs `script` with `folder` as its first argument, as root of a namespace of its own.
    pub fn new(script: &str, folder: &Path) -> Self {
        // For as long as this process sleeps the namespace lives.
        let script = format!("{script} && echo ready && exec sleep 600");
        let mut keeper = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs the command `unshare` of util-linux: {error}"));
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            let mut why = String::new();
            keeper.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("this test needs a file system of its own: allow user namespaces, or run it as root: {why}");
        }
        Self { keeper }
    }

    /// A path as it is within the namespace, from outside.
    pub fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.keeper.id(), path.display()))
    }

    /// A command that runs the binary within the namespace.
    pub fn command(&self, rig: &Rig, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.keeper.id().to_string(), "--user", "--preserve-credentials", "--mount", "--"])
            .arg(rig.binary())
            .args(args)
            .arg("--config")
            .arg(rig.path("outbox.toml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// A relay of `rig` within the namespace.
    pub fn relay(&self, rig: &Rig) -> RelayProcess {
        rig.start(self.command(rig, &["relay"]))
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Fills a file system to the last byte.
pub fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    let mut chunk = vec![0_u8; 1 << 16];
    loop {
        match file.write(&chunk) {
            Ok(_) => {}
            Err(_) if chunk.len() == 1 => return,
            Err(_) => chunk.truncate(chunk.len() / 2),
        }
    }
}
