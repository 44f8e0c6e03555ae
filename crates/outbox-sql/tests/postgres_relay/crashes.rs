//! What was handed out survives a crash of the server, and what comes after one is not mistaken for what was read.

use std::time::Duration;

use outbox::Source;

use crate::{
    cluster::Cluster,
    reader::{Reader, partition},
};

/// Commits do not wait for the disk, and what they wrote waits longer for the writer of the log than a crash takes.
const LAZY: &str = "-c synchronous_commit=off -c wal_writer_delay=3s -c wal_writer_flush_after=0";

/// What the table has, in the order of the keys.
async fn truth(cluster: &Cluster) -> Vec<String> {
    let rows = cluster.session().await;
    let rows = rows.query("SELECT key || '@1.' || sequence || '.0' FROM outbox.entries ORDER BY 1", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn assert_whole(cluster: &Cluster, reader: &mut Reader) {
    reader.read_until(truth(cluster).await.len()).await;
    let mut came = reader.came();
    came.sort();
    assert_eq!(came, truth(cluster).await, "what is there was read, once, and nothing else");
    reader.assert_exact();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_survives_a_crash_though_commits_wait_for_no_disk() {
    let cluster = Cluster::start(LAZY).await;
    let mut reader = Reader::new(cluster.store().await).await;
    let mut lost = 0;
    for round in 0..5 {
        let client = cluster.session().await;
        for _ in 0..3 {
            client.batch_execute("SELECT outbox.write('a', 't'); SELECT outbox.write('b', 't')").await.unwrap();
        }
        reader.read_until(reader.records.len() + 1).await;
        client.batch_execute("SELECT outbox.write('b', 't'); SELECT outbox.write('lost', 't')").await.unwrap();
        let before = truth(&cluster).await.len();
        cluster.crash();
        let after = truth(&cluster).await.len();
        lost += before - after;
        assert_whole(&cluster, &mut reader).await;
        assert!(after >= 6 * (round + 1), "what was read is there");
    }
    assert!(lost > 0, "the crashes took nothing back: this test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_given_anew_after_a_crash_are_not_taken_for_read() {
    let cluster = Cluster::start(LAZY).await;
    let mut reader = Reader::new(cluster.store().await).await;
    let client = cluster.session().await;
    client.batch_execute("CREATE TABLE other (n integer); SELECT outbox.write('a', 't')").await.unwrap();
    reader.read_until(1).await;
    for _ in 0..3 {
        let client = cluster.session().await;
        // Others give numbers to transactions, and a look finds nothing.
        for _ in 0..20 {
            client.batch_execute("INSERT INTO other VALUES (1)").await.unwrap();
        }
        client.batch_execute("BEGIN; SELECT outbox.write('b', 't'); ROLLBACK").await.unwrap();
        assert_eq!(reader.read(crate::reader::PLENTY).await.unwrap(), 0);
        cluster.crash();
        let client = cluster.session().await;
        client.batch_execute("SELECT outbox.write('b', 't'); SELECT outbox.write('a', 't')").await.unwrap();
        assert_whole(&cluster, &mut reader).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_that_holds_up_the_flush_does_not_hold_up_reading() {
    let cluster = Cluster::start("-c synchronous_commit=off -c wal_writer_delay=100ms").await;
    let (idle, client) = (cluster.session().await, cluster.session().await);
    idle.batch_execute("CREATE TABLE other (t text); BEGIN; INSERT INTO other VALUES ('x')").await.unwrap();
    let mut reader = Reader::new(cluster.store().await).await;
    for round in 1..=3 {
        client.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
        // Behind the commit there is now something that nobody is in a hurry to flush.
        idle.batch_execute("INSERT INTO other VALUES ('x')").await.unwrap();
        let read = reader.read_until(round);
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("the flush is forced");
    }
    idle.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_that_outlives_a_crash_is_read() {
    let cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    let client = cluster.session().await;
    client.batch_execute("BEGIN; SELECT outbox.write('late', 't'); PREPARE TRANSACTION 'late'").await.unwrap();
    client.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    reader.read_until(1).await;
    cluster.crash();
    let client = cluster.session().await;
    client.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    reader.read_until(2).await;
    client.batch_execute("COMMIT PREPARED 'late'").await.unwrap();
    assert_whole(&cluster, &mut reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_waited_for() {
    let cluster = Cluster::start("").await;
    let reader = Reader::new(cluster.store().await).await;
    cluster.stop();
    let error = reader.store.read(&partition(), &reader.position, crate::reader::PLENTY).await.unwrap_err();
    assert!(error.kind().retry(), "{error}");
}
