//! What was found, and how it is said.

use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    output::{Output, counted, plain, width, wrapped},
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    Ok,
    Note,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    subject: String,
    level: Level,
    text: String,
    help: Option<String>,
}

/// All of them, and how the command ends.
pub(super) struct Findings {
    list: Vec<Finding>,
    exit: Exit,
}

impl Findings {
    /// None yet.
    pub(super) fn none() -> Self {
        Self { list: Vec::new(), exit: Exit::Ok }
    }

    /// How the command ends.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn add(
        &mut self,
        level: Level,
        subject: impl Into<String>,
        text: impl Into<String>,
        help: Option<&str>,
    ) {
        if level == Level::Problem && self.exit == Exit::Ok {
            self.exit = Exit::Failed;
        }
        self.list.push(Finding { subject: subject.into(), level, text: text.into(), help: help.map(str::to_owned) });
    }

    pub(super) fn ok(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(Level::Ok, subject, text, None);
    }

    pub(super) fn note(&mut self, subject: impl Into<String>, text: impl Into<String>, help: Option<&str>) {
        self.add(Level::Note, subject, text, help);
    }

    pub(super) fn failure(&mut self, subject: impl Into<String>, failure: &Failure) {
        self.add(Level::Problem, subject, failure.message(), failure.remedy());
        // What needs an operator's decision outweighs what does not.
        if failure.code() == Exit::Adopt {
            self.exit = Exit::Adopt;
        }
    }
}

/// Says all of them at once.
pub(super) fn report(out: Output, findings: &Findings) {
    let problems = findings.list.iter().filter(|finding| finding.level == Level::Problem).count();
    if out.json {
        out.value(&serde_json::json!({ "ok": findings.exit == Exit::Ok, "findings": findings.list }));
        return;
    }
    let paint = out.paint;
    let longest = findings.list.iter().map(|finding| plain(&finding.subject).chars().count()).max().unwrap_or(0);
    let margin = longest.min(28) + 7;
    let width = width().saturating_sub(margin);
    let mut last = "";
    for finding in &findings.list {
        let mark = match finding.level {
            Level::Ok => paint.good("ok  "),
            Level::Note => paint.warn("note"),
            Level::Problem => paint.bad("FAIL"),
        };
        let subject = if finding.subject == last { "" } else { &finding.subject };
        let mut lines = wrapped(&finding.text, width).into_iter();
        out.line(format!("{mark}  {:<1$} {2}", plain(subject), margin - 7, lines.next().unwrap_or_default()));
        lines.for_each(|line| out.line(format!("{:margin$}{line}", "")));
        for line in finding.help.iter().flat_map(|help| wrapped(&format!("help: {help}"), width)) {
            out.line(format!("{:margin$}{}", "", paint.faint(&line)));
        }
        last = &finding.subject;
    }
    out.line(match problems {
        0 => paint.good("\nall is well"),
        problems => paint.bad(&format!("\n{} to mend", counted(problems as u64, "problem", "problems"))),
    });
}
