//! A standby that takes over from the server whose log is read: it has no slot.

use std::{sync::Arc, time::Duration};

use outbox::ErrorKind;
use outbox_sql::postgres::{
    ConnectOptions, PostgresStore, StoreOptions,
    wal::{PUBLICATION, WalSettings, WalSource, publish},
};

use crate::{
    cluster::{Cluster, Standby},
    histories::{caught_up, ends_with, write},
    reader::{PLENTY, Reader},
};

async fn of_log(options: ConnectOptions) -> WalSource {
    let store = PostgresStore::open(options.clone(), StoreOptions::default()).await.unwrap();
    WalSource::open(Arc::new(store), options, WalSettings::new()).await.unwrap()
}

/// Reads the table until the log is read.
async fn streams(reader: &mut Reader<WalSource>) {
    let waiting = async {
        while reader.store.status().polling.is_some() {
            reader.read(PLENTY).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "the log is read: {:?}", reader.store.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_goes_on_in_the_log_of_a_standby_that_took_over_and_lost_nothing() {
    let mut cluster = Cluster::start("").await;
    publish(&cluster.session().await, PUBLICATION).await.unwrap();
    let standby = cluster.standby().await;
    let mut reader = Reader::new(of_log(cluster.options()).await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    streams(&mut reader).await;
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(3).await;
    // These nobody reads before the server is gone.
    write(&cluster.session().await, &["a", "c"]).await;
    caught_up(&cluster, &standby).await;
    cluster.stop();
    standby.promote();
    write(&standby.session().await, &["a"]).await;
    reader.store = of_log(standby.options()).await;
    reader.read_until(6).await;
    streams(&mut reader).await;
    write(&standby.session().await, &["a", "c"]).await;
    reader.read_until(8).await;
    reader.assert_exact();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_in_the_log_and_a_standby_that_took_over_lacks_stops_the_relay() {
    let mut cluster = Cluster::start("").await;
    publish(&cluster.session().await, PUBLICATION).await.unwrap();
    let standby = cluster.standby().await;
    let mut reader = Reader::new(of_log(cluster.options()).await).await;
    write(&cluster.session().await, &["a", "b"]).await;
    reader.read_until(2).await;
    streams(&mut reader).await;
    caught_up(&cluster, &standby).await;
    standby.stop_following().await;
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(3).await;
    cluster.stop();
    standby.promote();
    write(&standby.session().await, &["a", "a", "a"]).await;
    reader.store = of_log(standby.options()).await;
    assert_eq!(ends_with(&reader).await, ErrorKind::HistoryChanged);
}

/// Waits until the log of `standby` is read.
async fn is_streamed(standby: &Standby) {
    let client = standby.session().await;
    let waiting = async {
        while client.query("SELECT FROM pg_replication_slots WHERE active", &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the other server's log is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_server_lost_what_it_had_read_stops_even_if_the_log_is_read_again_before_anything_else() {
    for written_since in [3, 40] {
        let mut cluster = Cluster::start("").await;
        publish(&cluster.session().await, PUBLICATION).await.unwrap();
        let standby = cluster.standby().await;
        let (proxy, url) = cluster.proxied().await;
        let mut reader = Reader::new(of_log(ConnectOptions::parse(&url).unwrap()).await).await;
        write(&cluster.session().await, &["a", "b"]).await;
        reader.read_until(2).await;
        streams(&mut reader).await;
        caught_up(&cluster, &standby).await;
        standby.stop_following().await;
        write(&cluster.session().await, &["a"; 20]).await;
        // It stands where polling came to.
        let mut polled = Reader::new(cluster.store().await).await;
        polled.read_until(22).await;
        polled.read_all().await;
        reader.position = polled.position;
        cluster.stop();
        standby.take_over(&proxy);
        // Nobody has asked for anything since.
        is_streamed(&standby).await;
        write(&standby.session().await, &vec!["a"; written_since]).await;
        assert_eq!(ends_with(&reader).await, ErrorKind::HistoryChanged, "{written_since} were written since");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_entry_in_the_place_of_one_that_the_log_gave_is_noticed_whatever_else_looks_the_same() {
    let cluster = Cluster::start("").await;
    publish(&cluster.session().await, PUBLICATION).await.unwrap();
    let mut reader = Reader::new(of_log(cluster.options()).await).await;
    streams(&mut reader).await;
    cluster.back_up();
    streams(&mut reader).await;
    write(&cluster.session().await, &["a"]).await;
    reader.read_until(1).await;
    let named = reader.position.as_str().split('@').next().unwrap().to_owned();
    assert!(reader.position.as_str().contains('~'), "it came of the log: {}", reader.position);
    let (id, xid) = named.split_once('.').unwrap();
    cluster.restore();
    let client = cluster.session().await;
    // Soon the same numbers are there again, and the log is as long.
    let same =
        format!("INSERT INTO outbox.entries (id, xid, type) OVERRIDING SYSTEM VALUE VALUES ({id}, '{xid}', 'another')");
    client.batch_execute(&same).await.unwrap();
    client.batch_execute("CREATE TABLE padding AS SELECT generate_series(1, 100000)").await.unwrap();
    for _ in 0..50 {
        client.batch_execute("SELECT pg_current_xact_id()").await.unwrap();
    }
    assert_eq!(ends_with(&reader).await, ErrorKind::HistoryChanged);
}
