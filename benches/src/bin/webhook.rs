//! A relay to a webhook over 64 connections, against the same client posting the same bodies in a bare loop.
//!
//! `cargo run --release -p benches --bin webhook`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use outbox::{
    System,
    sinks::webhook::{Encoding, WebhookSettings, WebhookSink},
};

const CONNECTIONS: usize = 64;
const EVENTS: u32 = 100_000;

async fn bare(url: &str) -> f64 {
    let client = reqwest::Client::builder().tcp_nodelay(true).pool_max_idle_per_host(CONNECTIONS).build().unwrap();
    let next = Arc::new(AtomicU32::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (client, next, url) = (client.clone(), next.clone(), url.to_owned());
            let body = bytes::Bytes::from(benches::payload());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < EVENTS {
                    let number = next.load(Ordering::Relaxed);
                    let answer = client
                        .post(&url)
                        .header("ce-specversion", "1.0")
                        .header("ce-id", format!("customer/{}@1.{number}.0", number % 10_000))
                        .header("ce-source", "/bench")
                        .header("ce-type", "order.placed")
                        .header("ce-partitionkey", format!("customer/{}", number % 10_000))
                        .header("ce-sequence", format!("0000000001.{number:020}.0000000000"))
                        .header("ce-place", format!("1.{number}.0/1"))
                        .header("ce-after", "0.0.0")
                        .header("ce-gapless", "true")
                        .header("ce-time", "2026-01-01T00:00:00Z")
                        .header("content-type", "application/json")
                        .body(body.clone())
                        .send()
                        .await
                        .unwrap();
                    assert!(answer.status().is_success());
                    answer.bytes().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(EVENTS) / started.elapsed().as_secs_f64()
}

async fn relay(url: &str) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    benches::fill(&benches::database(&directory.path().join("business.db"), "OFF"), EVENTS as usize, 10_000);
    let mut settings = WebhookSettings::new(url);
    settings.encoding = Encoding::Binary;
    settings.max_calls = CONNECTIONS;
    let sink = WebhookSink::new(settings, Arc::new(System)).unwrap();
    let relay = benches::relay(directory.path(), Arc::new(sink));
    let handle = relay.handle();
    let started = Instant::now();
    let running = tokio::spawn(relay.run(std::future::pending()));
    while handle.status().routes[0].published < u64::from(EVENTS) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = f64::from(EVENTS) / started.elapsed().as_secs_f64();
    running.abort();
    rate
}

#[tokio::main]
async fn main() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    // The target has a thread of its own, so that both clients meet the same one.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = listener.into_std().unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let app = axum::Router::new().route(
                "/events",
                axum::routing::post(|body: bytes::Bytes| async move {
                    assert!(body.len() >= 1024);
                    axum::http::StatusCode::ACCEPTED
                }),
            );
            axum::serve(listener, app).await.unwrap();
        });
    });
    bare(&url).await;
    for _ in 0..3 {
        let floor = bare(&url).await;
        let ours = relay(&url).await;
        benches::report("webhook, 64 connections, binary", ours, floor, "events/s", 0.8);
    }
}
