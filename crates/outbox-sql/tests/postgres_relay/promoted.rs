//! A standby that takes over from the server whose log is read: it has no slot.

use std::{sync::Arc, time::Duration};

use outbox::ErrorKind;
use outbox_sql::postgres::{
    ConnectOptions, PostgresStore, StoreOptions,
    wal::{PUBLICATION, WalSettings, WalSource, publish},
};

use crate::{
    cluster::Cluster,
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
