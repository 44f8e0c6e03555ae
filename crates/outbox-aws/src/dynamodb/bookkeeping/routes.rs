//! Names of routes. All rows of a route are named by an id of its own, which its name leads to: so a route is given another
//! name, or forgotten, in one write, however much it has.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use outbox::{CommitId, ErrorKind, RouteName, StoreError};

use super::{
    books::{Books, LAST, Sent, damaged},
    rows::{Change, If, Row},
};
use crate::dynamodb::item::{Item, item, number, number_of, text, text_of};

const READING: &str = "reading the routes' names";

/// How many routes and replays may get another name, or be forgotten, in one transaction.
const AT_ONCE: usize = 40;

/// The row that a route's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteRow {
    pub(super) row: Row,
    /// The id that its rows are named by.
    pub(super) id: String,
    /// How many lanes came into trouble so far: whoever finds a lane free, and opens it, is the first to do so since it
    /// looked.
    opened: u64,
}

impl RouteRow {
    fn read(found: &Item) -> Result<Self, StoreError> {
        let name = text_of(found, "name").unwrap_or_default().to_owned();
        let id = text_of(found, "id").ok_or_else(|| damaged("route", &name, "id"))?.to_owned();
        let opened = number_of(found, "opened").ok_or_else(|| damaged("route", &name, "opened"))?;
        Ok(Self { row: Row::new("route", name), id, opened })
    }

    /// The row's attributes besides its name.
    fn attributes(&self) -> Item {
        item([("id", text(&self.id)), ("opened", number(self.opened))])
    }

    /// What the names of its rows begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}#", self.id)
    }
}

impl Books {
    /// The route's row, if it has any.
    pub(super) async fn route(&self, name: &RouteName) -> Result<Option<RouteRow>, StoreError> {
        let found = self.get(&Row::new("route", name.as_str()), READING).await?;
        found.as_ref().map(RouteRow::read).transpose()
    }

    /// The route's row, made if it has none. A name that leads nowhere is no trace of a route.
    pub(super) async fn route_or_new(&self, name: &RouteName) -> Result<RouteRow, StoreError> {
        loop {
            if let Some(found) = self.route(name).await? {
                return Ok(found);
            }
            let id = CommitId(self.calls.entropy.sixteen()).to_string();
            let new = RouteRow { row: Row::new("route", name.as_str()), id, opened: 0 };
            let put = self.actions().put(&new.row, new.attributes(), If::Absent)?;
            match self.write(None, None, vec![put], "naming a route").await? {
                Sent::Done => return Ok(new),
                // Somebody else named it.
                Sent::Changed => {}
            }
        }
    }

    /// The action that opens a lane of `route`: nobody opened one since the route was read.
    pub(super) fn opens(&self, route: &RouteRow) -> Result<TransactWriteItem, StoreError> {
        let change = Change { add: vec![("opened", number(1))], ..Change::default() };
        let seen = If::Has(vec![("id", text(&route.id)), ("opened", number(route.opened))]);
        self.actions().update(&route.row, change, seen)
    }

    /// Names by id, of all routes and replays.
    pub(super) async fn names(&self) -> Result<BTreeMap<String, RouteName>, StoreError> {
        let rows = self.all("route", "", READING).await?;
        let name = |row: &Item| {
            let route = RouteRow::read(row)?;
            Ok((route.id, RouteName::stored(&route.row.name)))
        };
        rows.iter().map(name).collect()
    }

