//! Disks that are full or may not be written to.
//!
//! A full disk and a read-only one need a file system of the test's own, in a mount namespace that ends with the test.
//! Any user may make one where user namespaces are allowed, as they are by default.

use proof::crashes::mounts::{Mounts, SMALL, fill};

use crate::{
    arrivals::assert_whole_and_in_order,
    rig::{Rig, eventually},
    target::Target,
};

#[test]
fn a_bookkeeping_on_a_full_disk_is_said_clearly_and_nothing_is_lost() {
    let target = Target::new();
    let relay = "[relay]\nfailover = '1s'\nbookkeeping = 'small/book'\n";
    let rig = Rig::with_folder("small", &format!("{relay}{}", target.route("")));
    let small = rig.path("small");
    let mounts = Mounts::new(SMALL, &small);
    rig.write(0..300, 30, 20);
    let mut relay = mounts.relay(&rig);
    target.wait_count(300);

    let filler = mounts.path(&small.join("filler"));
    fill(&filler);
    let mut written = 300;
    eventually("the relay says that the disk is full", || {
        rig.write(written..written + 20, 30, 20);
        written += 20;
        let log = relay.log();
        (log.contains("full") && log.contains("make room")).then_some(())
    });
    // Long enough for its lease to run out.
    eventually("it owns the source no more", || relay.log().contains("standing by").then_some(()));
    rig.write(written..written + 300, 30, 20);
    assert!(relay.runs(), "it waits for room: {}", relay.log());

    std::fs::remove_file(&filler).unwrap();
    eventually("everything is published once there is room", || {
        let distinct: std::collections::BTreeSet<_> = target.arrivals().into_iter().map(|a| a.id).collect();
        (distinct.len() == written as usize + 300).then_some(())
    });
    rig.write(written + 300..written + 400, 30, 20);
    eventually("and so is what comes later", || {
        let distinct: std::collections::BTreeSet<_> = target.arrivals().into_iter().map(|a| a.id).collect();
        (distinct.len() == written as usize + 400).then_some(())
    });
    let stopped = relay.stop();
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
    // What was published before the end is in a checkpoint by now.
    let published = target.count();
    let relay = mounts.relay(&rig);
    rig.write(written + 400..written + 401, 30, 1);
    target.wait_count(published + 1);
    assert_eq!(relay.stop().code, 0);
    assert_eq!(target.count(), published + 1, "nothing again");
}

#[test]
fn a_relay_started_on_a_full_disk_names_the_disk_and_starts_once_there_is_room() {
    let target = Target::new();
    let rig = Rig::with_folder("small", &target.route(""));
    rig.write(0..200, 20, 20);
    rig.back_up("filled.db");
    let committed = rig.committed();
    let small = rig.path("small");
    let mounts = Mounts::new(SMALL, &small);
    // Nobody has this copy open while it is made.
    std::fs::copy(rig.path("filled.db"), mounts.path(&small.join("orders.db"))).unwrap();
    let text = std::fs::read_to_string(rig.path("outbox.toml")).unwrap();
    std::fs::write(rig.path("outbox.toml"), text.replace("'orders.db'", "'small/orders.db'")).unwrap();
    let filler = mounts.path(&small.join("filler"));
    fill(&filler);
    let output = mounts.command(&rig, &["relay"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("orders.db") && said.contains("room"), "{said}");

    std::fs::remove_file(&filler).unwrap();
    let relay = mounts.relay(&rig);
    target.wait_count(200);
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &committed);
}

#[test]
fn a_read_only_database_or_bookkeeping_is_named_with_the_remedy() {
    const READ_ONLY: &str = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let target = Target::new();
    let config = format!("[relay]\nbookkeeping = 'books/book'\n{}", target.route(""));
    let rig = Rig::with_folder("books", &config);
    rig.write(0..10, 5, 10);
    for (folder, file) in [(rig.folder().to_owned(), "orders.db"), (rig.path("books"), "book")] {
        let mounts = Mounts::new(READ_ONLY, &folder);
        let output = mounts.command(&rig, &["relay"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(file) && said.contains("right"), "{said}");
    }
    assert_eq!(target.count(), 0, "without a lease nothing is published");
    let relay = rig.relay();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
}
