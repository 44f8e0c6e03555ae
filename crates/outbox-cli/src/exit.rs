//! How a command ends: exit codes, and failures as people and programs read them.

use std::{error::Error, process::ExitCode};

use outbox::{ErrorKind, StoreError};

use crate::config::Problems;

#[cfg(feature = "command")]
mod shown;

/// What the process tells its parent. Documented in `--help` and `docs/configuration.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// It did not work, or a check found something wrong.
    Failed,
    /// The command line or the configuration makes no sense; nothing was done.
    Usage,
    /// What was named does not exist, or nothing matches; nothing was done.
    NotFound,
    /// Store and bookkeeping do not belong together any more: `outbox adopt` explains.
    Adopt,
    /// Somebody ended it before it was done; what it had found is told.
    Interrupted,
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Adopt => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    exit: Exit,
    message: String,
    causes: Vec<String>,
    help: Option<String>,
    problems: Option<Problems>,
}

/// What every command gives.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Something did not work.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            exit: Exit::Failed,
            message: message.into(),
            causes: Vec::new(),
            help: None,
            problems: None,
        }))
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::Usage)
    }

    /// What was named is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(message).exit(Exit::NotFound)
    }

    /// With another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.0.exit = exit;
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> Exit {
        self.0.exit
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds what caused it, and what caused that, without what the message says already.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            let said = self.0.message.contains(&text) || self.0.causes.iter().any(|cause| cause.contains(&text));
            if !said {
                self.0.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Puts what was attempted before the message.
    pub(crate) fn context(mut self, attempted: &str) -> Self {
        self.0.message = format!("{attempted}: {}", self.0.message);
        self
    }

    /// The message alone.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do, if there is something to say.
    pub(crate) fn remedy(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let message = format!("{} is not a valid configuration", problems.file.display());
        let mut failure = Self::usage(message);
        failure.0.problems = Some(problems);
        failure
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        // The message says what to do, by its contract; what follows is what the command line can do besides.
        let (exit, help) = match error.kind() {
            ErrorKind::Unavailable => (Exit::Failed, Some("something else may hold it for now: try again")),
            ErrorKind::HistoryChanged => (Exit::Adopt, Some("`outbox adopt` shows what happened and what can be done")),
            ErrorKind::Ownership => (Exit::Adopt, Some("`outbox adopt` shows who owns what and what can be done")),
            ErrorKind::Full
            | ErrorKind::Fenced
            | ErrorKind::Trimmed
            | ErrorKind::Incompatible
            | ErrorKind::NotPermitted
            | ErrorKind::Invalid => (Exit::Failed, None),
        };
        let message = error.to_string();
        let mut failure = Self::new(message).exit(exit).because(&error);
        failure.0.help = help.map(str::to_owned);
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_an_operator_has_its_own_exit_code() {
        for (kind, exit) in [
            (ErrorKind::HistoryChanged, Exit::Adopt),
            (ErrorKind::Ownership, Exit::Adopt),
            (ErrorKind::Unavailable, Exit::Failed),
        ] {
            assert_eq!(Failure::from(StoreError::new(kind, "")).code(), exit);
        }
    }
}
