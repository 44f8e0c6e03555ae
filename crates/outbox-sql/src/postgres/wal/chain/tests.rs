use outbox::{CommitId, Content, Undecodable};
use proptest::prelude::*;

use super::*;

const PLENTY: Limit = Limit { events: 1000, bytes: 1 << 30 };

fn record(id: i64) -> Record {
    let undecodable =
        Undecodable { id: format!("row/{id}").into(), key: None, reason: String::new(), raw: bytes::Bytes::new() };
    Record {
        position: Position::new(""),
        commit: CommitId([0; 16]),
        recorded: jiff::Timestamp::UNIX_EPOCH,
        content: Content::Undecodable(undecodable),
    }
}

/// The position where all that came was read.
fn end(chain: &Chain) -> Position {
    resting(&chain.passed, chain.log)
}

fn id_of(record: &Record) -> i64 {
    match &record.content {
        Content::Undecodable(row) => row.id.trim_start_matches("row/").parse().unwrap(),
        Content::Events(_) => panic!("this is no record of these tests"),
    }
}

fn ids(page: &Page) -> Vec<i64> {
    page.records.iter().map(|record| id_of(record)).collect()
}

fn chain(xmax: u64, running: &[u64]) -> Chain {
    Chain::new(Snapshot::new(xmax, running.iter().copied()), LogPlace { timeline: 1, lsn: 0 }, xmax)
}

fn transaction(chain: &mut Chain, xid: u32, rows: &[i64]) {
    chain.begin(Lsn(u64::from(xid) * 10), xid);
    for id in rows {
        chain.row(*id, record(*id));
    }
    chain.commit(Lsn(u64::from(xid) * 10 + 1));
}

fn page(chain: &mut Chain, after: &Position, limit: Limit) -> Page {
    match chain.find(after, limit).unwrap() {
        Found::Page(page) => page,
        other => panic!("{after}: {other:?}"),
    }
}

#[test]
fn rows_come_in_the_order_of_the_commits_with_positions_that_hold_in_the_table() {
    let mut chain = chain(10, &[7]);
    let base = end(&chain);
    transaction(&mut chain, 12, &[1, 2]);
    transaction(&mut chain, 7, &[3]);
    let page = page(&mut chain, &base, PLENTY);
    assert_eq!(ids(&page), [1, 2, 3]);
    let texts: Vec<_> = page.records.iter().map(|record| record.position.as_str()).collect();
    assert_eq!(texts, ["1.12@10-3~1/1/78", "2.12@10-3~2/1/78", "3.7@13-2.1.3~1/1/79"]);
    assert!(matches!(chain.find(&page.next, PLENTY), Ok(Found::End(_))));
    assert_eq!(end(&chain).as_str(), "@13-2.1~0/1/79");
}

#[test]
fn what_the_beginning_sees_does_not_come() {
    let mut chain = chain(10, &[7]);
    let base = end(&chain);
    transaction(&mut chain, 9, &[1]);
    assert!(matches!(chain.find(&base, PLENTY), Ok(Found::End(_))));
}

#[test]
fn a_page_holds_to_its_limit_and_gives_one_record_at_least() {
    let mut chain = chain(10, &[]);
    let base = end(&chain);
    transaction(&mut chain, 12, &[1, 2, 3]);
    let first = page(&mut chain, &base, Limit { events: 0, bytes: 0 });
    assert_eq!((ids(&first), first.more), (vec![1], true));
    let rest = page(&mut chain, &first.next, Limit { events: 2, ..PLENTY });
    assert_eq!((ids(&rest), rest.more), (vec![2, 3], false));
    let again = page(&mut chain, &base, PLENTY);
    assert_eq!(ids(&again), [1, 2, 3], "reading consumes nothing");
}

#[test]
fn rows_whose_ids_do_not_rise_are_told_by_their_number() {
    let mut chain = chain(10, &[]);
    let base = end(&chain);
    transaction(&mut chain, 12, &[5, 4, 6]);
    let page = page(&mut chain, &base, PLENTY);
    let numbers: Vec<_> =
        page.records.iter().map(|record| Standing::parse(&record.position).unwrap().reading).collect();
    let inside = |id, number| Reading::Log { inside: Some((Row { id, xid: 12 }, number)) };
    assert_eq!(numbers, [inside(5, 1), inside(4, UNORDERED + 2), inside(6, UNORDERED + 3)]);
}

