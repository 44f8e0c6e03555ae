//! The relay is killed under load, again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use users::Users;

use crate::company::{Company, Reading, until};

const WRITERS: i64 = 8;
const KILLS: usize = 6;
/// Events that a relay publishes at least before it is killed.
const BETWEEN: usize = 60;

/// Creates users and renames them, some of them those of others, until it is told to stop.
async fn write(users: Users, writer: i64, stop: Arc<AtomicBool>) {
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = writer * 1_000 + round % 20;
        if users.create(id, &format!("name {round}")).await.unwrap().is_none() {
            users.rename(id, &format!("name {round}")).await.unwrap();
        }
        // Whom everybody changes.
        if users.create(0, "all").await.unwrap().is_none() {
            users.rename(0, &format!("{writer} {round}")).await.unwrap();
        }
        round += 1;
        // Or the relays never catch up.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn every_event_is_heard(reading: Reading) {
    let company = Company::new(reading).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (1..=WRITERS).map(|writer| tokio::spawn(write(company.users.clone(), writer, stop.clone()))).collect();
    for _ in 0..KILLS {
        let (mails, audited) = (company.mails().len(), company.audited().len());
        let relay = company.relay();
        until("the relay publishes", async || {
            company.mails().len() >= mails + BETWEEN && company.audited().len() >= audited + BETWEEN
        })
        .await;
        relay.kill();
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let relay = company.relay();
    company.all_is_heard().await;
    let ended = relay.stop();
    assert_eq!(ended.code, 0, "{}", ended.err);
    company.is_exact().await;
    // A slot would keep the database.
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
    let session = company.database.session().await;
    until("the slot is free", async || session.batch_execute(drop).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_the_services_own_table_is_heard_in_order_though_the_relay_is_killed() {
    every_event_is_heard(Reading::Mapped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_outboxs_table_is_heard_in_order_though_the_relay_is_killed() {
    every_event_is_heard(Reading::Native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_heard_in_order_though_the_relay_that_reads_the_log_is_killed() {
    every_event_is_heard(Reading::NativeLog).await;
}
