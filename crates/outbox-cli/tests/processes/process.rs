//! A relay that runs.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use crate::rig::{PATIENCE, Ran, now};

/// A relay's process. It ends with the test.
pub(crate) struct RelayProcess {
    child: Child,
    log: PathBuf,
}

impl RelayProcess {
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let errors = File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        Self { child, log }
    }

    /// The same, with its standard output in a pipe.
    pub(crate) fn start_piped(mut command: Command, log: PathBuf) -> (Self, ChildStdout) {
        let errors = File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        (Self { child, log }, output)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal: `STOP`, `CONT`, `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGTERM, and waits for the end.
    pub(crate) fn stop(self) -> Ran {
        self.signal("TERM");
        self.end()
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Ran {
        let status = self.ended();
        Ran { code: status.code().unwrap_or(-1), out: String::new(), err: self.log() }
    }

    fn ended(&mut self) -> ExitStatus {
        let since = now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(now().since(since) < PATIENCE, "the relay does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("relay {} said: {}", self.id(), self.log());
        }
        // It may be stopped or gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