#[test]
fn what_waits_for_a_standby_is_not_given_out() {
    let mut chain = chain(10, &[]);
    let base = end(&chain);
    chain.gate(Some(Snapshot::new(11, [])));
    transaction(&mut chain, 10, &[1]);
    transaction(&mut chain, 12, &[2]);
    let first = page(&mut chain, &base, PLENTY);
    assert_eq!((ids(&first), first.more), (vec![1], false));
    assert!(chain.is_held_back());
    chain.gate(Some(Snapshot::new(14, [12])));
    transaction(&mut chain, 13, &[3]);
    assert!(chain.is_held_back(), "though a later commit waits for nobody");
    chain.gate(Some(Snapshot::new(14, [])));
    assert_eq!(ids(&page(&mut chain, &first.next, PLENTY)), [2, 3]);
    assert!(!chain.is_held_back());
}

#[test]
fn a_chain_that_is_full_has_room_again_once_it_is_read_or_let_go_of() {
    let mut chain = chain(10, &[]);
    let mut base = end(&chain);
    let rows: Vec<_> = (1..=i64::try_from(MOST_RECORDS).unwrap()).collect();
    chain.begin(Lsn(5), 12);
    for id in &rows {
        chain.row(*id, record(*id));
    }
    assert!(chain.is_full());
    base = page(&mut chain, &base, PLENTY).next;
    assert!(chain.is_full(), "what was given out may be asked for again");
    page(&mut chain, &base, PLENTY);
    assert!(!chain.is_full());
    chain.clear();
    assert!(!chain.wants_rows(), "the rest of the transaction is in the table");
    let Ok(Found::Elsewhere(target)) = chain.find(&base, PLENTY) else { panic!("it is not here any more") };
    assert!(target.to.sees(12));
}

/// What happens next, in the test below.
#[derive(Clone, Debug)]
enum Step {
    /// The next change comes from the log.
    Stream,
    /// All that was committed so far is known to have come.
    Pass,
    /// Nobody reads, and the server holds too much.
    Clear,
    /// A reader reads.
    Read { reader: usize, events: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Stream),
        1 => Just(Step::Pass),
        1 => Just(Step::Clear),
        6 => (0..3_usize, 1..5_usize).prop_map(|(reader, events)| Step::Read { reader, events }),
    ];
    prop::collection::vec(step, 0..200)
}

#[derive(Clone, Debug)]
enum Message {
    Begin(u32, u64),
    Row(i64),
    Commit(u64),
}

/// The server: what was committed, in order, and what of it was streamed.
struct Server {
    committed: Vec<(u32, Vec<i64>)>,
    messages: std::vec::IntoIter<Message>,
    streamed: usize,
}

impl Server {
    fn new(committed: Vec<(u32, Vec<i64>)>, confirmed: usize) -> Self {
        let messages = committed.iter().zip(0_u64..).skip(confirmed).flat_map(|((xid, rows), index)| {
            let rows = rows.iter().map(|id| Message::Row(*id));
            let begin = Message::Begin(*xid, index * 10 + 5);
            std::iter::once(begin).chain(rows).chain([Message::Commit(index * 10 + 9)])
        });
        let messages: Vec<_> = messages.collect();
        Self { committed, messages: messages.into_iter(), streamed: confirmed }
    }

    /// What is seen when so many have committed.
    fn snapshot(&self, commits: usize) -> Snapshot {
        let seen: Vec<u64> = self.committed[..commits].iter().map(|(xid, _)| u64::from(*xid)).collect();
        let xmax = seen.iter().max().map_or(3, |highest| highest + 1);
        Snapshot::new(xmax, (3..xmax).filter(|xid| !seen.contains(xid)))
    }

    /// Reads the table behind `standing`, as polling does: by id, what `to` sees and was not read.
    fn poll(&self, standing: &Standing, to: &Snapshot, last: i64, events: usize) -> (Vec<i64>, Standing) {
        let rows =
            self.committed.iter().flat_map(|(xid, rows)| rows.iter().map(|id| Row { id: *id, xid: u64::from(*xid) }));
        let unread = |row: &Row| row.id > last && to.sees(row.xid) && !standing.passed.sees(row.xid);
        let mut rows: Vec<_> = rows.filter(unread).collect();
        rows.sort_by_key(|row| row.id);
        let next = match rows.get(events - 1) {
            Some(row) if rows.len() > events => {
                let reading = Reading::Range { to: to.clone(), last: Some(*row), then: None };
                Standing { passed: standing.passed.clone(), reading, log: standing.log }
            }
            _ => Standing::at_rest(to.clone(), standing.log),
        };
        (rows.into_iter().take(events).map(|row| row.id).collect(), next)
    }
}

