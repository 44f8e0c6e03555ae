//! The demo, with the real binary and its real processes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

#[path = "../../outbox-sql/tests/postgres/server.rs"]
#[expect(dead_code, reason = "the demo makes its own database")]
mod server;

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outbox")).arg("demo").args(args).output().unwrap()
}

fn report(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn everything_is_exact_though_every_process_is_killed_again_and_again() {
    let report = report(&demo(&["--orders", "2000", "--chaos", "lots", "--json", "--seed", "7"]));
    assert_eq!(report["exact"], true, "{report}");
    assert_eq!(report["orders"], 2000);
    assert_eq!(report["events_committed"], 2000);
    assert_eq!(report["events_applied"]["ledger"], 2000);
    assert_eq!(report["events_applied"]["notifications"], 2000);
    assert_eq!(report["order_inversions"], 0);
    assert_eq!(report["total"], report["expected"]["total"]);
    assert!(report["dead_letters_redriven"].as_u64().unwrap() >= 1, "{report}");
    for process in ["orders", "relay", "ledger", "notifications"] {
        assert!(report["kills_by_process"][process].as_u64().unwrap() >= 5, "{report}");
    }
}

#[test]
fn without_chaos_nothing_is_killed_refused_or_doubled() {
    let report = report(&demo(&["--orders", "300", "--chaos", "none", "--json"]));
    assert_eq!(report["exact"], true, "{report}");
    assert_eq!((&report["kills"], &report["dead_letters_redriven"]), (&0.into(), &0.into()));
    assert_eq!((&report["duplicates_suppressed"], &report["events_arrived"]["ledger"]), (&0.into(), &300.into()));
}

#[test]
fn what_is_kept_can_be_looked_at_afterwards() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("kept");
    let kept = folder.to_str().unwrap();
    report(&demo(&["--orders", "50", "--chaos", "none", "--json", "--keep", kept]));
    for file in ["outbox.toml", "orders.db", "ledger.db", "notifications.db", "ledger.arrivals"] {
        assert!(Path::new(kept).join(file).is_file(), "{file}");
    }
    let again = demo(&["--orders", "50", "--keep", kept]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_it_is_exact_too_and_its_database_goes_with_it() {
    let databases = async || {
        let rows = server::session(server::url()).await;
        let rows = rows.query("SELECT datname::text FROM pg_database WHERE datname LIKE 'outbox_demo%'", &[]).await;
        rows.unwrap().iter().map(|row| row.get::<_, String>(0)).collect::<std::collections::BTreeSet<_>>()
    };
    let before = databases().await;
    let args = ["--orders", "1000", "--chaos", "lots", "--json", "--seed", "11", "--store", server::url()];
    let report = report(&demo(&args));
    assert_eq!(report["exact"], true, "{report}");
    assert_eq!((&report["events_committed"], &report["order_inversions"]), (&1000.into(), &0.into()));
    assert!(report["kills_by_process"]["relay"].as_u64().unwrap() >= 3, "{report}");
    assert_eq!(databases().await, before);
    let refused = demo(&["--orders", "10", "--store", "postgres://nobody@127.0.0.1:1/x?connect_timeout=1"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--store"), "{refused:?}");
}
