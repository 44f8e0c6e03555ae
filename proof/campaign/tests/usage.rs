//! What the program says, and what it ends with.
#![allow(clippy::unwrap_used, reason = "what supports a test fails it")]

use std::process::{Command, Output};

fn campaign(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_campaign")).args(args).output().unwrap()
}

#[test]
fn a_campaign_without_seeds_is_refused() {
    let too_far = ["18446744073709551615", "10"];
    for args in [&[][..], &["0"], &["0", "x"], &["0", "1", "2"], &["0", "0"], &too_far] {
        let ran = campaign(args);
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!((ran.status.code(), &*ran.stdout), (Some(2), &b""[..]), "{err}");
        assert!(err.contains("usage: campaign FIRST-SEED SCHEDULES"), "{err}");
    }
}

#[test]
fn help_for_a_campaign_is_a_help() {
    let ran = campaign(&["--help"]);
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && out.contains("usage: campaign FIRST-SEED SCHEDULES"), "{out}");
}

#[test]
fn a_campaign_says_how_many_it_played_what_broke_and_which_faults_never_struck() {
    let ran = campaign(&["3", "10"]);
    assert!(ran.status.success(), "too few to say anything of a fault");
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&told["played"], &told["broken"]), (&10.into(), &serde_json::Value::Null));
    let never = told["never_struck"].as_array().unwrap();
    assert!(never.contains(&"two shards are merged".into()), "not in ten schedules: {never:?}");
}
