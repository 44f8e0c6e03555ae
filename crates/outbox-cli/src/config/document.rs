//! A TOML document that remembers lines and which keys were asked for, so that every mistake can be named with file,
//! line, field and remedy, all of them at once.

use std::{
    cell::RefCell,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Serialize;
use toml::de::DeTable;

use super::section::Section;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The line, from 1; `None` if the mistake is that something is missing altogether.
    pub line: Option<usize>,
    /// Where in the document, as `route[ledger].webhook.url`; empty for the document itself.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Every mistake that was found in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problems {
    /// The file.
    pub file: PathBuf,
    /// The mistakes, in the order of the file; at least one.
    pub list: Vec<Problem>,
}

impl Problems {
    /// A configuration that could not even be read.
    pub(crate) fn one(file: &Path, line: Option<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        let problem = Problem { line, field: String::new(), message: message.into(), help: help.into() };
        Self { file: file.to_owned(), list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let line = problem.line.map_or_else(String::new, |line| format!(":{line}"));
            let field = if problem.field.is_empty() { String::new() } else { format!("{}: ", problem.field) };
            let gap = if index == 0 { "" } else { "\n" };
            write!(
                f,
                "{gap}error: {}{line}: {field}{}\n  help: {}",
                self.file.display(),
                problem.message,
                problem.help
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Whether a configuration is read with its secrets, which only those have who call the sinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// They have to be there, and right.
    Read,
    /// They may be missing, for nothing is sent.
    LeftOut,
}

/// What every section of one document shares.
pub(crate) struct Shared<'a> {
    /// The whole text.
    text: &'a str,
    /// Gives environment variables.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Whether secrets are read.
    pub secrets: Secrets,
    /// What was found so far.
    pub problems: RefCell<Vec<Problem>>,
}

impl Shared<'_> {
    /// The line where `span` begins, from 1.
    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        line_of(self.text, span.start)
    }
}

/// The line of a byte of `text`, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
}

/// Reads `text` by `validate`, which asks the root section for what it knows.
///
/// # Errors
/// [`Problems`] lists every mistake: of TOML, those that `validate` noted, and keys that nobody asked for.
pub(crate) fn read<T>(
    file: &Path,
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    secrets: Secrets,
    validate: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let root = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let message = error.message().trim().replace('\n', ", ");
        Problems::one(
            file,
            line,
            format!("this is not TOML: {message}"),
            "mend the line; https://toml.io shows the syntax",
        )
    })?;
    let shared = Shared { text, lookup, secrets, problems: RefCell::default() };
    let section = Section::new(&shared, root.get_ref(), String::new(), None);
    let value = validate(&section);
    section.finish();
    let mut list = shared.problems.into_inner();
    match value {
        Some(value) if list.is_empty() => Ok(value),
        _ => {
            list.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
            Err(Problems { file: file.to_owned(), list })
        }
    }
}
