//! Which stream the table has, and which shards that has: every page of the listing.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use aws_sdk_dynamodb::types::{StreamSpecification, TableDescription};
use aws_sdk_dynamodbstreams::types::{StreamDescription, StreamStatus, StreamViewType};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use outbox::{ErrorKind, Partition, PartitionId, StoreError};

use super::{Inner, invalid, trimmed};
use crate::dynamodb::{calls::attempted, failure::Failure};

/// The times at which a table and its stream were made are less than so many milliseconds apart if they were made together:
/// an emulator rounds one of them to seconds. No stream is added to a table as soon as that, for it has to be active first.
const MADE_TOGETHER: i64 = 1000;

/// A stream of the table of entries.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) arn: String,
    /// The last part of the ARN: when it was enabled, as text.
    pub(super) label: String,
    /// When it was enabled, in seconds since 1970.
    pub(super) created: i64,
    /// Whether it was made with its table, and so began with the first item.
    pub(super) whole: bool,
}

/// A shard as it is listed.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) parent: Option<String>,
    /// Its last record, once it is closed.
    pub(super) last: Option<String>,
}

/// What was listed last.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    pub(super) stream: Stream,
    pub(super) shards: BTreeMap<String, Shard>,
    /// Whether what is written goes into it.
    pub(super) is_on: bool,
}

impl Listing {
    pub(super) fn partition(&self, shard: &str) -> PartitionId {
        PartitionId::new(format!("{}/{shard}", self.stream.label))
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        let parents = |shard: &Shard| shard.parent.iter().map(|parent| self.partition(parent)).collect();
        self.shards.iter().map(|(id, shard)| Partition { id: self.partition(id), parents: parents(shard) }).collect()
    }

    /// The shards that follow this one.
    pub(super) fn children<'a>(&'a self, shard: &'a str) -> impl Iterator<Item = &'a str> {
        let children = self.shards.iter().filter(move |(_, listed)| listed.parent.as_deref() == Some(shard));
        children.map(|(id, _)| id.as_str())
    }

    /// Shards that nothing that is listed comes before.
    pub(super) fn roots(&self) -> impl Iterator<Item = &str> {
        let is_root = |shard: &Shard| shard.parent.as_ref().is_none_or(|parent| !self.shards.contains_key(parent));
        self.shards.iter().filter(move |(_, shard)| is_root(shard)).map(|(id, _)| id.as_str())
    }

    /// Shards whose parent is not listed.
    fn orphans(&self) -> impl Iterator<Item = &String> {
        let shards = self.shards.iter();
        let orphans = shards.filter(|(_, shard)| shard.parent.as_ref().is_some_and(|p| !self.shards.contains_key(p)));
        orphans.map(|(id, _)| id)
    }
}

/// The parts of a partition's name: the stream's label, and the shard.
pub(super) fn parts(partition: &PartitionId) -> Result<(&str, &str), StoreError> {
    let parts = partition.as_str().split_once('/').filter(|(label, shard)| !label.is_empty() && !shard.is_empty());
    parts.ok_or_else(|| invalid(format!("`{partition}` is not a shard of a stream")))
}

impl Inner {
    /// What was listed last; looks if nobody did.
    pub(super) async fn listing(&self) -> Result<Arc<Listing>, StoreError> {
        let known = self.known();
        match known {
            Some(listing) => Ok(listing),
            None => self.look().await,
        }
    }

    fn known(&self) -> Option<Arc<Listing>> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lists the shards of the stream that the table has now.
    pub(super) async fn look(&self) -> Result<Arc<Listing>, StoreError> {
        let known = self.known();
        let still = match &known {
            Some(known) => self.describe(&known.stream.arn).await?.filter(Described::is_enabled),
            None => None,
        };
        let (stream, described) = match (&known, still) {
            (Some(known), Some(described)) => (known.stream.clone(), described),
            (known, _) => self.stream_of_table(known.as_deref()).await?,
        };
        described.check_view(self.store.tables().entries())?;
        let is_on = described.is_enabled();
        let mut listing = Listing { stream, shards: described.shards, is_on };
        // The pages of a listing are not of one moment: before a parent counts as gone, look again.
        let was_orphan = |id: &String| known.as_ref().is_some_and(|known| known.orphans().any(|orphan| orphan == id));
        if listing.orphans().any(|id| !was_orphan(id))
            && let Some(again) = self.describe(&listing.stream.arn).await?
        {
            listing.shards.extend(again.shards);
        }
        let listing = Arc::new(listing);
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = Some(listing.clone());
        Ok(listing)
    }

    /// The stream of this label, which may be one that was disabled.
    pub(super) async fn arn(&self, label: &str) -> Result<String, StoreError> {
        let listing = self.listing().await?;
        let (table, _) = listing.stream.arn.rsplit_once('/').unwrap_or_default();
        Ok(format!("{table}/{label}"))
    }

    /// The table of entries, described.
    pub(super) async fn table(&self) -> Result<TableDescription, StoreError> {
        const LOOKING: &str = "looking at the table of entries";
        let table = self.store.tables().entries();
        let attempt = || self.calls.client().describe_table().table_name(table).send();
        let output = self.calls.call(attempt).await.map_err(Failure::of_reading).map_err(attempted(LOOKING))?;
        output.table.ok_or_else(|| StoreError::new(ErrorKind::Unavailable, format!("{LOOKING}: nothing was described")))
    }

