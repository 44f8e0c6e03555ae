//! Going back to the table: what a recovery is called, where it begins, and when it is refused.

use outbox::{
    CommitId, PartitionId, StoreError, bookkeeping::Checkpoint, route::Start, source::Recovery, store::Registration,
};

use super::{Inner, MEMORY, SLACK, capacity::Capacity, invalid, lost::Lost, place::InScan, seconds, table};
use crate::dynamodb::schema;

/// What the name of a recovery's partition says: `recovery/<millisecond>/<millisecond or nothing>/<random>/<label of the
/// stream>`.
pub(super) struct Name<'a> {
    /// When it was asked for, in milliseconds since 1970.
    pub(super) started: i64,
    /// Until when the table has all that it is to read, in milliseconds since 1970; none if that does not matter.
    pub(super) kept: Option<i64>,
    /// The stream that goes on behind it.
    pub(super) label: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn parse(partition: &'a PartitionId) -> Result<Self, StoreError> {
        let parse = || {
            let mut parts = partition.as_str().splitn(5, '/').skip(1);
            let (started, kept) = (parts.next()?.parse().ok()?, parts.next()?);
            let kept = if kept.is_empty() { None } else { Some(kept.parse().ok()?) };
            Some(Self { started, kept, label: parts.nth(1)? })
        };
        let name = parse().filter(|_| partition.is_recovery());
        name.ok_or_else(|| invalid(format!("`{partition}` is no recovery of this stream")))
    }
}

/// From which second on shards are read behind a recovery that was asked for at this millisecond.
pub(super) fn skip_behind(started: i64) -> i64 {
    started.div_euclid(1000).saturating_sub(seconds(SLACK))
}

impl Inner {
    pub(super) async fn recovery(
        &self,
        registration: &Registration,
        checkpoints: &[Checkpoint],
    ) -> Result<Recovery, StoreError> {
        self.store.claimed().check().await?;
        // A route that functions published begins as a new one.
        let (elsewhere, of_stream): (Vec<_>, Vec<_>) =
            checkpoints.iter().cloned().partition(|known| table::is_elsewhere(&known.partition));
        let checkpoints: &[Checkpoint] = &of_stream;
        let started = self.calls.clock.wall().as_millisecond();
        let listing = self.look().await?;
        let skip = skip_behind(started);
        let retention = self.retention().await?;
        let lost = self.lost_since(&listing, skip, registration, checkpoints, retention).await?;
        let has_begun = checkpoints.iter().any(|checkpoint| !checkpoint.partition.is_recovery());
        self.refuse_timeless(registration, has_begun)?;
        let takes = self.capacity().await?;
        // Since it was registered, functions may have published what has expired by now.
        let from_time = matches!(registration.start, Start::Time(_)) || !elsewhere.is_empty();
        let kept = self.refuse_expired(registration, lost, !has_begun && from_time, takes.scan_milliseconds())?;
        refuse_too_long(&takes)?;
        let kept = kept.map_or_else(String::new, |kept| kept.to_string());
        let random = CommitId(self.calls.entropy.sixteen());
        let partition = PartitionId::recovery(format_args!("{started}/{kept}/{random}/{}", listing.stream.label));
        let begin = lost.since.saturating_sub(seconds(SLACK).saturating_mul(1000));
        Ok(Recovery { partition, position: InScan::beginning(begin).position() })
    }

    /// For how many milliseconds entries live, by what was said when the store was opened and what is said now.
    async fn retention(&self) -> Result<Option<i64>, StoreError> {
        let Some(known) = self.store.retention() else { return Ok(None) };
        let now = schema::identity(&self.calls, self.store.tables()).await?.retention;
        Ok(Some(seconds(known.min(now)).saturating_mul(1000)))
    }

    /// Entries that have expired are not in the table either, nor those that expire while it is read. A route that begins with
    /// whatever there is misses none; one that begins at a time, as a replay does, or behind functions, is told. Gives until
    /// when the recovery has to be done.
    fn refuse_expired(
        &self,
        registration: &Registration,
        lost: Lost,
        at_a_time: bool,
        takes: i64,
    ) -> Result<Option<i64>, StoreError> {
        let end = self.calls.clock.wall().as_millisecond().saturating_add(takes);
        let is_whole = lost.kept.is_none_or(|kept| end <= kept);
        let route = &registration.route;
        match (is_whole, self.options.accept_loss || at_a_time) {
            (true, false) => Ok(lost.kept),
            (true, true) => Ok(None),
            (false, true) => {
                tracing::error!(%route, "entries may have expired before this route got them: it goes on with what is left");
                Ok(None)
            }
            (false, false) => Err(invalid(format!(
                "route `{route}` was last read longer ago than entries were kept then, or are kept now, less the time that reading the table takes: some may have expired before they were published. Compare its consumers with the business data, then start the relay with `--accept-loss`, and it goes on with what is left"
            ))),
        }
    }

    /// A route that starts at a time, and begins with what the stream does not hold, has to know of each item when it was
    /// written. One that has begun goes on with all of the table, and publishes some of it again.
    fn refuse_timeless(&self, registration: &Registration, has_begun: bool) -> Result<(), StoreError> {
        if !self.is_timeless() || has_begun || registration.start == Start::Beginning {
            return Ok(());
        }
        Err(invalid(format!(
            "route `{}` starts at a time, from which on the stream does not hold everything, and the mapping does not say when an item was written: name the attribute by `time` in `[store.mapping]`, or let the route start at the beginning",
            registration.route
        )))
    }
}

/// What takes longer than the stream remembers could not go on behind itself.
fn refuse_too_long(capacity: &Capacity) -> Result<(), StoreError> {
    let takes = capacity.scan_seconds();
    let time = seconds(MEMORY).saturating_sub(seconds(SLACK));
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    if takes <= time as f64 {
        return Ok(());
    }
    Err(invalid(format!(
        "reading the table again would take about {:.0} hours at {:.1} read units a second, longer than the stream remembers: give the table more read capacity, or recoveries a larger share of it (`recovery_share`)",
        takes / 3600.0,
        capacity.units_per_second
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_s_name_says_when_it_began_and_with_which_stream() {
        for (kept, until) in [("", None), ("1797592000123", Some(1_797_592_000_123))] {
            let partition = PartitionId::recovery(format_args!("1795000000123/{kept}/00ff/2015-05-11T21:21:33.291"));
            let name = Name::parse(&partition).unwrap();
            let expected = (1_795_000_000_123, until, "2015-05-11T21:21:33.291");
            assert_eq!((name.started, name.kept, name.label), expected);
        }
        for foreign in ["recovery/", "recovery/1//2", "recovery/x//2/3", "recovery/1/x/2/3", "shard/1//2/3"] {
            assert!(Name::parse(&PartitionId::new(foreign)).is_err(), "{foreign}");
        }
    }
}
