//! The consumer: `CARTS_SECRET` is the webhooks' secret, `CARTS_TABLES` the prefix of its tables, `CARTS_LOG` the file that
//! every event is written to, `CARTS_TOTALS_LISTEN` its address. With `CARTS_QUEUE`, the URL of a queue behind a bus, events are
//! read there as well.

use std::{error::Error, path::PathBuf, time::Duration};

use carts::totals::Consumer;
use outbox::signature::{Secret, Verifier};
use outbox_aws::Settings;

/// How far a webhook's time stamp may be from now.
const TOLERANCE: Duration = Duration::from_mins(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let secret = std::env::var("CARTS_SECRET").map_err(|_| "CARTS_SECRET is not set: it is the relay's `secret`")?;
    let verifier = Verifier::new(vec![secret.parse::<Secret>()?], TOLERANCE);
    let set = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let (prefix, log) = (set("CARTS_TABLES", "carts"), PathBuf::from(set("CARTS_LOG", "carts-events.jsonl")));
    let client = outbox_aws::dynamodb::connect(&Settings::default()).await;
    let consumer = Consumer::open(&client, &prefix, &log).await?;
    let listener = tokio::net::TcpListener::bind(set("CARTS_TOTALS_LISTEN", "127.0.0.1:8081")).await?;
    tracing::info!(address = %listener.local_addr()?, "events are taken");
    let end = async || tokio::signal::ctrl_c().await.unwrap_or_default();
    let serving = axum::serve(listener, consumer.router(verifier)).with_graceful_shutdown(end());
    let (served, (), ()) = tokio::join!(serving, consumer.run(end()), read_queue(&consumer, end()));
    Ok(served?)
}

/// Reads the queue, where there is one.
#[cfg(feature = "queue")]
async fn read_queue(consumer: &Consumer, end: impl Future<Output = ()> + Send) {
    if let Ok(url) = std::env::var("CARTS_QUEUE") {
        let client = carts::totals::queue_client(&Settings::default()).await;
        carts::totals::Queue::new(&client, url).run(consumer.clone(), end).await;
    }
}

#[cfg(not(feature = "queue"))]
#[expect(clippy::unused_async, reason = "reading a queue waits")]
async fn read_queue(_: &Consumer, _: impl Future<Output = ()> + Send) {}
