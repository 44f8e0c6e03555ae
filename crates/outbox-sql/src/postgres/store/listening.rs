//! LISTEN as a hint: a notification wakes who waits, and the poll goes on behind it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use outbox::StoreError;
use tokio::sync::Notify;

use crate::postgres::{
    connection::{ConnectOptions, connect_and_hear},
    failure::store_error,
};

/// The pause before another connection is made.
const AGAIN: Duration = Duration::from_secs(5);

/// Listens at `options` for as long as anybody holds `waker`.
pub(super) fn begin(options: ConnectOptions, waker: &Arc<Notify>) {
    let waker = Arc::downgrade(waker);
    tokio::spawn(async move {
        while waker.strong_count() > 0 {
            if let Err(error) = listen(&options, &waker).await {
                tracing::warn!(%error, "notifications of new entries cannot be had now; the poll goes on without");
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
}

/// Wakes at each notification, until the connection ends.
async fn listen(options: &ConnectOptions, waker: &Weak<Notify>) -> Result<(), StoreError> {
    let heard = waker.clone();
    let wake = move || heard.upgrade().map(|waker| waker.notify_one()).is_some();
    let (client, connection) = connect_and_hear(options, wake.clone()).await?;
    client.batch_execute("LISTEN outbox").await.map_err(store_error("listening for new entries"))?;
    // What was committed before is not told of.
    wake();
    // What it ended with was said where it ended.
    let _ = connection.await;
    Ok(())
}
