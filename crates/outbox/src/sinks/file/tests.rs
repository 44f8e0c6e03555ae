use std::fs;

use super::*;
use crate::{EventRef, cloudevents::json, testing_event};

fn batch(numbers: std::ops::RangeInclusive<u64>) -> Batch {
    let events = numbers.map(|n| EventRef::single(testing_event("t", Some("k"), n))).collect();
    Batch { events, gapless: true, replay: None }
}

fn ids(path: &Path) -> Vec<String> {
    let content = fs::read(path).unwrap();
    let lines = content.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| json::decode(line.strip_suffix(b"\n").unwrap()).unwrap().id().to_owned()).collect()
}

struct Place {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place { path: directory.path().join("events.jsonl"), _directory: directory }
}

#[tokio::test]
async fn every_event_of_a_call_is_a_line_in_order() {
    let place = place();
    let sink = FileSink::open(&place.path).unwrap();
    assert_eq!(sink.publish(&batch(1..=2)).await.unwrap(), vec![Outcome::Accepted; 2]);
    sink.publish(&batch(3..=3)).await.unwrap();
    assert_eq!(ids(&place.path), ["k@1.1.0", "k@1.2.0", "k@1.3.0"]);
}

#[tokio::test]
async fn a_file_opened_again_is_appended_to() {
    let place = place();
    FileSink::open(&place.path).unwrap().publish(&batch(1..=1)).await.unwrap();
    FileSink::open(&place.path).unwrap().publish(&batch(2..=2)).await.unwrap();
    assert_eq!(ids(&place.path), ["k@1.1.0", "k@1.2.0"]);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_at_open() {
    let place = place();
    FileSink::open(&place.path).unwrap().publish(&batch(1..=2)).await.unwrap();
    let whole = fs::read(&place.path).unwrap();
    fs::write(&place.path, &whole[..whole.len() - 10]).unwrap();
    let sink = FileSink::open(&place.path).unwrap();
    assert_eq!(ids(&place.path), ["k@1.1.0"]);
    sink.publish(&batch(2..=2)).await.unwrap();
    assert_eq!(fs::read(&place.path).unwrap(), whole);
}

#[test]
fn a_torn_line_that_is_the_whole_file_is_cut_off() {
    let place = place();
    fs::write(&place.path, br#"{"specversion":"1.0","id"#).unwrap();
    FileSink::open(&place.path).unwrap();
    assert_eq!(fs::read(&place.path).unwrap(), b"");
}

#[test]
fn a_torn_line_longer_than_a_block_is_cut_off() {
    let place = place();
    // The line's first byte is the first of the last whole block read.
    for filler in [100_000, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1] {
        let torn = format!("{{\"a\":1}}\n{{{}", "x".repeat(filler));
        fs::write(&place.path, torn).unwrap();
        FileSink::open(&place.path).unwrap();
        assert_eq!(fs::read(&place.path).unwrap(), b"{\"a\":1}\n", "{filler}");
    }
}

#[test]
fn zeros_that_a_crash_left_are_cut_off() {
    let place = place();
    fs::write(&place.path, b"{}\n\0\0\0\0").unwrap();
    FileSink::open(&place.path).unwrap();
    assert_eq!(fs::read(&place.path).unwrap(), b"{}\n");
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let place = place();
    fs::write(&place.path, b"dear diary\nno line break").unwrap();
    assert!(matches!(FileSink::open(&place.path), Err(FileSinkError::Foreign { .. })));
    assert_eq!(fs::read(&place.path).unwrap(), b"dear diary\nno line break");
}

#[test]
fn a_second_writer_is_refused() {
    let place = place();
    let first = FileSink::open(&place.path).unwrap();
    let error = FileSink::open(&place.path).unwrap_err();
    assert!(matches!(error, FileSinkError::Locked { .. }), "{error}");
    drop(first);
    FileSink::open(&place.path).unwrap();
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let place = place();
    let error = FileSink::open(place.path.join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("the directory has to exist"), "{error}");
}

#[test]
fn a_directory_is_no_file() {
    let place = place();
    let error = FileSink::open(place.path.parent().unwrap()).unwrap_err();
    assert!(matches!(error, FileSinkError::NotAFile { .. }), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn after_the_file_was_renamed_events_go_to_a_new_one() {
    let place = place();
    let sink = FileSink::open(&place.path).unwrap();
    sink.publish(&batch(1..=1)).await.unwrap();
    let rotated = place.path.with_extension("1");
    fs::rename(&place.path, &rotated).unwrap();
    sink.publish(&batch(2..=2)).await.unwrap();
    assert_eq!((ids(&rotated), ids(&place.path)), (vec!["k@1.1.0".to_owned()], vec!["k@1.2.0".to_owned()]));
}

#[cfg(unix)]
#[tokio::test]
async fn a_removed_directory_is_the_sinks_fault_and_nothing_is_accepted() {
    let place = place();
    let sink = FileSink::open(&place.path).unwrap();
    fs::remove_dir_all(place.path.parent().unwrap()).unwrap();
    let error = sink.publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
    assert_eq!(sink.check().await.unwrap_err().fault, Fault::Sink);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_the_sinks_fault_and_says_what_to_do() {
    let path: Arc<Path> = Path::new("/dev/full").into();
    let full = File::options().append(true).open(&path).unwrap();
    let writer = Writer { path, journal: Journal::new(full) };
    let sink = FileSink::on(writer);
    let error = sink.publish(&batch(1..=1)).await.unwrap_err();
    assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
    assert!(error.message.contains("no room") && error.message.contains("free some"), "{error}");
}

/// A pipe that nobody reads, in place of a mount that hangs.
#[cfg(target_os = "linux")]
#[test]
fn behind_a_write_that_hangs_calls_fail_and_no_further_thread_waits() {
    use std::os::fd::{AsRawFd, OwnedFd};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let pipe = File::from(OwnedFd::from(writer));
    let path: Arc<Path> = PathBuf::from(format!("/proc/self/fd/{}", pipe.as_raw_fd())).into();
    let sink = FileSink::on(Writer { path: Arc::clone(&path), journal: Journal::new(pipe) });
    // More than any pipe holds.
    let large = batch(1..=50_000);
    runtime.block_on(async {
        let dropped = tokio::time::timeout(std::time::Duration::from_millis(1), sink.publish(&large)).await;
        assert!(dropped.is_err(), "the pipe took everything");
        for _ in 0..3 {
            let error = sink.publish(&batch(1..=1)).await.unwrap_err();
            assert_eq!((error.fault, error.uncertain), (Fault::Sink, false));
            assert!(error.message.contains("has not ended"), "{error}");
        }
        assert_eq!(sink.check().await.unwrap_err().fault, Fault::Sink);
    });
    // Waits for the runtime's threads; the test would not end.
    drop(runtime);
    drop(reader);
}

#[tokio::test]
async fn a_sink_whose_file_is_there_passes_its_check() {
    let place = place();
    let sink = FileSink::open(&place.path).unwrap();
    sink.check().await.unwrap();
    assert_eq!(fs::read(&place.path).unwrap(), b"");
}

#[test]
fn checking_a_path_makes_and_mends_nothing() {
    let place = place();
    assert!(!FileSink::check_path(&place.path).unwrap());
    assert!(!place.path.exists());
    let torn = br#"{"specversion":"1.0","id"#;
    fs::write(&place.path, torn).unwrap();
    assert!(FileSink::check_path(&place.path).unwrap());
    assert_eq!(fs::read(&place.path).unwrap(), torn);
}

#[test]
fn checking_a_path_finds_what_opening_it_would() {
    let place = place();
    let error = FileSink::check_path(place.path.join("below")).unwrap_err();
    assert!(matches!(error, FileSinkError::Open { .. }), "{error}");
    let error = FileSink::check_path(place.path.parent().unwrap()).unwrap_err();
    assert!(matches!(error, FileSinkError::NotAFile { .. }), "{error}");
    fs::write(&place.path, "shopping list").unwrap();
    let error = FileSink::check_path(&place.path).unwrap_err();
    assert!(matches!(error, FileSinkError::Foreign { .. }), "{error}");
    fs::remove_file(&place.path).unwrap();
    let _sink = FileSink::open(&place.path).unwrap();
    let error = FileSink::check_path(&place.path).unwrap_err();
    assert!(matches!(error, FileSinkError::Locked { .. }), "{error}");
}
