//! The demo's processes: started, killed, started again. Each is this same binary, run by a hidden subcommand.

use std::{
    fs::OpenOptions,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    process::{Child, ChildStdin, Command},
    sync::watch,
};

use super::{
    chaos::{Action, Incident, OUTAGE, Role},
    observer::Progress,
    stage::Stage,
};

/// How long a process may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at whether it does.
const LOOK: Duration = Duration::from_millis(10);
/// How long a process may take to end once its leash is cut.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Something for the live view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// It just happened, and gives way to the next.
    Happened(String),
    /// It stays, over several lines perhaps.
    Said(String),
}

/// What happened, until the live view takes it.
#[derive(Debug, Default)]
pub(crate) struct News {
    latest: Mutex<Vec<Item>>,
}

impl News {
    /// Something happened.
    pub(crate) fn add(&self, line: String) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).push(Item::Happened(line));
    }

    /// Something is to be read at leisure.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).push(Item::Said(text.into()));
    }

    /// Takes what was added since the last call.
    pub(crate) fn take(&self) -> Vec<Item> {
        std::mem::take(&mut self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a process is, over all its lives.
pub(crate) trait Part: Clone + Send + Sync + 'static {
    /// What it is called.
    fn name(&self) -> &'static str;
    /// Where it writes its errors and logs.
    fn log(&self) -> PathBuf;
    /// Where it answers once it has started.
    fn health(&self) -> String;
    /// What is asked with, and who is told.
    fn reporter(&self) -> (&reqwest::Client, &News);
    /// Its arguments and environment.
    fn describe(&self, command: &mut Command);
    /// Whether it looks after a process of its own, and has to be left the time to end it.
    fn is_guardian(&self) -> bool {
        false
    }
    /// How far everything is, for people.
    fn so_far(&self) -> String;
    /// Waits until it is so far.
    fn until(&self, at: u64) -> impl Future<Output = ()> + Send;
    /// Lets it refuse everything, or not any more.
    ///
    /// # Errors
    /// That it did not do so.
    fn set_broken(&self, broken: bool) -> impl Future<Output = Result<(), String>> + Send;
}

/// What all processes share.
#[derive(Clone, Debug)]
pub(crate) struct Company {
    pub stage: Arc<Stage>,
    pub client: reqwest::Client,
    pub news: Arc<News>,
    /// The largest quantity that the ledger takes while its rule stands; `None` once it is mended.
    pub refuse_above: watch::Receiver<Option<i64>>,
    /// Orders placed so far.
    pub placed: watch::Receiver<u64>,
    /// How far everything behind them is.
    pub progress: watch::Receiver<Progress>,
}

/// One of the company.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub role: Role,
    pub company: Company,
}

impl Part for Member {
    fn name(&self) -> &'static str {
        self.role.name()
    }

    fn log(&self) -> PathBuf {
        self.company.stage.log(self.role)
    }

    fn health(&self) -> String {
        self.company.stage.url(self.role, "/health")
    }

    fn reporter(&self) -> (&reqwest::Client, &News) {
        (&self.company.client, &self.company.news)
    }

    fn describe(&self, command: &mut Command) {
        let stage = &self.company.stage;
        command.args(["demo-process", self.role.name(), "--folder"]).arg(stage.folder());
        command.arg("--port").arg(stage.port(self.role).to_string());
        if self.role == Role::Ledger
            && let Some(limit) = *self.company.refuse_above.borrow()
        {
            command.arg("--refuse-above").arg(limit.to_string());
        }
        command.envs(stage.environment());
    }

    fn so_far(&self) -> String {
        let published = self.company.progress.borrow().sent();
        format!("{} orders placed, {published} events published", *self.company.placed.borrow())
    }

    async fn until(&self, at: u64) {
        let progress = self.company.progress.clone();
        match self.role {
            Role::Orders => reaches(self.company.placed.clone(), |placed| *placed >= at).await,
            Role::Relay => reaches(progress, |now| now.sent() >= at).await,
            Role::Ledger | Role::Notifications => reaches(progress, |now| now.of(self.role).arrived.first >= at).await,
        }
    }

    async fn set_broken(&self, broken: bool) -> Result<(), String> {
        put(&self.company, self.role, "/outage", &json!({ "broken": broken })).await?;
        let what = if broken { "breaks: 503 to everything" } else { "works again" };
        self.company.news.add(format!("the webhook of {} {what}", self.role));
        Ok(())
    }
}

/// One process, over all its lives.
#[derive(Debug)]
pub(crate) struct Process<P> {
    part: P,
    child: Child,
    /// The child lives as long as this is open; waiting for it would close it if it were left in there.
    leash: Option<ChildStdin>,
    kills: u64,
}

