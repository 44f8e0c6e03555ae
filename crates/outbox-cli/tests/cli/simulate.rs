//! The simulator, as users run it.

use std::{fs::File, process::Command};

use serde_json::Value;

use crate::place::Place;

#[test]
fn a_run_says_what_struck_and_that_the_contract_held() {
    let place = Place::new();
    let ran = place.run(&["simulate", "--schedules", "20", "--seed", "5", "--threads", "2"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("20 schedules of seeds 5 to 24"), "{}", ran.out);
    assert!(ran.out.contains("every point of the contract held in all of them"), "{}", ran.out);
    assert!(!ran.out.contains("go on with"), "{}", ran.out);
    let json = place.json(&["simulate", "--schedules", "20"]);
    assert_eq!((&json["sound"], &json["interrupted"]), (&true.into(), &false.into()), "{json:#}");
    assert_eq!((&json["schedules"], &json["next_seed"]), (&20.into(), &20.into()), "{json:#}");
    let never = json["never"].as_array().unwrap();
    assert!(never.iter().all(|fault| json["faults"][fault.as_str().unwrap()] == 0), "{json:#}");
}

#[test]
fn the_trace_of_one_schedule_is_the_same_every_time() {
    let place = Place::new();
    let [first, second] = [(); 2].map(|()| place.run(&["simulate", "--seed", "7", "--trace"]));
    assert_eq!(first.code, 0, "{}\n{}", first.out, first.err);
    assert!(first.out.contains("faults are over"), "{}", first.out);
    assert_eq!(first.out, second.out);
}

#[test]
fn only_plays_a_part() {
    let place = Place::new();
    let part = |numbers: &str| place.json(&["simulate", "--seed", "7", "--trace", "--only", numbers]);
    let whole = place.json(&["simulate", "--seed", "7", "--trace"]);
    let incidents = whole["incidents"].as_array().unwrap();
    let some = part("4,1,4");
    assert_eq!(some["only"], serde_json::json!([1, 4]));
    assert_eq!(some["incidents"], Value::Array(vec![incidents[1].clone(), incidents[4].clone()]));
    assert!(incidents[4].as_str().unwrap().starts_with("4 "), "{whole:#}");
    assert!(some["trace"].as_array().unwrap().len() < whole["trace"].as_array().unwrap().len());
    let none = part("none");
    assert_eq!((&none["only"], &none["breaches"]), (&serde_json::json!([]), &serde_json::json!([])));
}

#[test]
fn a_part_that_cannot_be_played_is_refused() {
    let place = Place::new();
    for (args, said) in [
        (&["--only", "0,999"][..], "no incident 999"),
        (&["--only", "three"], "is no number of an incident"),
        (&["--only", "1", "--schedules", "2"], "are for one schedule"),
        (&["--trace", "--schedules", "10"], "are for one schedule"),
        (&["--trace", "--threads", "2"], "--threads is for many schedules"),
    ] {
        let ran = place.run(&[&["simulate", "--seed", "7"], args].concat());
        assert_eq!((ran.code, &*ran.out), (2, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(said), "{args:?}: {}", ran.err);
    }
    assert_eq!(place.run(&["simulate", "--seed", "7", "--only", "1", "--schedules", "1"]).code, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_says_where_to_go_on_and_that_it_was_interrupted() {
    let place = Place::new();
    for json in [false, true] {
        let mut args = vec!["simulate", "--schedules", "100000000", "--seed", "30"];
        args.extend(json.then_some("--json"));
        let running = place.spawn(&args);
        place.until("the run hears of Ctrl-C", |_| running.catches_interrupts().then_some(()));
        let ran = running.interrupt();
        assert_eq!(ran.code, 130, "{}\n{}", ran.out, ran.err);
        let next = if json {
            let told: Value = serde_json::from_str(&ran.out).unwrap();
            assert_eq!((&told["interrupted"], &told["sound"]), (&true.into(), &false.into()), "{told:#}");
            assert_eq!(told["schedules"].as_u64().unwrap() + 30, told["next_seed"].as_u64().unwrap());
            told["next_seed"].as_u64().unwrap()
        } else {
            assert!(!ran.out.contains("in all of them"), "{}", ran.out);
            let (_, rest) = ran.out.split_once("go on with --seed ").unwrap();
            rest.split_once(' ').unwrap().0.parse().unwrap()
        };
        assert!((30..100_000_000).contains(&next), "{}", ran.out);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_ctrl_c_that_comes_twice_at_once_is_one() {
    let place = Place::new();
    let running = place.spawn(&["simulate", "--schedules", "100000000"]);
    place.until("the run hears of Ctrl-C", |_| running.catches_interrupts().then_some(()));
    for _ in 0..4 {
        running.press_ctrl_c();
    }
    let ran = running.interrupt();
    assert_eq!(ran.code, 130, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("go on with --seed ") && !ran.err.contains("is not told"), "{}\n{}", ran.out, ran.err);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    for args in
        [&["simulate", "--schedules", "1"][..], &["completions", "bash"], &["--json", "simulate", "--schedules", "1"]]
    {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = place.command(args).stdout(full).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(said.contains("standard output") && said.contains("No space left"), "{said}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command: Command = place.command(&["completions", "bash"]);
    let ran = command.stdout(writer).output().unwrap();
    assert_eq!((ran.status.code(), &*ran.stderr), (Some(0), &b""[..]));
}
