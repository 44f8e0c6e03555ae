//! A program behind a pipe that stops reading.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
};

use crate::{process::RelayProcess, rig::Rig};

const ROUTES: &str = "[relay]\nfailover = '1s'\ndrain = '1s'\n[[route]]\nname = 'main'\nstdout = true\n";

/// Far more than a pipe holds.
const EVENTS: u32 = 2_000;

#[test]
fn a_relay_whose_reader_has_stopped_ends_on_sigterm_and_loses_nothing() {
    let rig = Rig::new(ROUTES);
    rig.write(0..EVENTS, 10, 500);
    let (relay, output) = RelayProcess::start_piped(rig.command(&["relay"]), rig.path("relay.log"));
    // The first line is there, and nobody reads on: the pipe fills up, and the write in it gets stuck.
    let mut reader = BufReader::new(output);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let ran = relay.stop();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("drain limit"), "{}", ran.err);

    let (relay, output) = RelayProcess::start_piped(rig.command(&["relay"]), rig.path("relay-2.log"));
    let mut left: BTreeSet<u32> = (0..EVENTS).collect();
    for line in BufReader::new(output).lines() {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        left.remove(&u32::try_from(event["data"].as_u64().unwrap()).unwrap());
        if left.is_empty() {
            break;
        }
    }
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
}
