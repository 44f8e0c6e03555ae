//! A folder to run the real binary in.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// How often is looked for what is to come, every 50 ms: a minute at least, for a busy machine.
const LOOKS: usize = 1_200;

/// A folder of its own, with what a test needs in it.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// What a command said and how it ended.
pub(crate) struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A place where `outbox init orders.db` was run, with a configuration of two routes to files.
    pub(crate) fn initialised() -> Self {
        let place = Self::new();
        place.write(
            "outbox.toml",
            "[store]\nsqlite = 'orders.db'\nproducer = '/orders'\n\
             [relay]\nfailover = '1s'\n\
             [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\n\
             [[route]]\nname = 'mails'\ntypes = ['order.placed']\nfile = 'mails.jsonl'\n",
        );
        let ran = place.run(&["init"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
        command.args(args).current_dir(self.folder()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Runs to the end, which has to come within a minute.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut running = Running::start(self.command(args));
        for _ in 0..6_000 {
            if running.has_ended() {
                return running.wait();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{args:?} did not end");
    }

    /// Runs with `--json`, which has to succeed, and gives what was printed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let ran = self.run(&all);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", ran.out))
    }

    /// Commits `count` orders, each an entry of its own, to one of ten keys.
    pub(crate) fn place_orders(&self, count: u32) {
        let mut connection = rusqlite::Connection::open(self.path("orders.db")).unwrap();
        let transaction = connection.transaction().unwrap();
        for number in 1..=count {
            transaction
                .execute(
                    "INSERT INTO outbox (key, type, data) VALUES (?1, 'order.placed', ?2)",
                    (format!("customer/{}", number % 10), format!("{{\"number\":{number}}}")),
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Starts a relay.
    pub(crate) fn relay(&self) -> Running {
        Running::start(self.command(&["relay"]))
    }

    /// Starts `outbox` with these arguments.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// Starts a relay, waits until the backlog of every route is gone, and stops it.
    pub(crate) fn publish_all(&self) {
        let relay = self.relay();
        self.wait_until(|status| {
            let routes = status["routes"].as_array().unwrap();
            routes.iter().all(|route| route["state"] == "flowing" && route["backlog"] == 0)
        });
        let ran = relay.stop();
        assert_eq!(ran.code, 0, "{}", ran.err);
    }

    /// Waits until `found` finds something.
    pub(crate) fn until<T>(&self, what: &str, found: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..LOOKS {
            if let Some(found) = found(self) {
                return found;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("did not come to be: {what}");
    }

    /// Waits until `status` is as wanted.
    pub(crate) fn wait_until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..LOOKS {
            let ran = self.run(&["--json", "status"]);
            last = serde_json::from_str(&ran.out).unwrap_or(Value::Null);
            if last.is_object() && wanted(&last) {
                return last;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("did not come to be: {last:#}");
    }
}

/// A process that ends with the test.
pub(crate) struct Running {
    child: Child,
    out: File,
    err: File,
}

impl Running {
    /// What it prints goes to files: a pipe that nobody reads would fill up and hold it.
    pub(crate) fn start(mut command: Command) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        Self { child: command.spawn().unwrap(), out, err }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(self) -> Ran {
        self.signal("TERM");
        self.wait()
    }

    /// Whether Ctrl-C would not just end it, as Linux tells.
    #[cfg(target_os = "linux")]
    pub(crate) fn catches_interrupts(&self) -> bool {
        const INTERRUPT: u64 = 1 << (2 - 1);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & INTERRUPT != 0
    }

    /// Presses Ctrl-C and waits for the end.
    #[cfg(target_os = "linux")]
    pub(crate) fn interrupt(self) -> Ran {
        self.press_ctrl_c();
        self.wait()
    }

    /// Presses Ctrl-C.
    #[cfg(target_os = "linux")]
    pub(crate) fn press_ctrl_c(&self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends it this signal, as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ran {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ran { code, out: whole(&self.out), err: whole(&self.err) }
    }
}

fn whole(mut file: &File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
