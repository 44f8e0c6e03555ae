//! The relay is killed under load, again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use users::Users;

use crate::company::{Company, Reading, WINDOW, is_exact_of, is_whole, log_is_read, repeats_at_most, until};

const WRITERS: i64 = 8;
const KILLS: usize = 6;
/// Events that a relay publishes at least before it is killed.
const BETWEEN: usize = 400;

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
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Writers at work, and what stops them.
fn writers(company: &Company) -> (Vec<JoinHandle<()>>, Arc<AtomicBool>) {
    let stop = Arc::new(AtomicBool::new(false));
    let writing = (1..=WRITERS).map(|writer| tokio::spawn(write(company.users.clone(), writer, stop.clone())));
    (writing.collect(), stop)
}

/// A slot would keep the database.
async fn drop_slots(company: &Company) {
    let drop =
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
    let session = company.database.session().await;
    until("the slot is free", async || session.batch_execute(drop).await.is_ok()).await;
}

/// Waits until events are read as they are to be.
async fn is_read(company: &Company, reading: Reading) {
    if reading == Reading::NativeLog {
        log_is_read(company.database.url()).await;
    }
}

async fn every_event_is_heard(reading: Reading) {
    let company = Company::new(reading).await;
    let (writers, stop) = writers(&company);
    for _ in 0..KILLS {
        let relay = company.relay();
        is_read(&company, reading).await;
        let (mailed, lines) = (company.mailed(), company.lines());
        until("the relay publishes", async || {
            company.mailed() >= mailed + BETWEEN && company.lines() >= lines + BETWEEN
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
    repeats_at_most(KILLS * WINDOW, "mail", &company.mails());
    repeats_at_most(KILLS * WINDOW, "audit", &company.audited());
    drop_slots(&company).await;
}

/// The owner is sent `signal` under load, and the relay that stands by on another machine goes on.
async fn a_standby_goes_on(reading: Reading, signal: &str) {
    let company = Company::new(reading).await;
    let (writers, stop) = writers(&company);
    let owner = company.relay();
    is_read(&company, reading).await;
    until("the owner publishes", async || company.mailed() >= BETWEEN).await;
    let standby = company.relay_elsewhere();
    let before = company.mailed();
    until("it goes on beside the other", async || company.mailed() >= before + BETWEEN).await;
    owner.signal(signal);
    // More than the owner could have had in flight.
    let before = company.mailed();
    until("the other goes on", async || company.mailed() >= before + WINDOW + BETWEEN).await;
    is_read(&company, reading).await;
    if signal == "STOP" {
        owner.signal("CONT");
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let committed = company.committed().await;
    until("everything is heard", async || is_whole(company.mailed(), || company.mails(), &committed)).await;
    let ended = standby.stop();
    assert_eq!(ended.code, 0, "{}", ended.err);
    owner.kill();
    is_exact_of("mail", &company.mails(), &committed);
    // What the other had not stored as done; and what it still had under way, if it came back.
    repeats_at_most(2 * WINDOW, "mail", &company.mails());
    drop_slots(&company).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_goes_on_where_the_owner_was_killed() {
    a_standby_goes_on(Reading::Native, "KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_goes_on_where_the_owner_that_read_the_log_was_killed() {
    a_standby_goes_on(Reading::NativeLog, "KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_goes_on_where_the_owner_was_stopped_past_its_lease_and_comes_back() {
    a_standby_goes_on(Reading::Native, "STOP").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_goes_on_where_the_owner_that_read_the_log_was_stopped_past_its_lease_and_comes_back() {
    a_standby_goes_on(Reading::NativeLog, "STOP").await;
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
