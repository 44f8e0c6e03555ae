//! From when on a route lacks what the stream does not remember, and until when the table has it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use outbox::{PartitionId, StoreError, bookkeeping::Checkpoint, store::Registration};

use super::{
    Inner, StreamsSource,
    place::{InScan, InShard},
    recovery, start,
    stream::{self, Listing},
};
use crate::dynamodb::position::EntryName;

/// What the stream does not remember, and a route lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Up to which time the route has all of it, in milliseconds since 1970, before the slack.
    pub(super) since: i64,
    /// Until which time the table has all of it, in milliseconds since 1970; none if for ever, or whatever there is will do.
    pub(super) kept: Option<i64>,
}

impl Lost {
    /// The same for a route that lacks both.
    fn and(self, other: Self) -> Self {
        let kept = [self.kept, other.kept].into_iter().flatten().min();
        Self { since: self.since.min(other.since), kept }
    }

    /// What follows a checkpoint. Its entry says how long entries lived then, which counts if they live longer by now.
    fn behind(checkpoint: &Checkpoint, place: &InShard, retention: Option<i64>) -> Self {
        let since = place.since.saturating_mul(1000);
        let expires = EntryName::in_position(&checkpoint.position).and_then(|name| name.expires);
        let lived = expires.map(|expires| expires.saturating_mul(1000).saturating_sub(since));
        let shortest = retention.map(|retention| lived.map_or(retention, |lived| lived.min(retention)));
        Self { since, kept: shortest.map(|shortest| since.saturating_add(shortest)) }
    }
}

/// How far a relay was that does not go on, as its checkpoints say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// About up to when it had done all that was recorded; 1970 if it had yet to begin with the table.
    pub until: Timestamp,
    /// Whether the stream has forgotten something of what came since, or never had it.
    pub is_forgotten: bool,
}

impl StreamsSource {
    /// How far a relay was that left these checkpoints, for whoever is handed the stream in its place.
    ///
    /// # Errors
    /// As DynamoDB says; [`ErrorKind::Invalid`](outbox::ErrorKind::Invalid) if they are none of a stream's.
    pub async fn reached(&self, checkpoints: &[Checkpoint]) -> Result<Reached, StoreError> {
        self.inner.reached(checkpoints).await
    }
}

/// What is known of where a route stands.
struct Standing<'a> {
    checkpoints: &'a [Checkpoint],
    listing: &'a Listing,
}

impl Standing<'_> {
    fn has(&self, partition: &PartitionId) -> bool {
        self.checkpoints.iter().any(|checkpoint| checkpoint.partition == *partition)
    }

    /// Whether a shard is listed of which the route does not know what came before it.
    fn has_unknown(&self) -> bool {
        self.listing.roots().any(|root| !self.has(&self.listing.partition(root)))
    }

    /// Whether something may follow a shard that was read to its end, and was not read itself.
    fn is_unfollowed(&self, before: &[Listing], partition: &PartitionId) -> Result<bool, StoreError> {
        let (label, shard) = stream::parts(partition)?;
        let current = label == self.listing.stream.label;
        let lineage = if current { Some(self.listing) } else { before.iter().find(|one| one.stream.label == label) };
        let Some(lineage) = lineage.filter(|lineage| lineage.shards.contains_key(shard)) else {
            return Ok(self.has_unknown());
        };
        let mut children = lineage.children(shard).peekable();
        // The last shards of a stream that was disabled are followed by what no stream has.
        let is_last = !current && children.peek().is_none();
        Ok(is_last || children.any(|child| !self.has(&lineage.partition(child))))
    }
}

impl Inner {
    async fn reached(&self, checkpoints: &[Checkpoint]) -> Result<Reached, StoreError> {
        let (listing, horizon) = (self.look().await?, self.horizon());
        let standing = Standing { checkpoints, listing: &listing };
        let before = self.lineages_before(&standing).await?;
        let (mut forgotten, mut held) = (Vec::new(), Vec::new());
        for checkpoint in checkpoints {
            if checkpoint.partition.is_recovery() {
                if !checkpoint.finished {
                    forgotten.push(InScan::parse(&checkpoint.position)?.begin);
                }
                continue;
            }
            let place = InShard::parse(&checkpoint.position)?;
            let (label, _) = stream::parts(&checkpoint.partition)?;
            let is_forgotten = if checkpoint.finished {
                if !standing.is_unfollowed(&before, &checkpoint.partition)? {
                    continue;
                }
                label != listing.stream.label || place.since < horizon
            } else {
                self.is_moved(&listing, horizon, &checkpoint.partition, &place)?
            };
            let times = if is_forgotten { &mut forgotten } else { &mut held };
            times.push(place.since.saturating_mul(1000));
        }
        let earliest = |times: Vec<i64>| times.into_iter().min();
        let is_forgotten = !forgotten.is_empty();
        let until = earliest(forgotten).or_else(|| earliest(held)).unwrap_or(horizon.saturating_mul(1000)).max(0);
        Ok(Reached { until: Timestamp::from_millisecond(until).unwrap_or(Timestamp::UNIX_EPOCH), is_forgotten })
    }

