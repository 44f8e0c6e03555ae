//! Looking for a planted bug: by the simulator, and where that sees nothing, by the quick tests.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use outbox::{Clock as _, System};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{bug::Bug, tree::Tree};

/// What the simulator plays.
const SIMULATED: &str = "outbox";
/// The quick tests of each package that bugs are planted in; none of them needs a server.
const TESTS: [(&str, &[&str]); 2] = [
    (
        SIMULATED,
        &["--lib", "--test", "machines", "--test", "relay", "--test", "conformance", "--test", "field_defects"],
    ),
    ("outbox-sql", &["--lib", "--test", "relay_side"]),
];
/// No build, and no run of tests, takes so long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(1200);

/// How a bug was noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caught {
    /// A schedule broke the contract.
    Simulator {
        /// The point of the contract, or `hung`, `grown` or `panicked`.
        rule: String,
        /// What broke it.
        what: String,
        /// How many schedules were played, this one included.
        after: u64,
    },
    /// Tests failed.
    Tests(Vec<String>),
    /// By nothing.
    Not,
}

/// What came of a bug.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The bug.
    pub bug: Bug,
    /// How it was noticed.
    pub caught: Caught,
    /// How long it took to notice it, without the time to compile.
    pub took: Duration,
}

/// Plants `bug` in the copy, plays up to `schedules` of the simulator until one breaks the contract, and runs the quick
/// tests of its package if none does, or if that is none that the simulator plays. `phase` is told what is being done.
///
/// # Errors
/// If the patch does not apply any more, or what it makes does not compile.
pub fn seek(tree: &Tree, bug: &Bug, schedules: u64, phase: impl Fn(&str)) -> Result<Finding, String> {
    let _planted = tree.plant(bug)?;
    if bug.package() == SIMULATED {
        phase("compiling");
        build(tree)?;
        phase("playing schedules");
        let began = System.moment();
        let caught = simulate(tree, schedules)?;
        let took = System.moment().since(began);
        if caught != Caught::Not {
            return Ok(Finding { bug: bug.clone(), caught, took });
        }
    }
    phase("compiling the tests");
    test(tree, bug.package(), &["--no-run"])?;
    phase("running the tests");
    let began = System.moment();
    let caught = failed_tests(tree, bug.package())?;
    Ok(Finding { bug: bug.clone(), caught, took: System.moment().since(began) })
}

/// Plays the schedules and runs the tests of `packages` with no bug planted: what fails then would be taken for a bug that
/// was noticed.
///
/// # Errors
/// If something does, or does not compile.
pub fn check_sound(tree: &Tree, packages: &BTreeSet<&str>, schedules: u64) -> Result<(), String> {
    if packages.contains(SIMULATED) {
        build(tree)?;
        if let Caught::Simulator { rule, what, after } = simulate(tree, schedules)? {
            return Err(format!(
                "with no bug planted, schedule {after} of {schedules} breaks the contract ({rule}: {what}): mend that first"
            ));
        }
    }
    for package in packages {
        if let Caught::Tests(failed) = failed_tests(tree, package)? {
            return Err(format!(
                "with no bug planted, tests of {package} fail: {}: mend that first",
                failed.join(", ")
            ));
        }
    }
    Ok(())
}

fn build(tree: &Tree) -> Result<(), String> {
    let command = ["build", "--quiet", "--package", "campaign", "--profile", "proof"];
    let (status, said) = cargo(tree, "build.txt", &command)?;
    if status.is_some_and(|status| status.success()) { Ok(()) } else { Err(format!("it does not compile\n{said}")) }
}

/// Runs the cargo that runs this program, or the one on the path. A quiet run of tests would not say which failed.
fn cargo(tree: &Tree, log: &str, arguments: &[&str]) -> Result<(Option<ExitStatus>, String), String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).env("CARGO_TARGET_DIR", tree.target());
    run(tree, command, log)
}

fn simulate(tree: &Tree, schedules: u64) -> Result<Caught, String> {
    let mut campaign = Command::new(tree.target().join("proof/campaign"));
    campaign.args(["0", &schedules.to_string()]);
    let (_, said) = run(tree, campaign, "campaign.txt")?;
    let last = said.lines().rev().find(|line| line.starts_with('{'));
    let Some(told) = last.and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("the schedules ended without a word of what came of them: {last}"));
    };
    let text = |name: &str| told["broken"][name].as_str().unwrap_or_default().to_owned();
    if told["broken"].is_null() {
        return Ok(Caught::Not);
    }
    Ok(Caught::Simulator { rule: text("rule"), what: text("what"), after: told["played"].as_u64().unwrap_or_default() })
}

fn test(tree: &Tree, package: &str, more: &[&str]) -> Result<(Option<ExitStatus>, String), String> {
    let tests = TESTS.iter().find(|(of, _)| *of == package);
    let (_, tests) = tests.ok_or_else(|| format!("no quick tests are known of `{package}`: name them in TESTS"))?;
    // Compiling them takes longer than running them.
    let fixed = ["test", "--package", package, "--no-fail-fast", "--profile", "mutants"];
    let all: Vec<&str> = fixed.iter().chain(*tests).chain(more).copied().collect();
    cargo(tree, "tests.txt", &all)
}

fn failed_tests(tree: &Tree, package: &str) -> Result<Caught, String> {
    let (status, said) = test(tree, package, &[])?;
    let mut failed: Vec<String> = said.lines().filter_map(failed_test).map(str::to_owned).collect();
    failed.sort();
    failed.dedup();
    match status {
        None => failed.push("the tests hang".to_owned()),
        Some(status) if !status.success() && failed.is_empty() => {
            return Err("the tests do not compile, or end without saying which failed".to_owned());
        }
        Some(_) => {}
    }
    Ok(if failed.is_empty() { Caught::Not } else { Caught::Tests(failed) })
}

/// The test that this line says has failed.
pub(super) fn failed_test(line: &str) -> Option<&str> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.split(" - ").next().unwrap_or(name))
}

/// Runs a program in the copy, and gives what it said. No status if it had to be ended.
fn run(tree: &Tree, mut command: Command, log: &str) -> Result<(Option<ExitStatus>, String), String> {
    let path = tree.target().join(log);
    let program = command.get_program().to_string_lossy().into_owned();
    let wrong = |error: std::io::Error| format!("{program}: {error}");
    let out = File::create(&path).map_err(wrong)?;
    let err = out.try_clone().map_err(wrong)?;
    command.current_dir(tree.folder()).stdin(Stdio::null()).stdout(out).stderr(err);
    let mut child = command.spawn().map_err(wrong)?;
    let began = System.moment();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(wrong)? {
            break Some(status);
        }
        if System.moment().since(began) > PATIENCE {
            child.kill().map_err(wrong)?;
            child.wait().map_err(wrong)?;
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let said = fs::read(&path).map_err(wrong)?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}