    /// The latest stream of the table; the one that was known, where the table does not name any more one that is off.
    async fn stream_of_table(&self, known: Option<&Listing>) -> Result<(Stream, Described), StoreError> {
        let table = self.table().await?;
        let name = self.store.tables().entries();
        let before = known.map(|known| (known.stream.arn.as_str(), known.stream.label.as_str()));
        let Some((arn, label)) = table.latest_stream_arn().zip(table.latest_stream_label()).or(before) else {
            let message = format!("table `{name}` has no stream: enable one with the view type NEW_IMAGE");
            return Err(StoreError::new(ErrorKind::Incompatible, message));
        };
        if !table.stream_specification().is_some_and(StreamSpecification::stream_enabled) {
            tracing::error!(
                table = name,
                stream = label,
                "the table's stream is off: nothing new is published. Enable one with the view type NEW_IMAGE; what is \
                 written meanwhile is read from the table then"
            );
        }
        let Some(described) = self.describe(arn).await? else {
            let message = format!("the stream `{label}` of table `{name}` is not there yet, or not any more");
            return Err(StoreError::new(ErrorKind::Unavailable, message));
        };
        let created = time_of(label).or(described.created).unwrap_or_else(|| self.calls.clock.wall());
        let made = table.creation_date_time().and_then(|made| made.to_millis().ok());
        let whole = made.is_some_and(|made| created.as_millisecond().saturating_sub(made) < MADE_TOGETHER);
        let created = created.as_second();
        Ok((Stream { arn: arn.to_owned(), label: label.to_owned(), created, whole }, described))
    }

    /// All pages of a stream's description; `None` if there is no such stream any more.
    pub(super) async fn describe(&self, arn: &str) -> Result<Option<Described>, StoreError> {
        const LISTING: &str = "listing the shards of a stream";
        let mut all = Described::default();
        let mut from: Option<String> = None;
        loop {
            let request = self.streams.describe_stream().stream_arn(arn).set_exclusive_start_shard_id(from.clone());
            let output = match self.calls.call(|| request.clone().send()).await {
                Ok(output) => output,
                Err(failure) if failure.code.as_deref() == Some("ResourceNotFoundException") => return Ok(None),
                Err(failure) => return Err(failure.of_reading().store_error(LISTING)),
            };
            let page = output.stream_description.unwrap_or_else(|| StreamDescription::builder().build());
            let next = page.last_evaluated_shard_id.clone();
            all.add(page);
            // That there is no such id is the only sign of the end; a page may be empty before it.
            match next {
                None => return Ok(Some(all)),
                Some(_) if next == from => {
                    return Err(StoreError::new(ErrorKind::Unavailable, format!("{LISTING}: it does not get on")));
                }
                Some(_) => from = next,
            }
        }
    }
}

/// What a description says.
#[derive(Default)]
pub(super) struct Described {
    status: Option<StreamStatus>,
    view: Option<StreamViewType>,
    created: Option<Timestamp>,
    pub(super) shards: BTreeMap<String, Shard>,
}

impl Described {
    fn add(&mut self, page: StreamDescription) {
        self.status = page.stream_status.or(self.status.take());
        self.view = page.stream_view_type.or(self.view.take());
        let created = page.creation_request_date_time.and_then(|time| time.to_millis().ok());
        self.created = created.and_then(|created| Timestamp::from_millisecond(created).ok()).or(self.created);
        for shard in page.shards.unwrap_or_default() {
            let Some(id) = shard.shard_id else { continue };
            let last = shard.sequence_number_range.and_then(|range| range.ending_sequence_number);
            self.shards.insert(id, Shard { parent: shard.parent_shard_id, last });
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        matches!(self.status, Some(StreamStatus::Enabled | StreamStatus::Enabling))
    }

    fn check_view(&self, table: &str) -> Result<(), StoreError> {
        match &self.view {
            None | Some(StreamViewType::NewImage | StreamViewType::NewAndOldImages) => Ok(()),
            Some(view) => {
                let message = format!(
                    "table `{table}` has a stream of view type {}, which does not show the entries: disable it, and enable one with NEW_IMAGE",
                    view.as_str()
                );
                Err(StoreError::new(ErrorKind::Incompatible, message))
            }
        }
    }
}

/// When a stream was enabled, by its label, as `2015-05-11T21:21:33.291`: in UTC.
fn time_of(label: &str) -> Option<Timestamp> {
    let time = label.trim_end_matches('Z').parse::<DateTime>().ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

/// That the stream of a partition is another one by now.
pub(super) fn check_label(listing: &Listing, label: &str) -> Result<(), StoreError> {
    if listing.stream.label == label {
        return Ok(());
    }
    Err(trimmed(format!(
        "stream `{label}` was disabled, and `{}` enabled in its place: what was written in between is in neither",
        listing.stream.label
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_when_the_stream_was_enabled() {
        for label in ["2015-05-11T21:21:33.291", "2015-05-11T21:21:33.291Z"] {
            assert_eq!(time_of(label), Timestamp::from_millisecond(1_431_379_293_291).ok());
        }
        assert_eq!(time_of("latest"), None);
    }

    #[test]
    fn a_partition_s_name_has_a_label_and_a_shard() {
        assert_eq!(parts(&PartitionId::new("2015/shardId-1/x")).unwrap(), ("2015", "shardId-1/x"));
        for foreign in ["", "shard", "/shard", "label/"] {
            assert!(parts(&PartitionId::new(foreign)).is_err(), "{foreign}");
        }
    }
}
