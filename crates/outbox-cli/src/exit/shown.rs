//! A failure, as people and programs read it.

use std::fmt::Write as _;

use serde_json::json;

use super::Failure;
use crate::output::Paint;

impl Failure {
    /// As people read it: `error: …`, causes, `help: …`.
    pub(crate) fn shown(&self, paint: Paint) -> String {
        if let Some(problems) = &self.0.problems {
            return problems.to_string().replace("error: ", &format!("{} ", paint.bad("error:")));
        }
        let mut text = format!("{} {}", paint.bad("error:"), self.0.message);
        for cause in &self.0.causes {
            let _ = write!(text, "\n  cause: {cause}");
        }
        if let Some(help) = &self.0.help {
            let _ = write!(text, "\n  {} {help}", paint.strong("help:"));
        }
        text
    }

    /// As programs read it.
    pub(crate) fn json(&self) -> serde_json::Value {
        match &self.0.problems {
            Some(problems) => {
                json!({ "error": { "exit": self.0.exit.code(), "message": self.0.message, "problems": problems.list } })
            }
            None => json!({ "error": {
                "exit": self.0.exit.code(), "message": self.0.message, "causes": self.0.causes, "help": self.0.help,
            } }),
        }
    }
}

#[cfg(test)]
mod tests {
    use outbox::{ErrorKind, StoreError};

    use super::*;

    #[test]
    fn a_failure_reads_as_error_causes_and_help() {
        let disk = std::io::Error::other("disk I/O error");
        let error = StoreError::new(ErrorKind::Full, "orders.db cannot be written").because(disk);
        let shown = Failure::from(error).help("make room").shown(Paint::plain());
        assert_eq!(shown, "error: orders.db cannot be written\n  cause: disk I/O error\n  help: make room");
    }
}
