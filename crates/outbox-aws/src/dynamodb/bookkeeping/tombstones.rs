//! Discarded events that a restart may read again.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::TransactWriteItem;
use outbox::{
    PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Lease, Tombstone},
};

use super::{
    batch::Stored,
    books::{Books, Sent, damaged},
    routes::RouteRow,
    rows::{If, Row},
};
use crate::dynamodb::item::{item, text, text_of};

const READING: &str = "reading tombstones";

impl Books {
    /// The route's tombstones, each with its row.
    pub(super) async fn tombstone_rows(&self, route: &RouteRow) -> Result<Vec<(Row, Tombstone)>, StoreError> {
        let found = self.all("tombstone", &route.prefix(), READING).await?;
        let read = found.iter().map(|row| {
            let name = text_of(row, "name").unwrap_or_default();
            let text = |what| text_of(row, what).ok_or_else(|| damaged("tombstone", name, what));
            let (partition, position) = (PartitionId::new(text("partition")?), Position::new(text("position")?));
            Ok((Row::new("tombstone", name), (text("event_id")?.into(), partition, position)))
        });
        read.collect()
    }

    /// Identities of the route's discarded events.
    pub(super) async fn buried(&self, route: &RouteRow) -> Result<HashSet<String>, StoreError> {
        let found = self.all("tombstone", &route.prefix(), READING).await?;
        let identity = |name: &str| name.split_once('#').map(|(_, identity)| identity.to_owned());
        Ok(found.iter().filter_map(|row| identity(text_of(row, "name")?)).collect())
    }

    /// The action that buries a kept event.
    pub(super) fn buries(
        &self,
        route: &RouteRow,
        identity: &str,
        stored: &Stored,
    ) -> Result<TransactWriteItem, StoreError> {
        let row = Row::new("tombstone", format!("{}{identity}", route.prefix()));
        let attributes = item([
            ("event_id", text(&stored.event_id)),
            ("partition", text(&stored.partition)),
            ("position", text(&stored.position)),
        ]);
        self.actions().put(&row, attributes, If::Anything)
    }

    pub(super) async fn tombstones(&self, name: &RouteName) -> Result<Vec<Tombstone>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Vec::new()) };
        let mut tombstones: Vec<_> = self.tombstone_rows(&route).await?.into_iter().map(|(_, of)| of).collect();
        tombstones.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(tombstones)
    }

    pub(super) async fn forget_tombstones(
        &self,
        lease: &Lease,
        name: &RouteName,
        passed: &[Tombstone],
    ) -> Result<(), StoreError> {
        const FORGETTING: &str = "forgetting tombstones";
        let mut pauses = self.calls.pauses();
        loop {
            let Some(route) = self.route(name).await? else { return self.expect_held(lease).await };
            let found = self.tombstone_rows(&route).await?;
            let gone: Vec<_> = found.into_iter().filter(|(_, of)| passed.contains(of)).map(|(row, _)| row).collect();
            match self.delete_all(lease, &route, &gone, FORGETTING).await? {
                Sent::Done => return Ok(()),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(FORGETTING)),
            }
        }
    }
}