    /// What a route lacks. `retention` is how many milliseconds entries live, if they expire.
    ///
    /// Of its checkpoints those count that are moved behind the recovery: `skip` is from when on shards are read then, in
    /// seconds. What follows the others is still in the stream. Where none is moved, though something was forgotten, all
    /// count, and where there is none, its start.
    pub(super) async fn lost_since(
        &self,
        listing: &Listing,
        skip: i64,
        registration: &Registration,
        checkpoints: &[Checkpoint],
        retention: Option<i64>,
    ) -> Result<Lost, StoreError> {
        let expiring = |since: i64| retention.map(|retention| since.saturating_add(retention));
        let standing = Standing { checkpoints, listing };
        let (mut behind, mut all, mut recovered) = (Vec::new(), Vec::new(), None);
        let before = self.lineages_before(&standing).await?;
        for checkpoint in checkpoints {
            if checkpoint.partition.is_recovery() {
                let started = recovery::Name::parse(&checkpoint.partition)?.started;
                if checkpoint.finished {
                    recovered = recovered.max(Some(started));
                } else {
                    // What it has not read yet is behind, whatever the shards say.
                    let since = InScan::parse(&checkpoint.position)?.begin;
                    let kept = expiring(if since == i64::MIN { started } else { since });
                    behind.push(Lost { since, kept });
                }
                continue;
            }
            let place = InShard::parse(&checkpoint.position)?;
            let lost = Lost::behind(checkpoint, &place, retention);
            all.push(lost);
            let is_behind = if checkpoint.finished {
                standing.is_unfollowed(&before, &checkpoint.partition)?
            } else {
                self.is_moved(listing, skip, &checkpoint.partition, &place)?
            };
            if is_behind {
                behind.push(lost);
            }
        }
        let from = match recovered {
            Some(started) => Some(started),
            None => start::start_of(registration)?,
        };
        let rest = Lost { since: from.unwrap_or(i64::MIN), kept: from.and_then(expiring) };
        let found = if behind.is_empty() { all } else { behind };
        Ok(found.into_iter().reduce(Lost::and).unwrap_or(rest))
    }

    /// What is still known of streams that were disabled and of which the route has checkpoints.
    async fn lineages_before(&self, standing: &Standing<'_>) -> Result<Vec<Listing>, StoreError> {
        let shards = standing.checkpoints.iter().filter(|checkpoint| !checkpoint.partition.is_recovery());
        let labels: BTreeSet<&str> = shards
            .map(|checkpoint| stream::parts(&checkpoint.partition).map(|(label, _)| label))
            .collect::<Result<_, _>>()?;
        let mut found = Vec::new();
        for label in labels.into_iter().filter(|label| *label != standing.listing.stream.label) {
            let arn = self.arn(label).await?;
            if let Some(described) = self.describe(&arn).await? {
                let stream = stream::Stream { label: label.to_owned(), arn, ..standing.listing.stream.clone() };
                found.push(Listing { stream, is_on: described.is_enabled(), shards: described.shards });
            }
        }
        Ok(found)
    }

    /// Whether a route that stands there goes on behind the recovery instead: [`Place::order`](super::place::Place::order).
    fn is_moved(
        &self,
        listing: &Listing,
        skip: i64,
        partition: &PartitionId,
        place: &InShard,
    ) -> Result<bool, StoreError> {
        let (label, shard) = stream::parts(partition)?;
        let is_gone = label != listing.stream.label || !listing.shards.contains_key(shard);
        let forgotten = self.shards.known(partition).and_then(|known| known.forgotten);
        Ok(is_gone || place.since < skip || forgotten.is_some_and(|forgotten| forgotten >= place.since))
    }
}
