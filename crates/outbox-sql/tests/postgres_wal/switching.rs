//! One source, two ways: what was read by polling is not read again from the log, nor the other way round.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use outbox::{Source, source::Limit};
use outbox_sql::postgres::{Writer, wal::WalSettings};

use crate::fixture::{Fixture, Route, event, slot, streams};

/// Writes until it has written so many events, in transactions of all sizes, some rolled back; gives how many it wrote.
async fn hostile(url: String, writer: usize, events: usize, written: Arc<AtomicUsize>) {
    let mut client = crate::cluster::session(&url).await;
    let mut number = 0;
    while number < events {
        let size = [1, 1, 3, 40][number % 4].min(events - number);
        let transaction = client.transaction().await.unwrap();
        for one in 0..size {
            let key = if one == 0 { "shared".to_owned() } else { format!("own{writer}.{one}") };
            Writer::new().write_all(&transaction, vec![event(&key)]).await.unwrap();
        }
        if number % 5 == 4 {
            transaction.rollback().await.unwrap();
            // The same again, with other numbers.
            number += 1;
            let transaction = client.transaction().await.unwrap();
            Writer::new().write_all(&transaction, vec![event("shared")]).await.unwrap();
            transaction.commit().await.unwrap();
            written.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        transaction.commit().await.unwrap();
        number += size;
        written.fetch_add(size, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_between_polling_and_the_log_under_load_is_exact() {
    let service = Fixture::new().await;
    let name = slot();
    let written = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> =
        (0..8).map(|writer| tokio::spawn(hostile(service.database.url(), writer, 300, written.clone()))).collect();
    let mut route = Route::new();
    route.page = Limit { events: 11, bytes: 1 << 20 };
    for round in 1..=6 {
        let polling = service.store().await;
        route.until(&polling, round * 200 - 100).await;
        let source = service.open(WalSettings::new().slot(&name)).await.unwrap();
        streams(&source).await;
        route.until(&source, round * 200).await;
        assert_eq!(source.status().polling, None);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let polling = service.store().await;
    route.until(&polling, written.load(Ordering::Relaxed)).await;
    route.finish(&polling).await;
    route.is_exact(written.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_routes_of_different_speed_share_one_stream_exactly() {
    let service = Fixture::new().await;
    let source: Arc<dyn Source> = Arc::new(service.streaming().await);
    let written = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> =
        (0..4).map(|writer| tokio::spawn(hostile(service.database.url(), writer, 400, written.clone()))).collect();
    let readers: Vec<_> = [1, 10, 100]
        .into_iter()
        .map(|events| {
            let source = source.clone();
            tokio::spawn(async move {
                let mut route = Route::new();
                route.page = Limit { events, bytes: 1 << 20 };
                route.until(&*source, 1_000).await;
                route
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let count = written.load(Ordering::Relaxed);
    for reader in readers {
        let mut route = reader.await.unwrap();
        route.until(&*source, count).await;
        route.finish(&*source).await;
        route.is_exact(count);
    }
}
