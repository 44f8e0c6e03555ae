//! What makes no sense is refused before anything is done, and says why.
#![allow(clippy::unwrap_used, reason = "what supports a test fails it")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn crashes(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crashes")).args(args).output().unwrap()
}

fn fuzz(args: &[&str]) -> Output {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/run");
    Command::new("bash").arg(run).args(args).output().unwrap()
}

fn assert_refused(ran: &Output, said: &str) {
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(2), &b""[..]), "{err}");
    assert!(err.contains(said), "{err}");
}

#[test]
fn hours_that_are_none_are_refused() {
    for hours in ["--hours=-1", "--hours=nan", "--hours=inf", "--hours=1e300", "--hours=soon"] {
        assert_refused(&crashes(&[hours]), "not a number of hours");
    }
}

#[test]
fn a_world_that_is_not_in_the_round_is_refused_with_those_that_are() {
    assert_refused(
        &crashes(&["--seed", "1", "--world", "999"]),
        "--world 999: a round of 200 crashes has worlds 0 to ",
    );
}

#[test]
fn no_world_at_a_time_is_refused() {
    assert_refused(&crashes(&["--at-a-time", "0"]), "--at-a-time");
}

#[test]
fn more_crashes_than_a_round_may_have_are_refused_with_the_remedy() {
    for crashes in ["100001", "18446744073709551615", "-1", "x"] {
        assert_refused(&self::crashes(&[&format!("--crashes={crashes}")]), "say `--hours`");
    }
}

#[test]
fn a_target_that_is_none_is_refused_before_anything_is_built() {
    assert_refused(&fuzz(&["1", "text", "nonsense"]), "there is no target nonsense; there are ");
    assert_refused(&fuzz(&["1", "../x"]), "there is no target ../x");
}

#[test]
fn fuzzing_for_no_time_or_for_ever_is_refused() {
    for seconds in ["0", "00", "-1", "x", "", "1.5"] {
        assert_refused(&fuzz(&[seconds]), "a whole number from 1 on");
    }
}

#[test]
fn help_for_fuzzing_is_a_help() {
    for help in ["--help", "-h"] {
        let ran = fuzz(&[help]);
        let out = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && out.contains("fuzz/run [SECONDS] [TARGET…]"), "{out}");
    }
}
