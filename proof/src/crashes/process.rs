//! A process of the binary that runs.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use super::rig::{PATIENCE, Ran, now};

/// A relay's process, or another that does not end by itself. It ends with the test.
#[derive(Debug)]
pub struct RelayProcess {
    child: Child,
    log: PathBuf,
    /// The file that there is for as long as it stands at a point.
    hold: Option<PathBuf>,
}

impl RelayProcess {
    /// Starts it by `command`; `log` gets what it says.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let errors = File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        Self { child, log, hold: None }
    }

    /// The same, with the file by which it stands at its point.
    pub fn standing_by(mut self, file: &Path) -> Self {
        self.hold = Some(file.to_owned());
        self
    }

    /// Whether it stands at its point.
    pub fn stands(&self) -> bool {
        self.hold.as_deref().is_some_and(Path::exists)
    }

    /// The same, with its standard output in a pipe.
    pub fn start_piped(mut command: Command, log: PathBuf) -> (Self, ChildStdout) {
        let errors = File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        (Self { child, log, hold: None }, output)
    }

    /// Where it logs.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal: `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Stops it by SIGSTOP, and waits until each of its threads stands still: until then one may go on into a transaction.
    pub fn stand_still(&self) {
        self.signal("STOP");
        let stands = |task: std::fs::DirEntry| state(&task.path()).is_none_or(|state| state == 'T');
        let since = now();
        let tasks = format!("/proc/{}/task", self.id());
        while !std::fs::read_dir(&tasks).unwrap().all(|task| stands(task.unwrap())) {
            assert!(now().since(since) < PATIENCE, "the relay does not stand still");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends SIGTERM, and waits for the end.
    pub fn stop(self) -> Ran {
        self.signal("TERM");
        self.end()
    }

    /// Waits until it ends by itself.
    pub fn end(mut self) -> Ran {
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

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// The state of the process or thread whose folder in `/proc` this is: `T` if it was stopped, `Z` if it ended and nobody has
/// waited for it yet. None if it is gone.
pub(super) fn state(folder: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name in parentheses may hold anything; the state comes behind it.
    stat.rsplit_once(") ")?.1.chars().next()
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