/// Reads as a relay's route does.
fn read(chain: &mut Chain, server: &Server, after: &mut Position, events: usize) -> Vec<i64> {
    let limit = Limit { events, ..PLENTY };
    let standing = Standing::parse(after).unwrap();
    let target = match chain.find(after, limit).unwrap() {
        Found::Page(page) => {
            *after = page.next.clone();
            return ids(&page);
        }
        Found::End(_) => return Vec::new(),
        Found::Unknown => {
            chain.know(after.clone());
            return read(chain, server, after, events);
        }
        Found::Elsewhere(target) => target,
    };
    let (to, last) = match &standing.reading {
        Reading::Range { to, last, .. } => (to.clone(), last.map_or(i64::MIN, |last| last.id)),
        Reading::Log { inside: Some((row, rows)) } => {
            let (_, all) = server.committed.iter().find(|(xid, _)| u64::from(*xid) == row.xid).unwrap();
            let lower = all.iter().filter(|id| **id <= row.id).count();
            let last = if lower as u64 == *rows { row.id } else { i64::MIN };
            (standing.passed.and(row.xid), last)
        }
        Reading::Rest | Reading::Log { inside: None } => (target.to.seen_by_either(&standing.passed), i64::MIN),
    };
    let (rows, next) = server.poll(&standing, &to, last, events);
    *after = next.position();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn whoever_reads_gets_each_row_once_wherever_it_was_and_whatever_happens(
        order in Just((3_u32..15).collect::<Vec<_>>()).prop_shuffle(),
        sizes in prop::collection::vec(0..4_usize, 12),
        kept in 6..12_usize,
        confirmed in 0..6_usize,
        seen in 0..6_usize,
        starts in prop::collection::vec(0..6_usize, 3),
        steps in steps(),
    ) {
        // Some numbers are of transactions that never commit.
        let mut next_id = 0;
        let committed: Vec<(u32, Vec<i64>)> = order.into_iter().zip(sizes).take(kept).map(|(xid, size)| {
            let ids: Vec<i64> = (next_id + 1..).take(size).collect();
            next_id += i64::try_from(size).unwrap();
            (xid, ids)
        }).collect();
        // The slot gives what was committed since it was confirmed; the chain begins with what can be seen later.
        let (confirmed, seen) = (confirmed.min(confirmed + seen), (confirmed + seen).min(kept));
        let mut server = Server::new(committed.clone(), confirmed);
        let mut chain = Chain::new(server.snapshot(seen), LogPlace::default(), 3);
        let mut readers: Vec<(Position, Vec<i64>, usize)> = starts.iter().map(|start| {
            let passed = server.snapshot((*start).min(kept));
            (Standing::at_rest(passed, LogPlace::default()).position(), Vec::new(), (*start).min(kept))
        }).collect();
        let stream = |chain: &mut Chain, server: &mut Server| {
            match server.messages.next() {
                Some(Message::Begin(xid, commit)) => chain.begin(Lsn(commit), xid),
                Some(Message::Row(id)) => { chain.row(id, record(id)); }
                Some(Message::Commit(end)) => { chain.commit(Lsn(end)); server.streamed += 1; }
                None => return false,
            }
            true
        };
        for step in steps {
            match step {
                Step::Stream => { stream(&mut chain, &mut server); }
                Step::Pass => chain.pass(&server.snapshot(server.streamed)),
                Step::Clear => chain.clear(),
                Step::Read { reader, events } => {
                    let (position, got, _) = &mut readers[reader];
                    got.extend(read(&mut chain, &server, position, events));
                }
            }
        }
        while stream(&mut chain, &mut server) {}
        for (position, got, start) in &mut readers {
            for _ in 0..100 {
                got.extend(read(&mut chain, &server, position, 3));
            }
            // Ids rise with the commits here, as they do within a key.
            let expected: Vec<i64> = committed[*start..].iter().flat_map(|(_, rows)| rows.clone()).collect();
            prop_assert_eq!(&*got, &expected);
        }
    }
}
