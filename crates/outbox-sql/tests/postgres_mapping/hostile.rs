//! Many writers at once into a mapped table, each with the worst habits there are: nothing is lost, nothing comes twice.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use outbox::{BusinessStore, source::Limit};

use crate::{fixture::Service, reader::Reader};

const WRITERS: usize = 8;
const ROUNDS: usize = 60;

/// The transactions of one writer. Gives the types that it committed.
async fn write(service: Arc<Service>, writer: usize) -> Vec<String> {
    let client = service.database.session().await;
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("{writer}.{round}");
        let insert = format!("INSERT INTO Outbox (EventType, Payload) VALUES ('{name}', '{{}}')");
        let sql = match (round + writer) % 7 {
            0 => format!("BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep(0.01); {insert}; COMMIT"),
            // An id that is drawn long before it is used.
            1 => format!(
                "BEGIN; CREATE TEMP TABLE drawn ON COMMIT DROP AS SELECT nextval('outbox_id_seq') AS id; SELECT pg_sleep(0.02); \
                 INSERT INTO Outbox (Id, EventType) SELECT id, '{name}' FROM drawn; COMMIT"
            ),
            2 => format!("BEGIN; {insert}; ROLLBACK"),
            3 => format!("BEGIN; SAVEPOINT s; {insert}; ROLLBACK TO s; {insert}; COMMIT"),
            4 => {
                let gid = format!("mapped_{}_{name}", std::process::id());
                format!("BEGIN; {insert}; PREPARE TRANSACTION '{gid}'; SELECT pg_sleep(0.01); COMMIT PREPARED '{gid}'")
            }
            5 => format!("BEGIN; SET LOCAL synchronous_commit = off; {insert}; SELECT pg_sleep(0.01); COMMIT"),
            _ => insert,
        };
        for statement in sql.split("; ") {
            client.batch_execute(statement).await.unwrap();
        }
        if (round + writer) % 7 != 2 {
            kept.push(name);
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_whatever_writers_do() {
    let service = Arc::new(Service::of_seed().await.prepared().await);
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(service.clone(), writer))).collect();
    let done = Arc::new(AtomicBool::new(false));
    let reading = {
        let (service, done) = (service.clone(), done.clone());
        tokio::spawn(async move {
            let mut reader = service.reader().await;
            loop {
                let was_done = done.load(Ordering::SeqCst);
                let found = reader.read(Limit { events: 7, bytes: 1 << 20 }).await.unwrap();
                reader.store.keep_status(&reader.position).await.unwrap();
                if found == 0 && was_done {
                    return reader;
                }
                // As a relay that is killed in the middle of a page.
                if reader.records.len() % 5 == 0 {
                    reader = Reader { store: service.store().await, ..reader };
                }
            }
        })
    };
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    let reader = reading.await.unwrap();
    let came: Vec<_> = crate::fixture::types(&reader);
    assert_eq!(came.len(), written.len(), "none twice");
    assert_eq!(came.into_iter().collect::<BTreeSet<_>>(), written);
}
