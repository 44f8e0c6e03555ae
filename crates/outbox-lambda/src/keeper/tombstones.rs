//! Discarded events: their tombstones keep a batch that comes again from publishing them, for as long as one can come again.

use outbox::{Position, StoreError, bookkeeping::Tombstone};

use super::Parts;
use crate::forwarder::share::Share;

/// The stream remembers a record for 24 hours; and clocks differ.
///
/// Rule: "DynamoDB Streams", 24 hours.
const COMES_AGAIN: i64 = 25 * 60 * 60;

/// Forgets those that are of no use any more, in the name of the forwarders, who are the only ones to need them.
pub(super) async fn forget(parts: &Parts) -> Result<(), StoreError> {
    let now = parts.clock.wall().as_second();
    for (route, _) in &parts.routes {
        let all = parts.bookkeeping.tombstones(&route.name).await?;
        let old: Vec<Tombstone> = all.into_iter().filter(|(_, _, position)| is_forgotten(position, now)).collect();
        if !old.is_empty() {
            let lease = Share::new(&route.name).lease(&*parts.bookkeeping).await?;
            parts.bookkeeping.forget_tombstones(&lease, &route.name, &old).await?;
        }
    }
    Ok(())
}

/// Whether the stream has forgotten the record behind which `position` is. One that does not say when it was created is not, as
/// that of an entry which was read from the table.
fn is_forgotten(position: &Position, now: i64) -> bool {
    created(position).is_some_and(|created| created > 0 && now.saturating_sub(created) > COMES_AGAIN)
}

/// When the record was created, in seconds since 1970. The place in a shard is `s`, the record's number, and that.
fn created(position: &Position) -> Option<i64> {
    let (_, place) = position.as_str().split_once('@')?;
    let (number, created) = place.strip_prefix('s')?.split_once('/')?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| created.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_forgotten_a_day_after_it_was_created() {
        let at = |created: i64| Position::new(format!("7/1797592000/cart/42@s111/{created}"));
        assert!(is_forgotten(&at(1_795_000_000), 1_795_000_000 + 90_001));
        assert!(!is_forgotten(&at(1_795_000_000), 1_795_000_000 + 90_000));
    }

    #[test]
    fn a_record_without_a_time_is_not_forgotten() {
        let of_the_table =
            ["7/1797592000/cart/42@t1795000000123/7", "7/1797592000/42@t1795000000123/cart/42", "7//1@k/1"];
        for text in ["entry/cart/1/4@s8/0", "@", "7/1/a@sx/soon", "7/1/a@sx/1"].into_iter().chain(of_the_table) {
            assert!(!is_forgotten(&Position::new(text), i64::MAX), "{text}");
        }
    }
}
