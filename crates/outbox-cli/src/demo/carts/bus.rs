//! What came over the bus, seen by the demo itself: the evidence that the consumer and its inbox had no hand in.

use std::{path::PathBuf, time::Duration};

use carts::totals::{Queue, queued_event};
use tokio::sync::watch;

use crate::demo::arrivals::{ArrivalLog, Follower, Tally};

/// Before a queue that could not be read is read again.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads the queue `queue`, which keeps the order of the bus, into the log at `path` for ever, and says what it shows.
///
/// # Errors
/// The log that cannot be written, or a message that is no event.
pub(crate) async fn follow(queue: Queue, path: PathBuf, tally: watch::Sender<Tally>) -> String {
    let failed = |error: std::io::Error| format!("the log of the bus cannot be kept: {error}");
    let log = match ArrivalLog::open(&path) {
        Ok(log) => log,
        Err(error) => return failed(error),
    };
    let mut follower = Follower::new(path);
    loop {
        let Ok(messages) = queue.receive().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let events = match messages.iter().map(queued_event).collect::<Result<Vec<_>, _>>() {
            Ok(events) => events,
            Err(why) => return format!("a message of the bus is no event: {why}"),
        };
        if let Err(error) = log.note(events.iter()) {
            return failed(error);
        }
        let seen = match follower.follow() {
            Ok(seen) => seen,
            Err(error) => return failed(error),
        };
        tally.send_if_modified(|known| {
            let is_new = known != seen;
            known.clone_from(seen);
            is_new
        });
        // What is not deleted comes again, behind nothing: its group waits for it.
        while queue.delete(messages.iter()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
