use outbox::{CommitId, Content, Position, Undecodable};

use super::*;

const ALL: Limit = Limit { events: 100, bytes: 1 << 20 };

fn record() -> Record {
    let raw = bytes::Bytes::new();
    let undecodable = Undecodable { id: "row".into(), key: None, reason: String::new(), raw };
    Record {
        position: Position::new(""),
        commit: CommitId([0; 16]),
        recorded: jiff::Timestamp::UNIX_EPOCH,
        content: Content::Undecodable(undecodable),
    }
}

fn transaction(buffer: &mut Buffer, commit: u64, xid: u32, rows: usize) -> Result<(), Gone> {
    buffer.begin(Lsn(commit), xid)?;
    for _ in 0..rows {
        if let Some(at) = buffer.next_row() {
            buffer.row(at, record());
        }
    }
    buffer.commit(Lsn(commit + 8))
}

fn at(lsn: u64, number: u64, xid: u64) -> Place {
    Place { lsn: Lsn(lsn), number, xid, timeline: 1 }
}

#[test]
fn rows_come_in_the_order_of_the_commits_from_any_place_on() {
    let mut buffer = Buffer::new(Place::BEGINNING, 1, 10);
    transaction(&mut buffer, 100, 12, 2).unwrap();
    transaction(&mut buffer, 200, 11, 1).unwrap();
    let page = buffer.page(0, ALL).unwrap();
    let names: Vec<_> = page.records.iter().map(|record| record.position.to_string()).collect();
    assert_eq!(names, ["1.12@0~1/1/64", "2.12@0~2/1/64", "1.11@0~1/1/C8"]);
    assert_eq!(buffer.find(at(100, 1, 12)), Some(1));
    assert_eq!(buffer.find(Place::before(Lsn(150), 1)), Some(2));
    assert_eq!(buffer.find(Place::before(Lsn(209), 1)), None, "it has not come so far");
    assert_eq!(buffer.find(at(100, 1, 13)), None, "that was another transaction");
    assert_eq!(buffer.find(at(100, 3, 12)), None, "it has no third row");
    assert!(buffer.page(3, ALL).is_none() && buffer.is_end(3));
}

#[test]
fn what_was_read_before_is_passed_over_and_proves_the_log() {
    let mut buffer = Buffer::new(at(100, 1, 12), 1, 10);
    assert!(buffer.is_to_prove());
    transaction(&mut buffer, 100, 12, 3).unwrap();
    assert!(!buffer.is_to_prove());
    assert_eq!(buffer.page(0, ALL).unwrap().records.len(), 2);
}

#[test]
fn another_log_is_noticed() {
    let fresh = || Buffer::new(at(100, 2, 12), 1, 10);
    assert_eq!(transaction(&mut fresh(), 100, 13, 2), Err(Gone), "another transaction");
    assert_eq!(transaction(&mut fresh(), 100, 12, 1), Err(Gone), "fewer rows");
    assert_eq!(transaction(&mut fresh(), 101, 12, 2), Err(Gone), "none there");
    assert_eq!(fresh().come_to(Lsn(101)), Err(Gone), "nothing there");
    assert_eq!(fresh().come_to(Lsn(100)), Ok(()));
}

#[test]
fn numbers_are_whole_beyond_their_lower_half() {
    let mut buffer = Buffer::new(Place::BEGINNING, 1, (3 << 32) | 5);
    transaction(&mut buffer, 100, u32::MAX, 1).unwrap();
    transaction(&mut buffer, 200, 7, 1).unwrap();
    let (_, first) = buffer.behind(0);
    assert_eq!(first.unwrap().position.record(), format!("1.{}", (2_u64 << 32) | u64::from(u32::MAX)));
    let (_, second) = buffer.behind(1);
    assert_eq!(second.unwrap().position.record(), format!("1.{}", (3_u64 << 32) | 7));
}

#[test]
fn what_nobody_can_see_yet_waits() {
    let mut buffer = Buffer::new(Place::BEGINNING, 1, 10);
    transaction(&mut buffer, 100, 12, 1).unwrap();
    buffer.gate(Some(Snapshot::new(12, [])));
    assert!(buffer.page(0, ALL).is_none());
    buffer.gate(Some(Snapshot::new(13, [])));
    assert_eq!(buffer.page(0, ALL).unwrap().records.len(), 1);
}

#[test]
fn what_was_read_out_is_kept_for_a_while_and_then_let_go_of() {
    let mut buffer = Buffer::new(Place::BEGINNING, 1, 10);
    for number in 0..u32::try_from(MOST_RECORDS).unwrap() + 10 {
        transaction(&mut buffer, 100 + u64::from(number) * 10, 12 + number, 1).unwrap();
    }
    assert!(buffer.is_full());
    let end = buffer.records.len();
    let last = buffer.records.back().unwrap().place;
    assert!(buffer.page(end, ALL).is_none());
    assert!(!buffer.is_full() && buffer.base() > Place::BEGINNING);
    assert_eq!(buffer.find(last), Some(buffer.records.len()));
    assert_eq!(buffer.find(Place::BEGINNING), None);
}
