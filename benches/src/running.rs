//! A relay that runs beside what is measured.

use std::time::Duration;

use outbox::{Relay, relay::RelayHandle};
use tokio::{sync::oneshot, task::JoinHandle};

/// A relay that runs.
pub struct Running {
    handle: RelayHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts it.
    pub fn start(relay: Relay) -> Self {
        let handle = relay.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            relay
                .run(async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
        Self { handle, stop, task }
    }

    /// How many events it has published, to the first of its routes.
    pub fn published(&self) -> u64 {
        self.handle.status().routes.first().map_or(0, |route| route.published)
    }

    /// How many it has published to `route`.
    pub fn published_to(&self, route: &str) -> u64 {
        self.handle.status().routes.iter().find(|known| known.name.as_str() == route).map_or(0, |route| route.published)
    }

    /// Waits until it has published so many.
    pub async fn until(&self, published: u64) {
        while self.published() < published {
            assert!(!self.task.is_finished(), "the relay has ended");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops it in order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }
}
