//! Databases that are locked, or of another version.

use crate::{
    arrivals::assert_whole_and_in_order,
    rig::{Rig, eventually},
    target::Target,
};

#[test]
fn a_database_that_another_connection_holds_locked_is_waited_for() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    rig.write(0..100, 10, 10);
    let lock = rig.database();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // It has to write its claim before it may read.
    let relay = rig.relay();
    eventually("the relay says that it is locked", || relay.log().contains("locked").then_some(()));
    assert_eq!(target.count(), 0);
    lock.execute_batch("ROLLBACK").unwrap();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_writer_that_takes_its_time_does_not_hold_up_the_relay() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    rig.write(0..10, 10, 10);
    let relay = rig.relay();
    rig.wait_published();
    rig.write(10..500, 10, 10);
    // A long transaction of the service: its entries come when it commits, all others are published meanwhile.
    let mut connection = rig.database();
    let open = connection.transaction().unwrap();
    open.execute("INSERT INTO outbox (key, type, data) VALUES ('slow', 'order.placed', '1')", []).unwrap();
    rig.wait_published();
    assert!(target.arrivals().iter().all(|arrival| !arrival.is_of("slow")));
    open.commit().unwrap();
    eventually("it comes after its commit", || target.arrivals().last().filter(|last| last.is_of("slow")).map(drop));
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    assert_whole_and_in_order(&target.arrivals(), &rig.committed());
}

#[test]
fn a_bookkeeping_that_another_connection_holds_locked_is_waited_for_and_nothing_is_lost() {
    let target = Target::new();
    let rig = Rig::new(&target.route("window = { events = 200, key_share = 100 }\n"));
    rig.write(0..100, 10, 10);
    let relay = rig.relay();
    rig.wait_published();
    let lock = rusqlite::Connection::open(rig.path("orders.db.relay")).unwrap();
    lock.busy_timeout(crate::rig::PATIENCE).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.write(100..1_000, 10, 10);
    eventually("the relay says that it is locked", || relay.log().contains("locked").then_some(()));
    lock.execute_batch("ROLLBACK").unwrap();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
    let arrivals = target.arrivals();
    assert_whole_and_in_order(&arrivals, &rig.committed());
    let again = crate::arrivals::duplicates(&arrivals, &[]);
    assert!(again <= 200, "{again} duplicates, and the window is 200");
}

#[test]
fn a_database_that_a_newer_version_has_upgraded_stops_a_running_relay_too() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    rig.write(0..10, 5, 10);
    let relay = rig.relay();
    rig.wait_published();
    rig.database().execute_batch("UPDATE outbox_meta SET layout = 99").unwrap();
    rig.database().execute_batch("INSERT INTO outbox (key, type, data) VALUES ('a', 'order.placed', '1')").unwrap();
    let ended = relay.end();
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.said().contains("layout 99") && ended.said().contains("upgrade this program"), "{}", ended.err);
    assert_eq!(target.count(), 10, "what it may not understand it does not publish");
    let again = rig.outbox(&["relay"]);
    assert_eq!(again.code, 1);
    assert!(again.said().contains("upgrade this program"), "{}", again.err);
    rig.database().execute_batch("UPDATE outbox_meta SET layout = 1").unwrap();
    let relay = rig.relay();
    rig.wait_published();
    assert_eq!(relay.stop().code, 0);
}

#[test]
fn a_bookkeeping_of_a_newer_version_is_left_alone() {
    let target = Target::new();
    let rig = Rig::new(&target.route(""));
    let bookkeeping = rusqlite::Connection::open(rig.path("orders.db.relay")).unwrap();
    bookkeeping.pragma_update(None, "user_version", 99).unwrap();
    for command in ["relay", "status", "check"] {
        let ran = rig.outbox(&[command]);
        assert_eq!(ran.code, 1, "{command}: {ran:?}");
        assert!(ran.said().contains("layout 99") && ran.said().contains("upgrade this program"), "{command}: {ran:?}");
    }
}