    /// The route itself, and the temporary ones of its replays.
    async fn with_replays(&self, name: &RouteName) -> Result<Vec<RouteRow>, StoreError> {
        let mut rows: Vec<_> = self.route(name).await?.into_iter().collect();
        let replays = self.all("route", &format!("{name}/replay/"), READING).await?;
        for replay in &replays {
            rows.push(RouteRow::read(replay)?);
        }
        if rows.len() > AT_ONCE {
            let message = format!(
                "route `{name}` has {} replays, more than one transaction takes: end those that are finished first",
                rows.len() - 1
            );
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        Ok(rows)
    }

    pub(super) async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        const RENAMING: &str = "renaming a route";
        let mut pauses = self.calls.pauses();
        loop {
            let taken = self.with_replays(to).await?;
            for route in &taken {
                if let Some(what) = self.something_of(route).await? {
                    let message = format!(
                        "the bookkeeping knows a route `{to}` already (its {what}): choose another name, or `outbox route retire {to}` first"
                    );
                    return Err(StoreError::new(ErrorKind::Invalid, message));
                }
            }
            let actions = self.actions();
            let mut rows = vec![self.changed()?];
            let mut unused: BTreeMap<_, _> = taken.into_iter().map(|route| (route.row.name.clone(), route)).collect();
            for route in self.with_replays(from).await? {
                let name = format!("{to}{}", route.row.name.get(from.as_str().len()..).unwrap_or_default());
                let new = Row::new("route", &name);
                let seen = match unused.remove(&name) {
                    Some(unused) => If::Has(vec![("id", text(&unused.id))]),
                    None => If::Absent,
                };
                rows.push(actions.put(&new, route.attributes(), seen)?);
                let as_read = If::Has(vec![("id", text(&route.id)), ("opened", number(route.opened))]);
                rows.push(actions.delete(&route.row, as_read)?);
            }
            if self.write(None, None, rows, RENAMING).await? == Sent::Done {
                return Ok(());
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(RENAMING));
            }
        }
    }

    /// What there is of a route, if anything is.
    async fn something_of(&self, route: &RouteRow) -> Result<Option<&'static str>, StoreError> {
        const LOOKING: &str = "looking for what a route has";
        for kind in ["checkpoint", "trouble", "tombstone"] {
            let (from, to) = (route.prefix(), format!("{}{LAST}", route.prefix()));
            if !self.query(kind, &from, &to, LOOKING, super::books::one_page).await?.is_empty() {
                return Ok(Some(kind));
            }
        }
        for kind in ["health", "paused"] {
            if self.get(&Row::new(kind, &route.id), LOOKING).await?.is_some() {
                return Ok(Some(kind));
            }
        }
        let replays = self.all("replay", "", LOOKING).await?;
        Ok(replays.iter().any(|replay| text_of(replay, "route") == Some(&route.id)).then_some("replay"))
    }

    /// Forgets a route at once, by its name, and then sweeps what it had. What a sweep that is broken off leaves, the next
    /// one finds.
    pub(super) async fn forget_route(&self, name: &RouteName) -> Result<(), StoreError> {
        const FORGETTING: &str = "forgetting a route";
        let mut pauses = self.calls.pauses();
        loop {
            let actions = self.actions();
            let mut rows = vec![self.changed()?];
            for route in self.with_replays(name).await? {
                rows.push(actions.delete(&route.row, If::Has(vec![("id", text(&route.id))]))?);
                rows.push(actions.put(&Row::new("forgotten", &route.id), Item::new(), If::Anything)?);
            }
            if self.write(None, None, rows, FORGETTING).await? == Sent::Done {
                break;
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(FORGETTING));
            }
        }
        self.sweep_forgotten().await
    }

    async fn sweep_forgotten(&self) -> Result<(), StoreError> {
        const SWEEPING: &str = "sweeping what forgotten routes had";
        for forgotten in self.all("forgotten", "", SWEEPING).await? {
            let Some(id) = text_of(&forgotten, "name") else { continue };
            let prefix = format!("{id}#");
            let mut swept = true;
            for trouble in self.all("trouble", &prefix, SWEEPING).await? {
                let Some(lane) = text_of(&trouble, "name") else { continue };
                // This row alone leads to what the lane keeps: it goes last.
                swept &= self.sweep_lane(lane).await? && self.sweep(vec![Row::new("trouble", lane)]).await;
            }
            for kind in ["checkpoint", "tombstone"] {
                let rows = self.all(kind, &prefix, SWEEPING).await?;
                let rows = rows.iter().filter_map(|row| Some(Row::new(kind, text_of(row, "name")?)));
                swept &= self.sweep(rows.collect()).await;
            }
            let replays = self.all("replay", "", SWEEPING).await?;
            let replays = replays.iter().filter(|replay| text_of(replay, "route") == Some(id));
            let replays = replays.filter_map(|replay| Some(Row::new("replay", text_of(replay, "name")?)));
            swept &= self.sweep(replays.collect()).await;
            swept &= self.sweep(["health", "paused", "watermark"].map(|kind| Row::new(kind, id)).to_vec()).await;
            if swept {
                self.sweep(vec![Row::new("forgotten", id)]).await;
            }
        }
        Ok(())
    }

    pub(super) async fn paused(&self) -> Result<Vec<RouteName>, StoreError> {
        let (names, paused) = (self.names().await?, self.all("paused", "", "reading paused routes").await?);
        let name = |row: &Item| names.get(text_of(row, "name")?).cloned();
        let mut paused: Vec<_> = paused.iter().filter_map(name).collect();
        paused.sort_unstable();
        Ok(paused)
    }

    pub(super) async fn pause(&self, name: &RouteName, paused: bool) -> Result<(), StoreError> {
        const PAUSING: &str = "pausing or resuming a route";
        let mut retries = self.calls.pauses();
        loop {
            let route = self.route_or_new(name).await?;
            let row = Row::new("paused", &route.id);
            let action = if paused {
                self.actions().put(&row, Item::new(), If::Anything)?
            } else {
                self.actions().delete(&row, If::Anything)?
            };
            let rows = vec![action, self.changed()?];
            if self.write(None, Some(self.called(&route)?), rows, PAUSING).await? == Sent::Done {
                return Ok(());
            }
            if !retries.wait(&*self.calls.clock).await {
                return Err(Self::busy(PAUSING));
            }
        }
    }
}

/// A flag as an attribute.
pub(super) fn flag(value: bool) -> AttributeValue {
    AttributeValue::Bool(value)
}
