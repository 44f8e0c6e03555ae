//! Something to wait at until somebody opens it by hand.

use tokio::sync::watch;

/// Calls that hang, and the hand that releases them.
#[derive(Debug)]
pub(super) struct Hold {
    releases: watch::Sender<u64>,
    hanging: watch::Sender<usize>,
}

/// Counts a call as hanging for as long as it waits, dropped calls included.
struct Hanging<'a>(&'a watch::Sender<usize>);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|hanging| *hanging -= 1);
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self { releases: watch::Sender::new(0), hanging: watch::Sender::new(0) }
    }
}

impl Hold {
    /// Waits for the next release.
    pub(super) async fn hang(&self) {
        let mut releases = self.releases.subscribe();
        self.hanging.send_modify(|hanging| *hanging += 1);
        let _counted = Hanging(&self.hanging);
        // The sender lives as long as this hold, so waiting cannot fail.
        let _ = releases.changed().await;
    }

    /// Lets all that hang now go on.
    pub(super) fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Waits until `calls` hang at the same time.
    pub(super) async fn hanging_at_least(&self, calls: usize) {
        let _ = self.hanging.subscribe().wait_for(|hanging| *hanging >= calls).await;
    }
}
