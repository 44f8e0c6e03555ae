//! Histories that went backwards are noticed, whatever looks the same; those that only changed servers go on.

use std::time::Duration;

use outbox::{
    BusinessStore, ErrorKind, Position, Source,
    store::{Agreement, Claim, Retention, Witness},
};
use outbox_sql::postgres::{PostgresStore, StoreOptions};

use crate::{
    cluster::{Cluster, Standby},
    reader::{PLENTY, Reader, partition},
};

pub(crate) async fn write(client: &tokio_postgres::Client, keys: &[&str]) {
    for key in keys {
        client.batch_execute(&format!("SELECT outbox.write('{key}', 't')")).await.unwrap();
    }
}

/// The kind of the error that reading ends with, once a connection is there.
pub(crate) async fn ends_with(reader: &Reader<impl Source>) -> ErrorKind {
    for _ in 0..100 {
        match reader.store.read(&partition(), &reader.position, PLENTY).await {
            Ok(page) => panic!("it went on: {page:?}"),
            Err(error) if error.kind().retry() => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => {
                assert!(error.to_string().contains("outbox adopt"), "{error}");
                return error.kind();
            }
        }
    }
    panic!("no connection came about")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_is_noticed_while_a_relay_reads_and_when_it_starts() {
    let cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    cluster.back_up();
    write(&cluster.session().await, &["a", "c"]).await;
    reader.read_until(4).await;
    cluster.restore();
    assert_eq!(ends_with(&reader).await, ErrorKind::HistoryChanged, "as it is");
    // Soon the same ids and transaction numbers are there again, and the log is as long.
    let client = cluster.session().await;
    write(&client, &["a", "d", "a", "a", "a", "a", "a"]).await;
    client
        .batch_execute("SELECT pg_switch_wal(); CREATE TABLE padding AS SELECT generate_series(1, 100000)")
        .await
        .unwrap();
    assert_eq!(ends_with(&reader).await, ErrorKind::HistoryChanged, "written to since");
    let restarted = cluster.store().await;
    let Agreement::Lost { agreed, lost, behind } = restarted.agreement(&reader.witnesses()).await.unwrap() else {
        panic!("it was noticed by no witness")
    };
    assert_eq!(agreed.map(|agreed| agreed.record().to_owned()), Some(reader.records[1].position.record().to_owned()));
    assert_eq!(lost.record(), reader.records[2].position.record());
    assert_eq!(behind, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_adoption_everything_that_was_written_since_is_read() {
    let cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    cluster.back_up();
    write(&cluster.session().await, &["a", "c", "c", "c"]).await;
    reader.read_until(6).await;
    cluster.restore();
    let store = cluster.store().await;
    let Agreement::Lost { agreed: Some(agreed), .. } = store.agreement(&reader.witnesses()).await.unwrap() else {
        panic!("it was noticed by no witness")
    };
    let position = store.after_loss(&reader.position, &agreed);
    assert_eq!(store.raise_incarnation(Some(&agreed), false).await.unwrap(), 2);
    // With the numbers of transactions that the lost ones had, one of them late.
    let (open, client) = (cluster.session().await, cluster.session().await);
    open.batch_execute("BEGIN; SELECT outbox.write('late', 't')").await.unwrap();
    write(&client, &["a", "d"]).await;
    let mut after = Reader { store, position, records: Vec::new() };
    after.read_until(2).await;
    open.batch_execute("COMMIT").await.unwrap();
    after.read_until(3).await;
    assert_eq!(after.came(), ["a@2.2.0", "d@2.1.0", "late@2.1.0"], "nothing is swallowed, and nothing comes twice");
}

pub(crate) async fn caught_up(cluster: &Cluster, standby: &Standby) {
    let written: String =
        cluster.session().await.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
    let standby = standby.session().await;
    let wait = async {
        loop {
            let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
            if standby.query_one(&sql, &[]).await.unwrap().get(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the standby catches up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_until_it_is_promoted_and_then_goes_on_if_it_lost_nothing() {
    let mut cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    let standby = cluster.standby().await;
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(3).await;
    caught_up(&cluster, &standby).await;
    let Err(refused) = PostgresStore::open(standby.options(), StoreOptions::default()).await else {
        panic!("a standby was taken for a primary")
    };
    assert_eq!(refused.kind(), ErrorKind::NotPermitted);
    assert!(refused.to_string().contains("standby") && refused.to_string().contains("primary"), "{refused}");
    cluster.stop();
    standby.promote();
    let promoted = PostgresStore::open(standby.options(), StoreOptions::default()).await.unwrap();
    assert_eq!(promoted.agreement(&reader.witnesses()).await.unwrap(), Agreement::Whole);
    reader.store = promoted;
    write(&standby.session().await, &["a", "c"]).await;
    reader.read_until(5).await;
    reader.assert_exact();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_was_promoted_before_it_had_all_that_was_read_is_noticed() {
    let mut cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    let standby = cluster.standby().await;
    caught_up(&cluster, &standby).await;
    standby.stop_following().await;
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(3).await;
    let early =
        Reader { store: reader.store.clone(), position: reader.records[1].position.clone(), records: Vec::new() };
    cluster.stop();
    standby.promote();
    write(&standby.session().await, &["a", "a", "a"]).await;
    let promoted = PostgresStore::open(standby.options(), StoreOptions::default()).await.unwrap();
    reader.store = promoted.clone();
    assert_eq!(ends_with(&reader).await, ErrorKind::HistoryChanged);
    assert!(matches!(promoted.agreement(&reader.witnesses()).await.unwrap(), Agreement::Lost { .. }));
    // Who had not read what was lost may go on.
    let mut early = Reader { store: promoted, ..early };
    early.read_until(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removed_is_not_taken_for_lost() {
    let cluster = Cluster::start("").await;
    let client = cluster.session().await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&client, &["a"; 30]).await;
    reader.read_until(30).await;
    reader.read_all().await;
    client.batch_execute("SELECT outbox.make_leaf('0', 10, 10)").await.unwrap();
    // The first leaf is far from full: as if its ids had been drawn.
    client.batch_execute("SELECT setval('outbox.entry_ids', 100000)").await.unwrap();
    write(&client, &["a"; 3]).await;
    reader.read_until(33).await;
    reader.read_all().await;
    let purged = reader.store.purge(&reader.position, Retention::Newest(0)).await.unwrap();
    assert_eq!(purged.entries, 30);
    assert_eq!(reader.store.agreement(&reader.witnesses()).await.unwrap(), Agreement::Whole);
    // After a crash all that is remembered is looked for.
    cluster.crash();
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(34).await;
    reader.assert_exact();
}

/// Adopts, as all that was read is there.
async fn adopt(reader: &mut Reader, witnesses: &[Witness]) {
    let store = reader.store.clone();
    assert_eq!(ends_with(reader).await, ErrorKind::HistoryChanged);
    assert_eq!(store.agreement(witnesses).await.unwrap(), Agreement::Whole);
    assert!(store.is_refused(&reader.position).await.unwrap());
    let anchored = store.anchored(std::slice::from_ref(&reader.position), witnesses).await.unwrap();
    reader.position = anchored[0].clone();
    assert!(!store.is_refused(&reader.position).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_lost_only_what_is_no_entry_is_adopted() {
    let mut cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    let standby = cluster.standby().await;
    caught_up(&cluster, &standby).await;
    standby.stop_following().await;
    let client = cluster.session().await;
    client.batch_execute("CREATE TABLE padding AS SELECT generate_series(1, 100000)").await.unwrap();
    reader.read_until(2).await;
    cluster.stop();
    standby.promote();
    reader.store = PostgresStore::open(standby.options(), StoreOptions::default()).await.unwrap();
    let witnesses = reader.witnesses();
    adopt(&mut reader, &witnesses).await;
    assert_eq!(reader.store.identity().await.unwrap().incarnation, 1, "nothing was lost");
    write(&standby.session().await, &["a", "c"]).await;
    reader.read_until(4).await;
    reader.assert_exact();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_begins_the_log_anew_is_adopted() {
    let cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    reader.position = Position::new(reader.position.as_str().replacen("/1/", "/2/", 1));
    let witnesses = reader.witnesses();
    adopt(&mut reader, &witnesses).await;
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(3).await;
    reader.assert_exact();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_with_transactions_of_another_server_is_adopted() {
    let cluster = Cluster::start("").await;
    let mut reader = Reader::new(cluster.store().await).await;
    let client = cluster.session().await;
    write(&client, &["a", "b"]).await;
    reader.read_until(2).await;
    write(&client, &["c"]).await;
    // As the dump of a server with more behind it, of which these two were read.
    client.batch_execute("UPDATE outbox.entries SET xid = (1000000 + id)::text::xid8").await.unwrap();
    let row = client.query_one("SELECT max(id) FROM outbox.entries WHERE key <> 'c'", &[]).await.unwrap();
    let last: i64 = row.get(0);
    let (xid, next) = (1_000_000 + last, 1_000_001 + last);
    let commit = reader.records[1].commit;
    let witness = Witness { position: Position::new(format!("{last}.{xid}@0>{next}/0/0")), commit };
    write(&client, &["a", "d"]).await;
    let position = Position::new(format!("@{next}/0/0"));
    let mut after = Reader { store: cluster.store().await, position, records: Vec::new() };
    adopt(&mut after, &[witness]).await;
    assert_eq!(after.store.identity().await.unwrap().incarnation, 2);
    after.read_until(3).await;
    assert_eq!(after.came(), ["c@1.1.0", "a@1.2.0", "d@1.1.0"], "what was not read, and what was written since");
    write(&client, &["c"]).await;
    after.read_until(4).await;
    assert_eq!(after.came()[3], "c@2.2.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_nobody_would_see_is_not_claimed_until_it_is_adopted() {
    let cluster = Cluster::start("").await;
    let client = cluster.session().await;
    write(&client, &["a", "b"]).await;
    client.batch_execute("UPDATE outbox.entries SET xid = (1000000 + id)::text::xid8").await.unwrap();
    let store = cluster.store().await;
    let claim = Claim { bookkeeping: "books".to_owned(), epoch: 1, nonce: "n".to_owned() };
    let refused = store.claim(&claim, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::HistoryChanged);
    assert!(refused.to_string().contains("outbox adopt --restored"), "{refused}");
    store.raise_incarnation(None, false).await.unwrap();
    assert!(store.claim(&claim, None).await.unwrap());
    let mut reader = Reader::new(store).await;
    reader.read_until(2).await;
}
