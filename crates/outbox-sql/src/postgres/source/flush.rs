//! Only what is flushed counts: with `synchronous_commit = off` a crash takes back what was read already, and gives its ids and
//! transaction numbers again.

use std::time::Duration;

use outbox::StoreError;
use tokio_postgres::types::Type;

use super::session::Using;
use crate::postgres::history::lsn;

const WAITING: &str = "waiting for the log to be flushed";
/// After so many of the server's `wal_writer_delay` it is made to happen: an idle open transaction can hold it up for long.
const PATIENCE: u32 = 3;
const SHORTEST: Duration = Duration::from_micros(500);
const LONGEST: Duration = Duration::from_millis(20);

/// Waits, in the open transaction of `using`, until the log is flushed up to `written`, then commits. In one transaction with
/// the look that `written` is of: a crash in between ends it, so that it cannot be taken for a flush that another life of the
/// server wrote up to the same place.
pub(super) async fn until(using: &mut Using<'_>, written: u64, delay: Duration) -> Result<(), StoreError> {
    let place = lsn(written);
    let (mut pause, mut waited) = (SHORTEST, Duration::ZERO);
    while waited < delay * PATIENCE {
        tokio::time::sleep(pause).await;
        waited += pause;
        let flushed = async {
            let sql = "SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn";
            using.client().query_typed_one(sql, &[(&place, Type::TEXT)]).await?.try_get(0)
        };
        if using.within(WAITING, flushed).await? {
            return using.close(WAITING).await;
        }
        pause = (pause * 2).min(LONGEST);
    }
    // A commit that waits for its flush flushes all that was written before it.
    let emit = "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'outbox', '')";
    using.within("having the log flushed", using.client().query_typed(emit, &[])).await?;
    using.close("having the log flushed").await
}
