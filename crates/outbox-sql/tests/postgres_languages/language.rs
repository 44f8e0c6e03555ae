//! The examples of languages, run as they are.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// How long an example may take.
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Python,
    Node,
}

/// A file of `examples/languages`.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/languages").join(name)
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::Node];

    fn command(self) -> Command {
        let (program, installed, script) = match self {
            Self::Python => {
                let program = file("python/.venv/bin/python");
                (program.clone(), program, file("python/scenario.py"))
            }
            Self::Node => (PathBuf::from("node"), file("node/node_modules/pg"), file("node/scenario.js")),
        };
        assert!(installed.exists(), "this test needs {}: run `examples/languages/install`", installed.display());
        let mut command = Command::new(program);
        command.arg(script);
        command
    }

    /// Runs the scenario at `url` with these arguments besides. Gives what it printed.
    pub(crate) async fn run(self, url: &str, arguments: &[&str]) -> String {
        let mut command = self.command();
        command.arg(url).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("this test needs {self:?}: {error}"));
        let output = finished(child).await;
        let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{self:?} {arguments:?}: {told}{said}");
        told.trim().to_owned()
    }
}

/// Waits for the end of a process that prints little.
async fn finished(mut child: Child) -> Output {
    let end = async {
        while child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, end).await;
    if in_time.is_err() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(in_time.is_ok(), "it does not end: {}", String::from_utf8_lossy(&output.stderr));
    output
}
