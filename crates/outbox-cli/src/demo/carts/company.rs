//! What the processes share, and how each is started and followed.

use std::{path::PathBuf, sync::Arc};

use tokio::{process::Command, sync::watch};

use super::{
    cloud::{self, ANYBODY},
    emulator,
    plan::Role,
    process::QUEUE_VARIABLE,
    stage::Stage,
};
use crate::demo::{
    arrivals::Tally,
    processes::{News, Part, reaches},
};

/// What all processes share.
#[derive(Clone, Debug)]
pub(crate) struct Company {
    pub stage: Arc<Stage>,
    pub client: reqwest::Client,
    pub news: Arc<News>,
    /// Where the emulator's program is, if it is started here.
    pub program: Option<PathBuf>,
    /// The queue that the consumer reads, once it is there.
    pub queue: watch::Receiver<String>,
    /// Changes of carts that were answered.
    pub changed: watch::Receiver<u64>,
    /// What came over the bus.
    pub published: watch::Receiver<Tally>,
    /// Events that the consumer applied.
    pub applied: watch::Receiver<u64>,
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
        let path = if self.role == Role::Emulator { emulator::HEALTH } else { "/health" };
        self.company.stage.url(self.role, path)
    }

    fn reporter(&self) -> (&reqwest::Client, &News) {
        (&self.company.client, &self.company.news)
    }

    fn describe(&self, command: &mut Command) {
        let stage = &self.company.stage;
        command.args(["demo-carts-process", self.role.name(), "--folder"]).arg(stage.folder());
        command.args(["--endpoint", &stage.endpoint(), "--prefix", stage.prefix()]);
        command.arg("--port").arg(stage.port(self.role).to_string());
        if self.role == Role::Emulator {
            command.arg("--program").args(&self.company.program);
        }
        command.env(QUEUE_VARIABLE, &*self.company.queue.borrow());
        if cloud::asks_as_anybody(stage) {
            command.envs(ANYBODY).env_remove("AWS_SESSION_TOKEN").env_remove("AWS_PROFILE");
        }
    }

    fn is_guardian(&self) -> bool {
        self.role == Role::Emulator
    }

    fn so_far(&self) -> String {
        let (published, applied) = (self.company.published.borrow().first, *self.company.applied.borrow());
        format!("{} changes, {published} events published, {applied} applied", *self.company.changed.borrow())
    }

    async fn until(&self, at: u64) {
        match self.role {
            Role::Emulator | Role::Carts => reaches(self.company.changed.clone(), |changed| *changed >= at).await,
            Role::Relay => reaches(self.company.published.clone(), |tally| tally.first >= at).await,
            Role::Totals => reaches(self.company.applied.clone(), |applied| *applied >= at).await,
        }
    }

    async fn set_broken(&self, _: bool) -> Result<(), String> {
        Err(format!("{} cannot be told to refuse what comes", self.role.name()))
    }
}
