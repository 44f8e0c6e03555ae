//! The log of the service's database: synced before anything of it is published, and not held by a relay that stalls.

use std::{path::Path, sync::Arc, time::Duration};

use outbox::{
    ErrorKind, PartitionId, Position, Relay, RouteName, RouteSettings, Source as _,
    memory::MemorySink,
    route::WindowLimits,
    source::Limit,
    testing::faults::{FaultySink, SinkFault, SinkFaults},
};
use outbox_sql::sqlite::{BookkeepingOptions, InitOptions, SqliteBookkeeping, SqliteStore, StoreOptions, init};
use rusqlite::Connection;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

fn megabytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len() >> 20
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_stalled_for_long_does_not_keep_the_log_of_the_service_growing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let writer = Connection::open(&path).unwrap();
    init(&writer, &InitOptions::new("/orders")).unwrap();
    writer.pragma_update(None, "synchronous", "OFF").unwrap();
    let write = || {
        writer
            .execute("INSERT INTO outbox (key, type, data) VALUES ('order/1', 'order.placed', zeroblob(8000))", [])
            .unwrap()
    };
    write();

    // A route whose only calls hang, and a window that is full at once.
    let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
    let options = BookkeepingOptions { create: true, ..BookkeepingOptions::default() };
    let bookkeeping = SqliteBookkeeping::open(folder.path().join("orders.db.relay"), options).unwrap();
    let faults = SinkFaults::default();
    faults.always(SinkFault::Hang);
    let sink = FaultySink::new(Arc::<MemorySink>::default(), faults.clone());
    let window = WindowLimits { events: 10, key_share: 10, ..WindowLimits::default() };
    let route = RouteSettings { window, ..RouteSettings::new(RouteName::new("main").unwrap()) };
    let relay = Relay::builder()
        .source(Arc::new(store.clone()))
        .store(Arc::new(store))
        .bookkeeping(Arc::new(bookkeeping))
        .drain_limit(Duration::ZERO)
        .route(route, Arc::new(sink))
        .build()
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async { stopped.await.unwrap() }));
    timeout(PATIENCE, faults.hanging_at_least(1)).await.expect("the route stalls");

    for _ in 0..4_000 {
        write();
    }
    let (data, log) = (megabytes(&path), megabytes(&folder.path().join("orders.db-wal")));
    // SQLite moves the log into the database every 4 MiB, unless a reader holds on to an old snapshot.
    assert!(log <= 8 && data >= 20, "a log of {log} MiB beside a database of {data} MiB");
    stop.send(()).unwrap();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_handed_out_that_a_power_failure_could_still_take_back() {
    let folder = tempfile::tempdir().unwrap();
    let [real, moved, link] = ["real", "moved", "link"].map(|name| folder.path().join(name));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let path = link.join("orders.db");
    let writer = Connection::open(&path).unwrap();
    init(&writer, &InitOptions::new("/orders")).unwrap();
    // Its commits do not wait for the disk.
    writer.pragma_update(None, "synchronous", "NORMAL").unwrap();
    let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
    writer.execute("INSERT INTO outbox (key, type, data) VALUES ('order/1', 'order.placed', '1')", []).unwrap();
    let hand_out = async || {
        let limit = Limit { events: 10, bytes: 1 << 20 };
        store.read(&PartitionId::new("entries"), &Position::new("0"), limit).await
    };

    // The database is where it was for all that have it open, and its log is nowhere to be found.
    std::fs::rename(&real, &moved).unwrap();
    std::fs::write(&real, b"").unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&moved, &link).unwrap();
    let error = hand_out().await.expect_err("what is committed and not durable is not handed out");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("durable"), "{error}");

    std::fs::remove_file(&real).unwrap();
    std::fs::rename(&moved, &real).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(hand_out().await.unwrap().records.len(), 1);
}
