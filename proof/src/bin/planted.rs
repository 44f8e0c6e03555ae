//! Plants bugs into a copy of the tree, one after the other, and looks whether each is noticed.

use std::{
    collections::BTreeSet,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use outbox::{Clock as _, System};
use proof::planted::{Bug, Caught, Finding, Found, Tree, all, check_sound, markdown, seek};

const AFTER_HELP: &str = "\
Bugs are patches under proof/planted. They are planted in a copy of the tree under target/planted, as the tree is now, \
committed or not; the tree itself is not touched. A run that was ended goes on where it was, unless what is compiled, the \
patch or the number of schedules has changed. Exit code 1 if one is not noticed, 2 if one could not be tried.";

/// Plant bugs of the kinds that others had, and look whether the simulator or the quick tests notice them.
#[derive(Debug, Parser)]
#[command(name = "planted", after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Only these, by number or name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// So many schedules are played at most before the quick tests have to tell
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    schedules: u64,
    /// Only look whether every patch still applies
    #[arg(long)]
    check: bool,
    /// Try those again that a run of the same tree has tried
    #[arg(long)]
    again: bool,
    /// Write the report to docs/planted-bugs.md
    #[arg(long, conflicts_with_all = ["names", "check"])]
    write: bool,
}

fn main() -> ExitCode {
    match plant(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Gives whether every bug was noticed.
fn plant(cli: &Cli) -> Result<bool, String> {
    let tree = Tree::of(repository()?);
    let _lock = tree.lock()?;
    let compiled = tree.renew()?;
    let bugs = chosen(&tree, &cli.names)?;
    for bug in &bugs {
        tree.check(bug)?;
    }
    if cli.check {
        println!("{} planted bugs apply", bugs.len());
        return Ok(true);
    }
    let mut found = Found::read(&tree.findings(), compiled, cli.schedules);
    let findings = seek_all(cli, &tree, &bugs, &mut found)?;
    let page = markdown(&findings, cli.schedules, &made(&tree)?);
    if cli.write {
        let path = tree.repository().join("docs/planted-bugs.md");
        std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("written to {}", path.display());
    } else {
        println!("\n{page}");
    }
    let missed: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.caught == Caught::Not)
        .map(|finding| finding.bug.name.as_str())
        .collect();
    if !missed.is_empty() {
        println!("not noticed: {}", missed.join(", "));
    }
    Ok(missed.is_empty())
}

/// Tries each of them that no run of the same tree has tried yet; one that cannot be tried holds up no other.
fn seek_all(cli: &Cli, tree: &Tree, bugs: &[Bug], found: &mut Found) -> Result<Vec<Finding>, String> {
    let known = bugs.iter().map(|bug| if cli.again { Ok(None) } else { found.of(bug) });
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let bar = bar(bugs.len());
    let sought = bugs.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(bug, _)| bug.package());
    let unproven: BTreeSet<_> = sought.filter(|package| !found.is_sound(package)).collect();
    if !unproven.is_empty() {
        bar.set_message("with no bug planted");
        check_sound(tree, &unproven, cli.schedules)?;
        found.keep_sound(&unproven)?;
    }
    let (mut findings, mut untried) = (Vec::new(), Vec::new());
    for (bug, known) in bugs.iter().zip(known) {
        bar.set_message(bug.name.clone());
        let finding = match known {
            Some(finding) => Ok(finding),
            None => seek(tree, bug, cli.schedules, |phase| bar.set_message(format!("{}: {phase}", bug.name))),
        };
        bar.inc(1);
        match finding {
            Ok(finding) => {
                found.keep(&finding)?;
                bar.suspend(|| println!("{}", line(&finding)));
                findings.push(finding);
            }
            Err(why) => {
                bar.suspend(|| println!("{}: NOT TRIED: {why}", bug.name));
                untried.push(bug.name.as_str());
            }
        }
    }
    bar.finish_and_clear();
    if untried.is_empty() { Ok(findings) } else { Err(format!("could not be tried: {}", untried.join(", "))) }
}

/// The repository that this program was built from.
fn repository() -> Result<PathBuf, String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.parent().filter(|root| root.join("crates/outbox").is_dir());
    root.map(Path::to_path_buf)
        .ok_or_else(|| format!("{} is not in the repository any more: build again", own.display()))
}

fn chosen(tree: &Tree, names: &[String]) -> Result<Vec<Bug>, String> {
    let mut bugs = all(&tree.patches())?;
    if let Some(unknown) = names.iter().find(|name| !bugs.iter().any(|bug| bug.is_called(name))) {
        return Err(format!("no planted bug is called {unknown}: `ls proof/planted` shows all"));
    }
    bugs.retain(|bug| names.is_empty() || names.iter().any(|name| bug.is_called(name)));
    Ok(bugs)
}

fn line(finding: &Finding) -> String {
    let name = &finding.bug.name;
    match &finding.caught {
        Caught::Simulator { rule, what, after } => format!("{name}: {rule}, after {after}: {what}"),
        Caught::Tests(tests) => format!("{name}: tests: {}", tests.join(", ")),
        Caught::Not => format!("{name}: NOT NOTICED"),
    }
}

/// When, and of which commit.
fn made(tree: &Tree) -> Result<String, String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(tree.repository()).output();
        let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--", "crates", "proof", "Cargo.toml", "Cargo.lock"])?.is_empty();
    let changed = if changed { ", with what was not committed yet" } else { "" };
    let today = System.wall().to_string();
    Ok(format!("Made on {} of commit {commit}{changed}.", today.split('T').next().unwrap_or_default()))
}

fn bar(bugs: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {msg}, {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(bugs as u64), target).with_style(style)
}
