//! Replays that were asked for.

use jiff::Timestamp;
use outbox::{
    ErrorKind, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Lease, Replay},
};

use super::{
    books::{Books, Sent, damaged},
    routes::flag,
    rows::{Change, If, Row},
};
use crate::dynamodb::item::{Item, flag_of, item, number, number_of, text, text_of};

fn row(id: &str) -> Row {
    Row::new("replay", id)
}

impl Books {
    pub(super) async fn replays(&self) -> Result<Vec<Replay>, StoreError> {
        const READING: &str = "reading replays";
        let (names, found) = (self.names().await?, self.all("replay", "", READING).await?);
        let mut replays = Vec::new();
        for row in &found {
            // One of a route that was forgotten is forgotten with it.
            let Some(route) = text_of(row, "route").and_then(|id| names.get(id)) else { continue };
            replays.push((number_of::<u64>(row, "number").unwrap_or(0), read(row, route)?));
        }
        replays.sort_by_key(|(number, replay)| (replay.finished, *number));
        Ok(replays.into_iter().map(|(_, replay)| replay).collect())
    }

    pub(super) async fn put_replay(&self, replay: &Replay) -> Result<(), StoreError> {
        const PUTTING: &str = "storing a replay";
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_or_new(&replay.route).await?;
            let asked = self.get(&row(&replay.id), PUTTING).await?.and_then(|found| number_of(&found, "number"));
            let number = match asked {
                Some(number) => number,
                None => self.numbers(1).await?,
            };
            let put = self.actions().put(&row(&replay.id), attributes(replay, &route.id, number)?, If::Anything)?;
            let rows = vec![put, self.changed()?];
            match self.write(None, Some(self.called(&route)?), rows, PUTTING).await? {
                Sent::Done => return Ok(()),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(PUTTING)),
            }
        }
    }

    pub(super) async fn note_replayed(&self, lease: &Lease, replay: &str) -> Result<(), StoreError> {
        const NOTING: &str = "noting a replay as finished";
        let mut pauses = self.calls.pauses();
        loop {
            let Some(found) = self.get(&row(replay), NOTING).await? else { return self.expect_held(lease).await };
            let asked = number_of::<u64>(&found, "number").ok_or_else(|| damaged("replay", replay, "number"))?;
            let change = Change { set: vec![("finished", flag(true))], ..Change::default() };
            let finished = self.actions().update(&row(replay), change, If::Has(vec![("number", number(asked))]))?;
            match self.write(Some(lease), None, vec![finished], NOTING).await? {
                Sent::Done => return Ok(()),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(NOTING)),
            }
        }
    }
}

fn attributes(replay: &Replay, route: &str, asked: u64) -> Result<Item, StoreError> {
    let failed = |error: serde_json::Error| StoreError::new(ErrorKind::Invalid, format!("storing a replay: {error}"));
    let ends: Vec<_> =
        replay.ends.iter().map(|(partition, position)| (partition.as_str(), position.as_str())).collect();
    let mut attributes = item([
        ("route", text(route)),
        ("filter", text(serde_json::to_string(&replay.filter).map_err(failed)?)),
        ("ends", text(serde_json::to_string(&ends).map_err(failed)?)),
        ("finished", flag(replay.finished)),
        ("number", number(asked)),
    ]);
    let time = |time: Timestamp| text(time.to_string());
    let optional = [
        ("event", replay.event.as_ref().map(text)),
        ("since", replay.since.map(time)),
        ("until", replay.until.map(time)),
    ];
    attributes.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Ok(attributes)
}

fn read(found: &Item, route: &RouteName) -> Result<Replay, StoreError> {
    let id = text_of(found, "name").unwrap_or_default();
    let wrong = |what| damaged("replay", id, what);
    let time = |what| -> Result<Option<Timestamp>, StoreError> {
        text_of(found, what).map(|time| time.parse().map_err(|_| wrong(what))).transpose()
    };
    let ends = text_of(found, "ends").and_then(|ends| serde_json::from_str::<Vec<(String, String)>>(ends).ok());
    let ends = ends.ok_or_else(|| wrong("ends"))?.into_iter();
    Ok(Replay {
        id: id.to_owned(),
        route: route.clone(),
        filter: text_of(found, "filter")
            .and_then(|filter| serde_json::from_str(filter).ok())
            .ok_or_else(|| wrong("filter"))?,
        event: text_of(found, "event").map(str::to_owned),
        since: time("since")?,
        until: time("until")?,
        ends: ends.map(|(partition, position)| (PartitionId::new(partition), Position::new(position))).collect(),
        finished: flag_of(found, "finished"),
    })
}
