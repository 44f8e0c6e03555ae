//! A bookkeeping for which there is no room.

use std::{fs, path::Path, sync::Arc, thread};

use super::{
    arrivals::{assert_whole_and_in_order, duplicates},
    mood::Mood,
    mounts::{Mounts, SMALL, fill},
    rig::{Rig, eventually},
    tally::{FULL_DISK, Tally},
    target::Target,
    world::LOOK,
};

const KEYS: u32 = 20;
/// Commits of this many events each.
const BATCH: u32 = 5;
/// Events that come in one go.
const MANY: u32 = 200;
/// Duplicates that a crash may make: the window, and what the keeper has under way.
const BOUND: usize = 100 + 2;

/// A relay whose bookkeeping is on a small file system, which fills up; it is killed while it waits for room, and
/// another one goes on once there is some.
pub(super) fn play(binary: &Path, folder: &Path) -> Tally {
    let target = Target::new();
    let mood = Arc::new(Mood::default());
    target.set_mood(move |event| mood.answer(event));
    fs::create_dir_all(folder.join("small")).unwrap();
    let config = format!(
        "[relay]\nfailover = '1s'\nbookkeeping = 'small/book'\n\
         [[route]]\nname = 'main'\nwindow = {{ events = 100, key_share = 20 }}\n{}",
        target.sink("concurrency = 4")
    );
    let rig = Rig::new(binary, folder, &config);
    let small = rig.path("small");
    let mounts = Mounts::new(SMALL, &small);
    let mut written = 0;
    let mut write = |count: u32| {
        rig.write(written..written + count, KEYS, BATCH as usize);
        written += count;
        written as usize
    };
    let relay = mounts.relay(&rig);
    target.wait_count(write(MANY));
    let filler = mounts.path(&small.join("filler"));
    fill(&filler);
    eventually("the relay says that the disk is full", || {
        thread::sleep(LOOK);
        write(BATCH);
        let log = relay.log();
        (log.contains("full") && log.contains("make room")).then_some(())
    });
    relay.kill();
    let killed = target.count();
    fs::remove_file(&filler).unwrap();
    let relay = mounts.relay(&rig);
    let all = write(MANY);
    let mut tally = Tally { worlds: 1, deaths: 1, ..Tally::default() };
    eventually("everything is published once there is room", || {
        let arrivals = target.arrivals();
        (arrivals.len() - duplicates(&arrivals, &[]) == all).then_some(())
    });
    let stopped = relay.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    let arrivals = target.arrivals();
    assert_whole_and_in_order(&arrivals, &rig.committed());
    let again = duplicates(&arrivals[killed..], &arrivals[..killed]);
    assert!(again <= BOUND, "{again} came again after the crash, and {BOUND} may");
    tally.committed = all as u64;
    tally.accepted = arrivals.len() as u64;
    tally.duplicates = again as u64;
    tally.note(FULL_DISK);
    tally
}
