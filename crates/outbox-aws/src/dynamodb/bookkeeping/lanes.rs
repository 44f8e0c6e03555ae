//! Lanes in trouble: one row each, whatever is kept in it.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;
use outbox::{
    RouteName, StoreError,
    bookkeeping::{Front, FrontState, Kept, KeptCounts, Lane, Trouble},
};

use super::{
    batch::{self, Index},
    books::{Books, LAST, damaged},
    routes::RouteRow,
    rows::{If, Row, lane_name, padded},
};
use crate::dynamodb::item::{Item, item, number, number_of, text, text_of};

const READING: &str = "reading kept events";

/// A lane's row.
#[derive(Clone, Debug)]
pub(super) struct LaneRow {
    pub(super) row: Row,
    pub(super) trouble: Trouble,
    /// Rises with each write of the same trouble.
    pub(super) version: u64,
    /// The generation as it was read: with the version it tells what was read from everything that ever stood here.
    pub(super) seen_generation: u64,
    /// The number of its first event: what has a lower one is done with.
    pub(super) first: u64,
    /// The keys of its events, where the lane is not a key's.
    pub(super) keys: BTreeSet<String>,
}

/// The row of a lane.
pub(super) fn row(route: &RouteRow, lane: &Lane) -> Row {
    Row::new("trouble", format!("{}{}", route.prefix(), lane_name(lane)))
}

impl LaneRow {
    pub(super) fn read(found: &Item) -> Result<Self, StoreError> {
        let name = text_of(found, "name").unwrap_or_default();
        let wrong = |what| damaged("trouble", name, what);
        let number = |what| number_of::<u64>(found, what).ok_or_else(|| wrong(what));
        let time =
            |what| text_of(found, what).and_then(|time| time.parse::<Timestamp>().ok()).ok_or_else(|| wrong(what));
        let words = |what| text_of(found, what).map(str::to_owned).ok_or_else(|| wrong(what));
        let state = match text_of(found, "state") {
            Some("retrying") => FrontState::Retrying { due: time("due")? },
            Some("dead") => FrontState::Dead,
            Some("discarded") => FrontState::Discarded { reason: words("discard_reason")? },
            Some(_) | None => return Err(wrong("state")),
        };
        let attempts = number_of(found, "attempts").ok_or_else(|| wrong("attempts"))?;
        let keys = found.get("keys").and_then(|keys| keys.as_ss().ok());
        Ok(Self {
            row: Row::new("trouble", name),
            trouble: Trouble {
                lane: text_of(found, "lane").and_then(Lane::from_text).ok_or_else(|| wrong("lane"))?,
                generation: number("generation")?,
                front: Front { state, attempts, failed_since: time("failed_since")?, reason: words("reason")? },
                kept: number("kept")?,
            },
            version: number("version")?,
            seen_generation: number("generation")?,
            first: number("first")?,
            keys: keys.into_iter().flatten().cloned().collect(),
        })
    }

    fn attributes(&self, version: u64) -> Item {
        let Trouble { lane, generation, front, kept } = &self.trouble;
        let mut attributes = item([
            ("lane", text(lane.to_text())),
            ("generation", number(generation)),
            ("version", number(version)),
            ("first", number(self.first)),
            ("kept", number(kept)),
            ("attempts", number(front.attempts)),
            ("failed_since", text(front.failed_since.to_string())),
            ("reason", text(&front.reason)),
        ]);
        attributes.extend(match &front.state {
            FrontState::Retrying { due } => {
                item([("state", text("retrying")), ("due", text(due.to_string()))]).into_iter()
            }
            FrontState::Dead => item([("state", text("dead"))]).into_iter(),
            FrontState::Discarded { reason } => {
                item([("state", text("discarded")), ("discard_reason", text(reason))]).into_iter()
            }
        });
        if !self.keys.is_empty() {
            attributes.insert("keys".to_owned(), AttributeValue::Ss(self.keys.iter().cloned().collect()));
        }
        attributes
    }

    fn as_read(&self) -> If {
        If::Has(vec![("generation", number(self.seen_generation)), ("version", number(self.version))])
    }
}

impl Books {
    pub(super) async fn lane(&self, row: &Row) -> Result<Option<LaneRow>, StoreError> {
        self.get(row, READING).await?.as_ref().map(LaneRow::read).transpose()
    }

    /// The action that opens a lane.
    pub(super) fn opens_lane(&self, lane: &LaneRow) -> Result<TransactWriteItem, StoreError> {
        self.actions().put(&lane.row, lane.attributes(1), If::Absent)
    }

    /// The action that writes a lane which is as it was read, but for what is new in it.
    pub(super) fn writes_lane(&self, lane: &LaneRow) -> Result<TransactWriteItem, StoreError> {
        self.actions().put(&lane.row, lane.attributes(lane.version + 1), lane.as_read())
    }

