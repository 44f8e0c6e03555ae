//! The command as a process: what it is told, and how it ends.

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};

use crate::{
    cli::{Cli, Command, Global},
    commands, demo,
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Paint},
};

/// How long the end waits for what still blocks, once everything is done.
const LINGER: Duration = Duration::from_secs(1);

/// Does what the command line says, and gives the exit code.
pub fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misspoken(&error),
    };
    match command {
        // The demo logs and exits by rules of its own.
        Command::Demo(args) => {
            let code = demo::run(args, global.json);
            output::written().map_or_else(|failure| failed(&global, &failure), |()| code)
        }
        Command::Hidden(command) => command.run(),
        // Has runtimes of its own.
        Command::Simulate(args) => finish(&global, commands::simulate::run(Output::new(global.json), &args)),
        command => finish(&global, run(&global, command)),
    }
}

/// Carries out everything but the demo.
pub(crate) fn run(global: &Global, command: Command) -> Outcome {
    let out = Output::new(global.json);
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "outbox", &mut script);
        out.line(String::from_utf8_lossy(&script).trim_end());
        return Ok(Exit::Ok);
    }
    let mut runtime = match command {
        Command::Relay(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build().map_err(|error| {
        Failure::new("the asynchronous runtime did not start")
            .because(&error)
            .help("raise the limits on threads and files")
    })?;
    let outcome = runtime.block_on(commands::run(global, out, command));
    // What a sink still waits for, as a disk that does not answer, must not hold up the end.
    runtime.shutdown_timeout(LINGER);
    outcome
}

/// What is wrong with the command line, or the help that was asked for.
fn misspoken(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !std::env::args_os().any(|argument| argument == "--json") {
        error.exit();
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let failure =
        Failure::usage(message.to_owned()).help("`outbox --help` and `outbox COMMAND --help` say what there is");
    eprintln!("{}", failure.json());
    failure.code().into()
}

pub(crate) fn finish(global: &Global, outcome: Outcome) -> ExitCode {
    match outcome.and_then(|exit| output::written().map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(failure) => failed(global, &failure),
    }
}

fn failed(global: &Global, failure: &Failure) -> ExitCode {
    if global.json {
        eprintln!("{}", failure.json());
    } else {
        eprintln!("{}", failure.shown(Paint::for_terminal(std::io::stderr().is_terminal())));
    }
    failure.code().into()
}
