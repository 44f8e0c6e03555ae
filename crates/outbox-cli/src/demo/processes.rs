//! The demo's processes: started, killed, started again. Each is this same binary, run by a hidden subcommand.

use std::{
    fs::OpenOptions,
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

impl Company {
    /// Waits until the process is so far.
    async fn until(&self, role: Role, at: u64) {
        let progress = self.progress.clone();
        match role {
            Role::Orders => reaches(self.placed.clone(), |placed| *placed >= at).await,
            Role::Relay => reaches(progress, |now| now.sent() >= at).await,
            Role::Ledger | Role::Notifications => reaches(progress, |now| now.of(role).arrived.first >= at).await,
        }
    }
}

/// One process, over all its lives.
#[derive(Debug)]
pub(crate) struct Process {
    role: Role,
    company: Company,
    child: Child,
    /// The child lives as long as this is open; waiting for it would close it if it were left in there.
    leash: Option<ChildStdin>,
    kills: u64,
}

impl Process {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// What it said before it ended, or that it does not answer.
    pub(crate) async fn start(role: Role, company: Company) -> Result<Self, String> {
        let mut child = spawn(role, &company)?;
        let leash = child.stdin.take();
        let mut process = Self { role, company, child, leash, kills: 0 };
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
                () = self.company.until(self.role, incident.at) => {}
                status = self.child.wait() => return Err(self.ended(status)),
                () = reaches(stop.clone(), |stop| *stop) => return self.end().await,
            }
            match incident.action {
                Action::Kill => self.kill().await?,
                Action::Break => {
                    self.set_broken(true).await?;
                    tokio::time::sleep(OUTAGE).await;
                    self.set_broken(false).await?;
                }
            }
        }
        let _nobody_waits = through.send(());
        tokio::select! {
            status = self.child.wait() => Err(self.ended(status)),
            () = reaches(stop, |stop| *stop) => self.end().await,
        }
    }

    /// Ends it for good. What it left undone would be done by its next life: there is nothing to be gentle about.
    async fn end(mut self) -> Result<u64, String> {
        self.child.kill().await.map_err(|error| format!("cannot end {}: {error}", self.role))?;
        Ok(self.kills)
    }

    /// SIGKILL, and a new start.
    async fn kill(&mut self) -> Result<(), String> {
        self.child.kill().await.map_err(|error| format!("cannot kill {}: {error}", self.role))?;
        self.kills += 1;
        let placed = *self.company.placed.borrow();
        let published = self.company.progress.borrow().sent();
        let when = format!("{placed} orders placed, {published} events published");
        self.company.news.add(format!("kill -9 {} (no. {}): {when}", self.role, self.kills));
        self.child = spawn(self.role, &self.company)?;
        self.leash = self.child.stdin.take();
        self.wait_until_it_answers().await
    }

    async fn set_broken(&self, broken: bool) -> Result<(), String> {
        put(&self.company, self.role, "/outage", &json!({ "broken": broken })).await?;
        let what = if broken { "breaks: 503 to everything" } else { "works again" };
        self.company.news.add(format!("the webhook of {} {what}", self.role));
        Ok(())
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let url = self.company.stage.url(self.role, "/health");
        let client = self.company.client.clone();
        let answers = async {
            while client.get(&url).send().await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = answers => Ok(()),
            status = self.child.wait() => Err(self.ended(status)),
            () = tokio::time::sleep(START_LIMIT) => {
                Err(format!("{} does not answer on {url} after {} s", self.role, START_LIMIT.as_secs()))
            }
        }
    }

    fn ended(&self, status: std::io::Result<std::process::ExitStatus>) -> String {
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let log = std::fs::read_to_string(self.company.stage.log(self.role)).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let tail: Vec<_> = lines.into_iter().rev().collect();
        format!("{} ended by itself ({status}); its last lines:\n  {}", self.role, tail.join("\n  "))
    }
}

/// Waits until the watched value is as wanted; for ever, if nobody is left to make it so.
async fn reaches<T>(mut watched: watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
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

fn spawn(role: Role, company: &Company) -> Result<Child, String> {
    let failed = |error: std::io::Error| format!("cannot start {role}: {error}");
    let stage = &company.stage;
    let log = OpenOptions::new().create(true).append(true).open(stage.log(role)).map_err(failed)?;
    let mut command = own_binary().map_err(failed)?;
    command.args(["demo-process", role.name(), "--folder"]).arg(stage.folder());
    command.arg("--port").arg(stage.port(role).to_string());
    if role == Role::Ledger
        && let Some(limit) = *company.refuse_above.borrow()
    {
        command.arg("--refuse-above").arg(limit.to_string());
    }
    // An interrupt on the terminal is the demo's to handle, not its processes'.
    #[cfg(unix)]
    command.process_group(0);
    command
        .envs(stage.environment())
        // The relay's webhooks go to this machine, whatever proxy the user has.
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        // The child ends when this pipe does: so no process outlives the demo, however that ends.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}
