//! What is known of a batch that comes again: functions of Lambda note it when they fail a batch behind whose first unpublished
//! record others went out, or of which nothing is accepted and nobody says why.

use jiff::Timestamp;
use outbox::{ErrorKind, Position, RouteName, StoreError, bookkeeping::Lease};

use super::{
    books::{Books, Sent, damaged},
    routes::RouteRow,
    rows::{If, Row, fitting},
};
use crate::dynamodb::item::{item, number, number_of, text, text_of};

const READING: &str = "reading what was done of a batch";
const NOTING: &str = "noting what was done of a batch";
/// An item has 400 KB at most. What does not fit is published twice.
const MOST: usize = 300_000;
/// The stream remembers a record for 24 hours: older notes are of batches that never come again.
const FORGET_SECONDS: i64 = 25 * 60 * 60;

/// What is known of a batch that comes again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redelivery {
    /// What was done of it: events by the position behind their record and their number in it.
    pub done: Vec<(Position, u32)>,
    /// Since when nothing of it is accepted, and the target does not say whose fault that is.
    pub doubted: Option<Timestamp>,
}

fn row(route: &RouteRow, batch: &str) -> Row {
    Row::new("redelivery", fitting(&route.prefix(), batch))
}

impl Books {
    pub(super) async fn redelivery(&self, name: &RouteName, batch: &str) -> Result<Redelivery, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Redelivery::default()) };
        let row = row(&route, batch);
        let Some(found) = self.get(&row, READING).await? else { return Ok(Redelivery::default()) };
        let done = text_of(&found, "done").and_then(|done| serde_json::from_str::<Vec<(String, u32)>>(done).ok());
        let done = done.ok_or_else(|| damaged("redelivery", &row.name, "done"))?;
        let doubted = number_of(&found, "doubted").map(Timestamp::from_second).transpose();
        Ok(Redelivery {
            done: done.into_iter().map(|(position, index)| (Position::new(position), index)).collect(),
            doubted: doubted.map_err(|_| damaged("redelivery", &row.name, "doubted"))?,
        })
    }

    pub(super) async fn note_redelivery(
        &self,
        lease: &Lease,
        name: &RouteName,
        batch: &str,
        redelivery: &Redelivery,
    ) -> Result<(), StoreError> {
        let mut bytes = 2;
        let noted =
            redelivery.done.iter().map(|(position, index)| (position.as_str(), *index)).take_while(|(position, _)| {
                // Quotes, brackets and the number besides; and what JSON escapes is twice as long at most.
                bytes += 2 * position.len() + 24;
                bytes <= MOST
            });
        let json = serde_json::to_string(&noted.collect::<Vec<_>>())
            .map_err(|error| StoreError::new(ErrorKind::Invalid, format!("{NOTING}: {error}")))?;
        let now = self.calls.clock.wall().as_second();
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_or_new(name).await?;
            let mut attributes = item([("done", text(&json)), ("noted", number(now))]);
            attributes.extend(redelivery.doubted.map(|since| ("doubted".to_owned(), number(since.as_second()))));
            let put = self.actions().put(&row(&route, batch), attributes, If::Anything)?;
            match self.write(Some(lease), Some(self.called(&route)?), vec![put], NOTING).await? {
                Sent::Done => return Ok(()),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(NOTING)),
            }
        }
    }

    pub(super) async fn forget_redelivery(&self, name: &RouteName, batch: &str) -> Result<(), StoreError> {
        if let Some(route) = self.route(name).await? {
            self.sweep(vec![row(&route, batch)]).await;
        }
        Ok(())
    }

    pub(super) async fn sweep_redeliveries(&self, now: Timestamp) -> Result<(), StoreError> {
        let found = self.all("redelivery", "", READING).await?;
        let is_old = |noted: i64| now.as_second().saturating_sub(noted) > FORGET_SECONDS;
        let old = found.iter().filter(|row| number_of(row, "noted").is_none_or(is_old));
        let rows = old.filter_map(|row| text_of(row, "name")).map(|name| Row::new("redelivery", name));
        self.sweep(rows.collect()).await;
        Ok(())
    }
}
