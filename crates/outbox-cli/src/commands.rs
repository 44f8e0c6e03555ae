//! What each command does.

use crate::{
    cli::{Command, Global},
    config::{Config, LogFormat},
    exit::{Exit, Failure, Outcome},
    logs,
    output::Output,
    wiring::{self, Stores},
};

pub(crate) mod adopt;
pub(crate) mod check;
pub(crate) mod dead_letters;
mod endpoint;
mod holder;
#[cfg(feature = "aws")]
pub(crate) mod iam;
pub(crate) mod inbox;
pub(crate) mod init;
mod lease;
pub(crate) mod purge;
#[cfg(feature = "aws")]
pub(crate) mod recover;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod route;
pub(crate) mod simulate;
mod standing;
pub(crate) mod status;
mod stop;

use lease::without_relay;

/// Carries out `command`.
pub(crate) async fn run(global: &Global, out: Output, command: Command) -> Outcome {
    match command {
        Command::Init(args) => {
            logs::start(global.log.unwrap_or(LogFormat::Text), global.verbose);
            init::run(global, out, args).await
        }
        Command::Check(args) => check::run(global, out, &args).await,
        Command::Relay(args) => {
            let config = Config::load(&global.config)?;
            logs::start(global.log.unwrap_or(config.relay.log), global.verbose);
            relay::run(config, &args).await
        }
        Command::Status(args) => status::run(configured(global)?, out, &args).await,
        Command::DeadLetters(command) => dead_letters::run(configured(global)?, out, command).await,
        Command::Replay(args) => replay::run(configured(global)?, out, args).await,
        Command::Route(command) => route::run(configured(global)?, out, command).await,
        Command::Inbox(command) => {
            logs::start(global.log.unwrap_or(LogFormat::Text), global.verbose);
            inbox::run(out, command).await
        }
        Command::Adopt(args) => adopt::run(configured(global)?, out, &args).await,
        #[cfg(feature = "aws")]
        Command::Iam(args) => iam::run(&configured(global)?, out, &args),
        #[cfg(feature = "aws")]
        Command::Recover(args) => Box::pin(recover::run(configured(global)?, out, &args)).await,
        Command::Purge(args) => purge::run(configured(global)?, out, args).await,
        // `main` has done these before.
        Command::Demo(_) | Command::Hidden(_) | Command::Completions { .. } | Command::Simulate(_) => Ok(Exit::Ok),
    }
}

/// Reads the configuration but for its secrets, and logs as it says.
fn configured(global: &Global) -> Result<Config, Failure> {
    let config = Config::load_without_secrets(&global.config)?;
    logs::start(global.log.unwrap_or(config.relay.log), global.verbose);
    Ok(config)
}

/// Names of routes, for a message; or that there are none.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none is".to_owned() } else { names.join(", ") }
}

/// Opens both stores of `config`; makes neither.
async fn stores(config: &Config) -> Result<Stores, Failure> {
    wiring::stores(config, false).await
}