impl<P: Part> Process<P> {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// What it said before it ended, or that it does not answer.
    pub(crate) async fn start(part: P) -> Result<Self, String> {
        let mut child = spawn(&part)?;
        let leash = child.stdin.take();
        let mut process = Self { part, child, leash, kills: 0 };
        process.wait_until_it_answers().await?;
        Ok(process)
    }

    /// Lets the plan's `incidents` happen to it, each once it is so far, and then keeps an eye on it until `stop`. Says through `through` when the last incident is over. Gives how often it was killed.
    ///
    /// # Errors
    /// A process that ends by itself is one.
    pub(crate) async fn live(
        mut self,
        incidents: Vec<Incident>,
        through: tokio::sync::oneshot::Sender<()>,
        stop: watch::Receiver<bool>,
    ) -> Result<u64, String> {
        for incident in incidents {
            tokio::select! {
                () = self.part.until(incident.at) => {}
                status = self.child.wait() => return Err(self.ended(status)),
                () = reaches(stop.clone(), |stop| *stop) => return self.end().await,
            }
            match incident.action {
                Action::Kill => self.kill().await?,
                Action::Break => {
                    self.part.set_broken(true).await?;
                    tokio::time::sleep(OUTAGE).await;
                    self.part.set_broken(false).await?;
                }
            }
        }
        let _nobody_waits = through.send(());
        tokio::select! {
            status = self.child.wait() => Err(self.ended(status)),
            () = reaches(stop, |stop| *stop) => self.end().await,
        }
    }

    /// Ends it for good. What it left undone would be done by its next life: there is nothing to be gentle about, unless it
    /// looks after a process of its own.
    async fn end(mut self) -> Result<u64, String> {
        if self.part.is_guardian() {
            drop(self.leash.take());
            if tokio::time::timeout(END_LIMIT, self.child.wait()).await.is_ok() {
                return Ok(self.kills);
            }
        }
        self.child.kill().await.map_err(|error| format!("cannot end {}: {error}", self.part.name()))?;
        Ok(self.kills)
    }

    /// SIGKILL, and a new start.
    async fn kill(&mut self) -> Result<(), String> {
        self.child.kill().await.map_err(|error| format!("cannot kill {}: {error}", self.part.name()))?;
        self.kills += 1;
        let when = self.part.so_far();
        self.part.reporter().1.add(format!("kill -9 {} (no. {}): {when}", self.part.name(), self.kills));
        self.child = spawn(&self.part)?;
        self.leash = self.child.stdin.take();
        self.wait_until_it_answers().await
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let url = self.part.health();
        let client = self.part.reporter().0.clone();
        let answers = async {
            while client.get(&url).send().await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = answers => Ok(()),
            status = self.child.wait() => Err(self.ended(status)),
            () = tokio::time::sleep(START_LIMIT) => {
                Err(format!("{} does not answer on {url} after {} s", self.part.name(), START_LIMIT.as_secs()))
            }
        }
    }

    fn ended(&self, status: std::io::Result<std::process::ExitStatus>) -> String {
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let log = std::fs::read_to_string(self.part.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let tail: Vec<_> = lines.into_iter().rev().collect();
        format!("{} ended by itself ({status}); its last lines:\n  {}", self.part.name(), tail.join("\n  "))
    }
}

/// Waits until the watched value is as wanted; for ever, if nobody is left to make it so.
pub(crate) async fn reaches<T>(mut watched: watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    if watched.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Asks a consumer to behave differently.
///
/// # Errors
/// That it did not.
pub(crate) async fn put(company: &Company, role: Role, path: &str, wish: &serde_json::Value) -> Result<(), String> {
    let url = company.stage.url(role, path);
    let answer = company.client.put(&url).json(wish).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map(|_| ()).map_err(|error| format!("{role} did not take {wish} on {path}: {error}"))
}

/// A command that runs this very binary, though the file at its path may have been replaced meanwhile.
pub(crate) fn own_binary() -> std::io::Result<Command> {
    if !cfg!(target_os = "linux") {
        return std::env::current_exe().map(Command::new);
    }
    let mut command = Command::new("/proc/self/exe");
    #[cfg(unix)]
    command.arg0("outbox");
    Ok(command)
}

fn spawn<P: Part>(part: &P) -> Result<Child, String> {
    let failed = |error: std::io::Error| format!("cannot start {}: {error}", part.name());
    let log = OpenOptions::new().create(true).append(true).open(part.log()).map_err(failed)?;
    let mut command = own_binary().map_err(failed)?;
    part.describe(&mut command);
    // An interrupt on the terminal is the demo's to handle, not its processes'.
    #[cfg(unix)]
    command.process_group(0);
    command
        // What goes to this machine goes there, whatever proxy the user has.
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        // The child ends when this pipe does: so no process outlives the demo, however that ends.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(!part.is_guardian())
        .spawn()
        .map_err(failed)
}