    /// The action that releases a lane which is as it was read.
    pub(super) fn releases_lane(&self, lane: &LaneRow) -> Result<TransactWriteItem, StoreError> {
        self.actions().delete(&lane.row, lane.as_read())
    }

    /// Indexes of a lane from its first event on, page by page until that is `enough`.
    pub(super) async fn indexes(
        &self,
        lane: &LaneRow,
        mut enough: impl FnMut(&[Index]) -> bool,
    ) -> Result<Vec<Index>, StoreError> {
        let read = |items: &[Item]| items.iter().map(Index::read).collect::<Result<Vec<_>, _>>();
        let (kind, from) = (batch::kind(&lane.row.name), padded(lane.first));
        let to = LAST.to_string();
        let found = self.query(&kind, &from, &to, READING, |items| read(items).is_ok_and(|read| enough(&read))).await?;
        read(&found)
    }

    /// All indexes of a lane from the event with a number on.
    pub(super) async fn indexes_from(&self, lane: &LaneRow, number: u64) -> Result<Vec<Index>, StoreError> {
        let (kind, from) = (batch::kind(&lane.row.name), padded(number));
        let found = self.query(&kind, &from, &LAST.to_string(), READING, |_| false).await?;
        found.iter().map(Index::read).collect()
    }

    /// All lanes of a route.
    pub(super) async fn lanes(&self, route: &RouteRow) -> Result<Vec<LaneRow>, StoreError> {
        let found = self.all("trouble", &route.prefix(), READING).await?;
        found.iter().map(LaneRow::read).collect()
    }

    pub(super) async fn troubles(
        &self,
        name: &RouteName,
        after: Option<&Lane>,
        limit: usize,
    ) -> Result<Vec<Trouble>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Vec::new()) };
        let after = after.map(|lane| row(&route, lane).name);
        let (from, to) = (after.clone().unwrap_or_else(|| route.prefix()), format!("{}{LAST}", route.prefix()));
        let found = self.query("trouble", &from, &to, READING, |rows| rows.len() > limit).await?;
        let behind = found.iter().filter(|row| text_of(row, "name") != after.as_deref());
        behind.take(limit).map(|row| LaneRow::read(row).map(|lane| lane.trouble)).collect()
    }

    pub(super) async fn trouble(&self, name: &RouteName, lane: &Lane) -> Result<Option<Trouble>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(None) };
        Ok(self.lane(&row(&route, lane)).await?.map(|lane| lane.trouble))
    }

    pub(super) async fn kept(&self, name: &RouteName, lane: &Lane, limit: usize) -> Result<Vec<Kept>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Vec::new()) };
        let mut pauses = self.calls.pauses();
        loop {
            let Some(lane) = self.lane(&row(&route, lane)).await? else { return Ok(Vec::new()) };
            if let Some(kept) = self.kept_in(&lane, limit).await? {
                return Ok(kept);
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(damaged("content", &lane.row.name, "contents"));
            }
        }
    }

    /// The first events of a lane; `None` if it was settled meanwhile.
    pub(super) async fn kept_in(&self, lane: &LaneRow, limit: usize) -> Result<Option<Vec<Kept>>, StoreError> {
        let count = |indexes: &[Index]| {
            indexes.iter().flat_map(|index| &index.entries).filter(|entry| entry.0 >= lane.first).count()
        };
        let indexes = self.indexes(lane, |indexes| count(indexes) >= limit).await?;
        let mut kept = Vec::new();
        for index in &indexes {
            let wanted = limit.saturating_sub(kept.len());
            let last =
                index.entries.iter().filter(|entry| entry.0 >= lane.first).take(wanted).last().map(|entry| entry.0);
            let Some(last) = last else { continue };
            let contents = self.contents(index, |entry| entry.0 >= lane.first && entry.0 <= last).await?;
            let Some(contents) = contents else { return Ok(None) };
            for (entry, stored) in &contents {
                kept.push(batch::kept(entry, stored)?);
            }
        }
        Ok(Some(kept))
    }

    pub(super) async fn kept_counts(&self, name: &RouteName) -> Result<KeptCounts, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(KeptCounts::default()) };
        let mut counts = KeptCounts::default();
        for LaneRow { trouble, .. } in self.lanes(&route).await? {
            counts.lanes += 1;
            counts.parked += trouble.kept.saturating_sub(1);
            match trouble.front.state {
                FrontState::Retrying { .. } => counts.retrying += 1,
                FrontState::Dead => counts.dead += 1,
                FrontState::Discarded { .. } => {}
            }
        }
        Ok(counts)
    }

    /// Sweeps all that was ever kept in a lane of a route that is forgotten. Says whether nothing is left.
    pub(super) async fn sweep_lane(&self, lane: &str) -> Result<bool, StoreError> {
        let mut swept = true;
        for found in self.all(&batch::kind(lane), "", READING).await? {
            swept &= self.sweep(Index::read(&found)?.rows()).await;
        }
        Ok(swept)
    }
}
