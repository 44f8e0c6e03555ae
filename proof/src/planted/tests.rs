use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{Bug, Caught, Compiled, Finding, Found, all, markdown, run::failed_test};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn bugs() -> Vec<Bug> {
    all(&root().join("proof/planted")).unwrap()
}

#[test]
fn every_planted_bug_says_what_it_is_and_still_applies() {
    let bugs = bugs();
    assert!(bugs.len() >= 30, "{} bugs", bugs.len());
    for bug in bugs {
        let checked =
            Command::new("git").args(["apply", "--check"]).arg(&bug.path).current_dir(root()).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{} does not apply any more: {said}", bug.name);
        assert!(bug.what.ends_with('.') && bug.what.len() > 20, "{}: {}", bug.name, bug.what);
    }
}

#[test]
fn each_planted_bug_has_a_number_and_changes_what_is_shipped_or_stands_in_for_a_backend() {
    let bugs = bugs();
    assert!(bugs.iter().all(|bug| bug.number().is_some()));
    assert!(bugs.is_sorted_by(|one, other| one.number() < other.number()), "two have one number");
    for bug in bugs {
        for file in &bug.files {
            let shipped = file.starts_with(format!("crates/{}/src", bug.package()));
            let shipped = shipped && !file.starts_with("crates/outbox/src/testing");
            assert!(shipped || bug.is_in_stand_in(), "{} changes {}", bug.name, file.display());
        }
    }
}

#[test]
fn a_bug_in_a_stand_in_and_one_in_a_backend_are_known_as_such() {
    let bugs = bugs();
    let called = |name| bugs.iter().find(|bug| bug.is_called(name)).unwrap();
    let seen = |name| (called(name).package(), called(name).is_in_stand_in());
    assert_eq!(seen("old-epoch-accepted"), ("outbox", true));
    assert_eq!(seen("late-row-passed-over"), ("outbox", true));
    assert_eq!(seen("checkpoint-past-a-gap"), ("outbox", false));
    assert_eq!(seen("unfenced-checkpoint"), ("outbox-sql", false));
}

#[test]
fn a_bug_goes_by_its_name_and_by_its_number() {
    let bugs = bugs();
    let first = &bugs[0];
    assert!(first.is_called("01") && first.is_called("checkpoint-past-a-gap") && first.is_called(&first.name));
    assert!(first.is_called("1"), "as the report says it");
    assert!(!first.is_called("02") && !bugs[1].is_called("checkpoint-past-a-gap"));
}

#[test]
fn a_failed_test_is_read_from_what_cargo_says() {
    assert_eq!(failed_test("test pipeline::tests::a_gap ... FAILED"), Some("pipeline::tests::a_gap"));
    assert_eq!(failed_test("test pipeline::tests::a_gap ... ok"), None);
    assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
}

#[test]
fn the_report_counts_what_was_noticed_and_what_was_not() {
    let bug = bugs().remove(0);
    let finding = |caught: Caught| Finding { bug: bug.clone(), caught, took: Duration::from_millis(1500) };
    let what = "checkpoint 12:a0f2f7b8b33177c606f911ab904686e3 is past | it".to_owned();
    let findings = [
        finding(Caught::Simulator { rule: "nothing lost".to_owned(), what, after: 1234 }),
        finding(Caught::Tests(vec!["a::b".to_owned(), "c::d".to_owned(), "e".to_owned()])),
        finding(Caught::Not),
    ];
    let page = markdown(&findings, 20_000, "Made today.");
    let expected = "Of 3 bugs, 0 of them in a stand-in, the simulator notices 1 within 20,000 schedules, the quick \
                    tests 1 more; 1 are not noticed.";
    assert!(page.contains(expected), "{page}");
    assert!(page.contains("-gap | outbox | "), "{page}");
    assert!(page.contains("| **nothing lost**: checkpoint 12 is past \\| it | 1,234 | 1.5 |"), "{page}");
    assert!(page.contains("| tests: `b`, `d` and 1 more | – | 1.5 |"), "{page}");
    assert!(page.contains("| **nothing** | – | 1.5 |"), "{page}");
}

/// A file for what was found, of a test alone.
fn found_of(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("outbox-planted-{test}-{}.json", std::process::id()))
}

fn noticed(bug: &Bug, caught: &Caught) -> Finding {
    Finding { bug: bug.clone(), caught: caught.clone(), took: Duration::from_millis(1500) }
}

#[test]
fn a_run_goes_on_with_what_was_found_in_the_same_tree_only() {
    let (bug, path) = (bugs().remove(0), found_of("tree"));
    let caught = Caught::Simulator { rule: "in order".to_owned(), what: "it".to_owned(), after: 1 };
    let tree = |played| Compiled { played, tested: 1 };
    Found::read(&path, tree(7), 100).keep(&noticed(&bug, &caught)).unwrap();
    let known =
        |played, schedules| Found::read(&path, tree(played), schedules).of(&bug).unwrap().map(|known| known.caught);
    assert_eq!(known(7, 100), Some(caught));
    assert_eq!(known(8, 100), None, "another tree");
    assert_eq!(known(7, 200), None, "more schedules");
    let mut found = Found::read(&path, tree(7), 100);
    assert!(!found.is_sound("outbox"));
    found.keep_sound(&["outbox"].into()).unwrap();
    let sound = |played, package| Found::read(&path, tree(played), 100).is_sound(package);
    assert!(sound(7, "outbox") && !sound(7, "outbox-sql") && !sound(8, "outbox"));
    assert!(known(7, 100).is_some(), "beside what was found");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn where_only_tests_are_others_what_the_simulator_noticed_stands() {
    let (bugs, path) = (bugs(), found_of("tests"));
    let caught = Caught::Simulator { rule: "in order".to_owned(), what: "it".to_owned(), after: 1 };
    let mut found = Found::read(&path, Compiled { played: 7, tested: 1 }, 100);
    found.keep(&noticed(&bugs[0], &caught)).unwrap();
    found.keep(&noticed(&bugs[1], &Caught::Tests(vec!["a::b".to_owned()]))).unwrap();
    found.keep_sound(&["outbox"].into()).unwrap();
    let found = Found::read(&path, Compiled { played: 7, tested: 2 }, 100);
    assert!(found.of(&bugs[0]).unwrap().is_some() && found.of(&bugs[1]).unwrap().is_none());
    assert!(!found.is_sound("outbox"), "tests that are others have to pass anew");
    std::fs::remove_file(&path).unwrap();
}
