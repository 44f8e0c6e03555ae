//! Many writers at once, each with the worst habits there are, and a reader that is started anew in the middle of pages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use outbox::source::Limit;
use tokio_postgres::Client;

use crate::{
    fixture::Service,
    reader::{PLENTY, Reader},
};

const WRITERS: usize = 10;
const ROUNDS: usize = 60;
/// Keys that all writers share, so that they wait for each other.
const KEYS: usize = 7;

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// One transaction by `writer`. Gives how many entries it committed.
async fn transaction(client: &Client, writer: usize, round: usize, dice: &mut Dice) -> usize {
    // Sorted, or they deadlock.
    let mut keys: Vec<_> = (0..=dice.below(3)).map(|_| dice.below(KEYS)).collect();
    keys.sort_unstable();
    let own = format!("own{writer}");
    let shared: Vec<_> = keys.iter().map(|key| format!("SELECT outbox.write('shared{key}', 't')")).collect();
    let count = keys.len() + 1;
    let (before, after, kept) = match dice.below(8) {
        0 => ("SELECT nextval('outbox.entry_ids');".to_owned(), "COMMIT".to_owned(), count),
        1 => (String::new(), "ROLLBACK".to_owned(), 0),
        2 => (
            format!("SAVEPOINT s; SELECT outbox.write('{own}', 'gone'); ROLLBACK TO s; SAVEPOINT t;"),
            "RELEASE t; COMMIT".to_owned(),
            count,
        ),
        3 => {
            let gid = format!("hostile_{}_{writer}_{round}", std::process::id());
            let end = if dice.below(3) == 0 { "ROLLBACK" } else { "COMMIT" };
            let kept = if end == "COMMIT" { count } else { 0 };
            (String::new(), format!("PREPARE TRANSACTION '{gid}'; {end} PREPARED '{gid}'"), kept)
        }
        4 => ("SELECT pg_current_xact_id(); SELECT pg_sleep(0.02);".to_owned(), "COMMIT".to_owned(), count),
        5 => ("SET LOCAL synchronous_commit = off;".to_owned(), "COMMIT".to_owned(), count),
        6 => (String::new(), "SELECT pg_sleep(0.03); COMMIT".to_owned(), count),
        _ => (String::new(), "COMMIT".to_owned(), count),
    };
    for sql in [&format!("BEGIN; {before}"), &format!("SELECT outbox.write('{own}', 't'); {}", shared.join("; "))] {
        client.batch_execute(sql).await.unwrap();
    }
    for statement in after.split("; ") {
        client.batch_execute(statement).await.unwrap();
    }
    kept
}

async fn write(service: Arc<Service>, writer: usize) -> usize {
    let client = service.session().await;
    let mut dice = Dice(writer as u64 + 1);
    let mut written = 0;
    for round in 0..ROUNDS {
        written += transaction(&client, writer, round, &mut dice).await;
        if dice.below(10) == 0 {
            // A batch without keys, past the function.
            let copy = "INSERT INTO outbox.entries (type) SELECT 't' FROM generate_series(1, 20)";
            client.batch_execute(copy).await.unwrap();
            written += 20;
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_hostile_writers_nothing_is_lost_doubled_or_out_of_order() {
    let service = Arc::new(Service::new().await);
    let is_done = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn({
        let (service, is_done) = (service.clone(), is_done.clone());
        async move {
            let mut reader = Reader::new(service.store().await).await;
            let mut dice = Dice(99);
            loop {
                let was_done = is_done.load(Ordering::Acquire);
                let found = reader.read(Limit { events: 1 + dice.below(40), ..PLENTY }).await.unwrap();
                if found == 0 && was_done {
                    return reader;
                }
                match dice.below(20) {
                    // Killed in the middle of a page: some of it was not checkpointed.
                    0 if found > 2 => {
                        let kept = reader.records.len() - found / 2;
                        reader.records.truncate(kept);
                        reader.position = reader.records[kept - 1].position.clone();
                        reader.store = service.store().await;
                    }
                    _ if found == 0 => tokio::time::sleep(Duration::from_millis(2)).await,
                    _ => {}
                }
            }
        }
    });
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(service.clone(), writer))).collect();
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    is_done.store(true, Ordering::Release);
    let reader = reading.await.unwrap();
    reader.assert_exact();
    let mut unique = reader.came();
    unique.sort();
    unique.dedup();
    assert_eq!((unique.len(), reader.records.len()), (written, written), "each once");
}
