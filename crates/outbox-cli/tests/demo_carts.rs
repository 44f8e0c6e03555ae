//! The demo with carts, with the real binary, its real processes, and an emulator of AWS.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

#[path = "../../outbox-aws/tests/dynamodb/server.rs"]
#[allow(clippy::expect_used, dead_code, reason = "others use all of it")]
mod aws;

/// The demo, with the emulator where the tests have it.
fn demo(args: &[&str]) -> Command {
    // Installs it, where it is missing.
    aws::endpoint();
    let environment = Path::new(&aws::python()).ancestors().nth(2).unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outbox"));
    command.args(["demo", "--system", "carts"]).args(args).env("OUTBOX_TEST_AWS_VENV", environment);
    command
}

fn report(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_cart_comes_out_exact_though_service_relay_and_consumer_are_killed() {
    let report = report(&demo(&["--customers", "40", "--json", "--seed", "7"]).output().unwrap());
    assert_eq!((&report["exact"], &report["customers"]), (&true.into(), &40.into()), "{report}");
    assert_eq!((&report["order_inversions"], &report["totals"]), (&0.into(), &report["expected"]), "{report}");
    let (carts, events) = (report["carts"].as_u64().unwrap(), report["events_applied"].as_u64().unwrap());
    assert_eq!((carts * 3, &report["events_committed"]), (events, &events.into()), "{report}");
    for process in ["carts", "relay", "totals"] {
        assert!(report["kills_by_process"][process].as_u64().unwrap() >= 2, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_an_endpoint_that_is_given_it_leaves_nothing_behind() {
    let Some(endpoint) = aws::endpoint() else { return at_aws_itself_there_is_no_emulator() };
    let client = aws::client().await;
    let tables = async || {
        let (mut tables, mut pages) = (BTreeSet::new(), client.list_tables().into_paginator().send());
        while let Some(page) = pages.next().await {
            let own = page.unwrap().table_names.unwrap_or_default();
            tables.extend(own.into_iter().filter(|name| name.starts_with("demo-")));
        }
        tables
    };
    let before = tables().await;
    let args = ["--customers", "5", "--chaos", "none", "--json", "--endpoint", endpoint];
    let report = report(&demo(&args).output().unwrap());
    assert_eq!((&report["exact"], &report["kills"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(tables().await, before);
}

fn at_aws_itself_there_is_no_emulator() {
    let refused = demo(&["--endpoint", "http://127.0.0.1:1"]).output().unwrap();
    assert!(!refused.status.success());
}

#[test]
fn what_cannot_be_done_is_said_with_the_remedy() {
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let folder = tempfile::tempdir().unwrap();
    // A copy elsewhere finds no emulator beside it.
    let copy = folder.path().join("outbox");
    std::fs::copy(env!("CARGO_BIN_EXE_outbox"), &copy).unwrap();
    let mut alone = Command::new(copy);
    alone.args(["demo", "--system", "carts"]).env("PATH", folder.path()).env_remove("OUTBOX_TEST_AWS_VENV");
    let (code, told) = said(&mut alone);
    assert!(code == Some(1) && told.contains("ministack") && told.contains("--endpoint"), "{told}");
    let (code, told) = said(&mut demo(&["--endpoint", "http://127.0.0.1:1"]));
    assert!(code == Some(1) && told.contains("making the bus at http://127.0.0.1:1"), "{told}");
    let (code, told) = said(&mut demo(&["--orders", "5"]));
    assert!(code == Some(2) && told.contains("--orders is for `--system orders`"), "{told}");
}

/// Who runs with `word` on its command line.
fn running(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(word)).count()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what}: not within a minute");
}

#[test]
#[cfg(target_os = "linux")]
fn whoever_interrupts_or_kills_it_leaves_no_process_behind() {
    for signal in ["INT", "KILL"] {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("kept");
        let kept = folder.to_str().unwrap();
        let mut command = demo(&["--customers", "2000", "--keep", kept]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // Its emulator does not say where it plays: it is known by the port that its guard was told.
        eventually("the bus is followed", || {
            std::fs::read(folder.join("bus.arrivals")).is_ok_and(|log| !log.is_empty())
        });
        let emulators = || {
            let environments = std::fs::read_dir("/proc").unwrap().flatten();
            let working = environments.filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok());
            working.filter(|cwd| *cwd == folder).count()
        };
        assert!(running(kept) >= 4 && emulators() == 1, "{} processes, {} emulators", running(kept), emulators());
        let killed = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        if signal == "INT" {
            let mut told = String::new();
            child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
            assert!(status.code() == Some(130) && told.contains("no process is left behind"), "{status}: {told}");
            assert_eq!((running(kept), emulators()), (0, 0));
        }
        eventually("every process has gone", || running(kept) == 0 && emulators() == 0);
    }
}
