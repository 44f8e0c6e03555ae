//! The harness of real crashes, run for a short while: `proof/src/crashes.rs` says what it does.

#![cfg(target_os = "linux")]

use std::path::Path;

use proof::crashes::{Settings, plan::round, run};

/// Any would do; a failure names it, and `cargo run -p proof --bin crashes` repeats it.
const SEED: u64 = 1;
const CRASHES: usize = 200;

#[test]
fn two_hundred_crashes_at_every_point_and_of_every_kind_break_no_promise() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        binary: Path::new(env!("CARGO_BIN_EXE_outbox")).to_owned(),
        folder: folder.path().to_owned(),
        at_a_time: 8,
    };
    let (tally, breaches) = run(&settings, &round(SEED, CRASHES), &|_| {});
    println!("{tally}");
    if !breaches.is_empty() {
        // What is left of the worlds is worth a look.
        let kept = folder.keep();
        panic!("seed {SEED}, {CRASHES} crashes, left in {}: {breaches:#?}", kept.display());
    }
    assert!(tally.deaths >= CRASHES as u64, "{tally}");
    assert_eq!(tally.missing(), [""; 0], "never struck");
}
