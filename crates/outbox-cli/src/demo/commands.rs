//! What an operator would type: this binary's own commands, run as processes.

use std::{collections::BTreeSet, process::Stdio, sync::Arc};

use serde_json::Value;

use super::{chaos::Role, processes::own_binary, stage::Stage};

/// Runs commands with the demo's configuration.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    stage: Arc<Stage>,
}

/// The dead letters of a route, and how many events they hold back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeadLetters {
    /// Their keys.
    pub keys: BTreeSet<String>,
    /// Events parked behind them.
    pub parked: u64,
}

impl Operator {
    pub(crate) fn new(stage: Arc<Stage>) -> Self {
        Self { stage }
    }

    /// `outbox dead-letters list`.
    ///
    /// # Errors
    /// What the command said.
    pub(crate) async fn dead_letters(&self, route: Role) -> Result<DeadLetters, String> {
        let listed = self.json(&["dead-letters", "list", "--route", route.name(), "--limit", "1000"]).await?;
        let mut letters = DeadLetters::default();
        for letter in listed["dead_letters"].as_array().into_iter().flatten() {
            letters.keys.extend(letter["event"]["key"].as_str().map(str::to_owned));
            letters.parked += letter["parked"].as_u64().unwrap_or(0);
        }
        Ok(letters)
    }

    /// `outbox dead-letters list`, as people see it.
    ///
    /// # Errors
    /// What the command said.
    pub(crate) async fn show_dead_letters(&self, route: Role) -> Result<String, String> {
        self.output(&["dead-letters", "list", "--route", route.name()]).await
    }

    /// `outbox dead-letters redrive`. Gives how many were.
    ///
    /// # Errors
    /// What the command said.
    pub(crate) async fn redrive(&self, route: Role) -> Result<u64, String> {
        let answer = self.json(&["dead-letters", "redrive", "--route", route.name(), "--all"]).await?;
        answer["redriven"].as_u64().ok_or_else(|| format!("`outbox dead-letters redrive` answered {answer}"))
    }

    async fn json(&self, args: &[&str]) -> Result<Value, String> {
        let mut with_json = vec!["--json"];
        with_json.extend(args);
        let output = self.output(&with_json).await?;
        serde_json::from_str(&output).map_err(|error| format!("`outbox {}` answered no JSON: {error}", args.join(" ")))
    }

    async fn output(&self, args: &[&str]) -> Result<String, String> {
        let shown = || format!("`outbox {}`", args.join(" "));
        let failed = |error: std::io::Error| format!("{} does not run: {error}", shown());
        let mut command = own_binary().map_err(failed)?;
        command.arg("--config").arg(self.stage.config()).args(args);
        command.envs(self.stage.environment()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(failed)?;
        if !output.status.success() {
            return Err(format!("{} failed: {}", shown(), String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
