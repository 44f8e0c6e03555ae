//! Going back to the table: what a recovery is called, where it begins, and when it is refused.

use outbox::{
    CommitId, PartitionId, StoreError, bookkeeping::Checkpoint, route::Start, source::Recovery, store::Registration,
};

use super::{Inner, MEMORY, SLACK, invalid, place::InScan, seconds, table};

/// What the name of a recovery's partition says: `recovery/<millisecond>/<random>/<label of the stream>`.
pub(super) struct Name<'a> {
    /// When it was asked for, in milliseconds since 1970.
    pub(super) started: i64,
    /// The stream that goes on behind it.
    pub(super) label: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn parse(partition: &'a PartitionId) -> Result<Self, StoreError> {
        let mut parts = partition.as_str().splitn(4, '/').skip(1);
        let (started, label) = (parts.next().and_then(|started| started.parse().ok()), parts.nth(1));
        match (started, label) {
            (Some(started), Some(label)) if partition.is_recovery() => Ok(Self { started, label }),
            _ => Err(invalid(format!("`{partition}` is no recovery of this stream"))),
        }
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
        let of_stream = checkpoints.iter().filter(|known| !table::is_elsewhere(&known.partition));
        let checkpoints: &[Checkpoint] = &of_stream.cloned().collect::<Vec<_>>();
        let started = self.calls.clock.wall().as_millisecond();
        let listing = self.look().await?;
        let skip = skip_behind(started);
        let lost = self.lost_since(&listing, skip, registration, checkpoints).await?;
        let has_begun = checkpoints.iter().any(|checkpoint| !checkpoint.partition.is_recovery());
        self.refuse_timeless(registration, has_begun)?;
        self.refuse_expired(registration, lost, has_begun)?;
        self.refuse_too_long().await?;
        let random = CommitId(self.calls.entropy.sixteen());
        let partition = PartitionId::recovery(format_args!("{started}/{random}/{}", listing.stream.label));
        let begin = lost.saturating_sub(seconds(SLACK).saturating_mul(1000));
        Ok(Recovery { partition, position: InScan::beginning(begin).position() })
    }

    /// Entries that have expired are not in the table either. A route that begins with whatever there is misses none; one that
    /// begins at a time, as a replay does, is told.
    fn refuse_expired(&self, registration: &Registration, lost: i64, has_begun: bool) -> Result<(), StoreError> {
        let Some(retention) = self.store.retention() else { return Ok(()) };
        let kept_since = self.now().saturating_sub(seconds(retention)).saturating_mul(1000);
        if lost >= kept_since || lost == i64::MIN {
            return Ok(());
        }
        let route = &registration.route;
        let days = retention.as_secs() / 86_400;
        let at_a_time = !has_begun && matches!(registration.start, Start::Time(_));
        if self.options.accept_loss || at_a_time {
            tracing::error!(%route, days, "entries may have expired before this route got them: it goes on with what is left");
            return Ok(());
        }
        Err(invalid(format!(
            "route `{route}` was last read for longer ago than entries are kept ({days} days): some may have expired before they were published. Compare its consumers with the business data, then start the relay with `--accept-loss`, and it goes on with what is left"
        )))
    }

    /// A route that starts at a time, and begins with what the stream does not hold, has to know of each item when it was
    /// written. One that has begun goes on with all of the table, and publishes some of it again.
    fn refuse_timeless(&self, registration: &Registration, has_begun: bool) -> Result<(), StoreError> {
        let is_timeless = self.store.tables().mapping().is_some_and(|mapping| !mapping.has_time());
        if !is_timeless || has_begun || registration.start == Start::Beginning {
            return Ok(());
        }
        Err(invalid(format!(
            "route `{}` starts at a time, from which on the stream does not hold everything, and the mapping does not say when an item was written: name the attribute by `time` in `[store.mapping]`, or let the route start at the beginning",
            registration.route
        )))
    }

    /// What takes longer than the stream remembers could not go on behind itself.
    async fn refuse_too_long(&self) -> Result<(), StoreError> {
        let capacity = self.capacity().await?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_s_name_says_when_it_began_and_with_which_stream() {
        let partition = PartitionId::recovery("1795000000123/00ff/2015-05-11T21:21:33.291");
        let name = Name::parse(&partition).unwrap();
        assert_eq!((name.started, name.label), (1_795_000_000_123, "2015-05-11T21:21:33.291"));
        for foreign in ["recovery/", "recovery/1/2", "recovery/x/2/3", "shard/1/2/3"] {
            assert!(Name::parse(&PartitionId::new(foreign)).is_err(), "{foreign}");
        }
    }
}
