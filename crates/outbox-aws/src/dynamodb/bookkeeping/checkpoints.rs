//! Checkpoints, each with what was read before it: one row for a route and partition.

use std::{
    collections::{HashMap, HashSet},
    sync::{MutexGuard, PoisonError, atomic::Ordering},
};

use outbox::{
    CommitId, ErrorKind, PartitionId, Position, RouteName, StoreError,
    bookkeeping::{Checkpoint, Lease, ListedWitness, WitnessList},
    store::Witness,
};

use super::{
    books::{Books, ROWS, Sent, damaged},
    routes::{RouteRow, flag},
    rows::{If, Row, fitting},
};
use crate::dynamodb::item::{Item, flag_of, item, number, number_of, text, text_of};

/// So many checkpoints are remembered by a handle, to be spared reading them before the next ones.
const REMEMBERED: usize = 4_096;

const READING: &str = "reading checkpoints";

/// A checkpoint's row as it was read or written last.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Rises with each write; 0 if there is no row.
    version: u64,
    witnesses: WitnessList,
}

fn row(route: &RouteRow, partition: &PartitionId) -> Row {
    Row::new("checkpoint", fitting(&route.prefix(), partition.as_str()))
}

fn read_checkpoint(found: &Item) -> Result<Checkpoint, StoreError> {
    let name = text_of(found, "name").unwrap_or_default();
    let text = |what| text_of(found, what).ok_or_else(|| damaged("checkpoint", name, what));
    Ok(Checkpoint {
        partition: PartitionId::new(text("partition")?),
        position: Position::new(text("position")?),
        finished: flag_of(found, "finished"),
    })
}

/// Witnesses as they are stored: number, index, position, commit.
type StoredWitness = (u64, u64, String, String);

fn read_known(found: &Item) -> Result<Known, StoreError> {
    let name = text_of(found, "name").unwrap_or_default();
    let wrong = |what| damaged("checkpoint", name, what);
    let stored = text_of(found, "witnesses").and_then(|json| serde_json::from_str::<Vec<StoredWitness>>(json).ok());
    let listed = stored.ok_or_else(|| wrong("witnesses"))?.into_iter().map(|(number, index, position, commit)| {
        let commit = u128::from_str_radix(&commit, 16).map_err(|_| wrong("witnesses"))?;
        let witness = Witness { position: Position::new(position), commit: CommitId(commit.to_be_bytes()) };
        Ok(ListedWitness { number, index, witness })
    });
    let listed = listed.collect::<Result<Vec<_>, StoreError>>()?;
    let added = number_of(found, "witnessed").ok_or_else(|| wrong("witnessed"))?;
    let version = number_of(found, "version").ok_or_else(|| wrong("version"))?;
    Ok(Known { version, witnesses: WitnessList::stored(listed, added) })
}

fn attributes(checkpoint: &Checkpoint, now: &Known) -> Result<Item, StoreError> {
    let stored: Vec<StoredWitness> = now
        .witnesses
        .iter()
        .map(|listed| {
            let Witness { position, commit } = &listed.witness;
            (listed.number, listed.index, position.as_str().to_owned(), commit.to_string())
        })
        .collect();
    let stored = serde_json::to_string(&stored)
        .map_err(|error| StoreError::new(ErrorKind::Invalid, format!("storing a checkpoint: {error}")))?;
    Ok(item([
        ("partition", text(checkpoint.partition.as_str())),
        ("position", text(checkpoint.position.as_str())),
        ("finished", flag(checkpoint.finished)),
        ("version", number(now.version)),
        ("witnessed", number(now.witnesses.added())),
        ("witnesses", text(stored)),
    ]))
}

impl Books {
    fn known(&self) -> MutexGuard<'_, HashMap<Row, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes_called(&self) -> MutexGuard<'_, HashMap<RouteName, RouteRow>> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route as it was called when it was looked at last: the write that follows looks whether it still is.
    async fn route_as_called(&self, name: &RouteName) -> Result<RouteRow, StoreError> {
        let remembered = self.routes_called().get(name).cloned();
        if let Some(route) = remembered {
            return Ok(route);
        }
        let route = self.route_or_new(name).await?;
        let mut called = self.routes_called();
        if called.len() >= REMEMBERED {
            called.clear();
        }
        called.insert(name.clone(), route.clone());
        Ok(route)
    }

    async fn read_known(&self, row: &Row) -> Result<Known, StoreError> {
        let found = self.get(row, READING).await?;
        found.as_ref().map_or_else(|| Ok(Known::default()), read_known)
    }

    pub(super) async fn checkpoints(&self, name: &RouteName) -> Result<Vec<Checkpoint>, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Vec::new()) };
        let found = self.all("checkpoint", &route.prefix(), READING).await?;
        let mut checkpoints = found.iter().map(read_checkpoint).collect::<Result<Vec<_>, _>>()?;
        checkpoints.sort_by(|left, right| left.partition.cmp(&right.partition));
        Ok(checkpoints)
    }

    pub(super) async fn checkpoint(
        &self,
        lease: &Lease,
        name: &RouteName,
        checkpoint: &Checkpoint,
        witness: Option<&Witness>,
    ) -> Result<(), StoreError> {
        const STORING: &str = "storing a checkpoint";
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_as_called(name).await?;
            let row = row(&route, &checkpoint.partition);
            let remembered = self.known().remove(&row);
            let known = match remembered {
                Some(known) => known,
                None => self.read_known(&row).await?,
            };
            let mut now = Known { version: known.version + 1, witnesses: known.witnesses };
            if let Some(witness) = witness {
                now.witnesses.add(self.next_witness(), witness);
            }
            let put = self.actions().put(&row, attributes(checkpoint, &now)?, as_read(known.version))?;
            if self.write(Some(lease), Some(self.called(&route)?), vec![put], STORING).await? == Sent::Done {
                let mut remembered = self.known();
                if remembered.len() >= REMEMBERED {
                    remembered.clear();
                }
                remembered.insert(row, now);
                return Ok(());
            }
            self.routes_called().remove(name);
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(STORING));
            }
        }
    }

    /// Numbers of witnesses put those of several routes in order: by the time at which they were noted. They only rise.
    fn next_witness(&self) -> u64 {
        let now = u64::try_from(self.calls.clock.wall().as_microsecond()).unwrap_or(0);
        let before = self.witnessed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        now.max(before.unwrap_or(0) + 1)
    }

    pub(super) async fn witnesses(&self, partition: &PartitionId) -> Result<Vec<Witness>, StoreError> {
        const READING: &str = "reading witnesses";
        let names = self.names().await?;
        let mut lists = Vec::new();
        for id in names.keys() {
            let row = Row::new("checkpoint", fitting(&format!("{id}#"), partition.as_str()));
            if let Some(found) = self.get(&row, READING).await? {
                lists.push(read_known(&found)?.witnesses);
            }
        }
        Ok(WitnessList::newest_first(&lists))
    }

    /// What is only of use with a checkpoint goes with it: its witnesses stand in its row. Tombstones are of use to whoever is
    /// handed the same records in another way, and stay if that is so.
    pub(super) async fn forget_checkpoints(
        &self,
        lease: &Lease,
        name: &RouteName,
        partitions: &[PartitionId],
        keeps_tombstones: bool,
    ) -> Result<(), StoreError> {
        const FORGETTING: &str = "forgetting checkpoints";
        let mut pauses = self.calls.pauses();
        loop {
            let Some(route) = self.route(name).await? else { return self.expect_held(lease).await };
            let names: HashSet<_> = partitions.iter().map(PartitionId::as_str).collect();
            let mut gone: Vec<_> = partitions.iter().map(|partition| row(&route, partition)).collect();
            gone.sort_by(|left, right| left.name.cmp(&right.name));
            gone.dedup();
            if !keeps_tombstones {
                let all = self.tombstone_rows(&route).await?.into_iter();
                let of_these = all.filter(|(_, (_, partition, _))| names.contains(partition.as_str()));
                gone.extend(of_these.map(|(row, _)| row));
            }
            self.known().retain(|row, _| !gone.contains(row));
            match self.delete_all(lease, &route, &gone, FORGETTING).await? {
                Sent::Done => return Ok(()),
                Sent::Changed if pauses.wait(&*self.calls.clock).await => {}
                Sent::Changed => return Err(Self::busy(FORGETTING)),
            }
        }
    }

    /// Deletes rows of a route, as many at once as one transaction takes; the first ones first.
    pub(super) async fn delete_all(
        &self,
        lease: &Lease,
        route: &RouteRow,
        rows: &[Row],
        what: &'static str,
    ) -> Result<Sent, StoreError> {
        if rows.is_empty() {
            return self.expect_held(lease).await.map(|()| Sent::Done);
        }
        for rows in rows.chunks(ROWS) {
            let deleted = rows.iter().map(|row| self.actions().delete(row, If::Anything));
            let deleted = deleted.collect::<Result<_, _>>()?;
            if self.write(Some(lease), Some(self.called(route)?), deleted, what).await? == Sent::Changed {
                return Ok(Sent::Changed);
            }
        }
        Ok(Sent::Done)
    }

    pub(super) async fn reset_checkpoint(&self, name: &RouteName, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        const RESETTING: &str = "resetting a checkpoint";
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_or_new(name).await?;
            let row = row(&route, &checkpoint.partition);
            self.known().remove(&row);
            let known = self.read_known(&row).await?;
            let mut now = Known { version: known.version + 1, witnesses: known.witnesses };
            now.witnesses.go_back_to(&checkpoint.position);
            let put = self.actions().put(&row, attributes(checkpoint, &now)?, as_read(known.version))?;
            let rows = vec![put, self.changed()?];
            if self.write(None, Some(self.called(&route)?), rows, RESETTING).await? == Sent::Done {
                return Ok(());
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(RESETTING));
            }
        }
    }

    /// Every name that has a checkpoint.
    pub(super) async fn routes(&self) -> Result<Vec<RouteName>, StoreError> {
        let (names, found) = (self.names().await?, self.all("checkpoint", "", READING).await?);
        let ids: HashSet<_> = found.iter().filter_map(|row| Some(text_of(row, "name")?.split_once('#')?.0)).collect();
        let mut routes: Vec<_> =
            names.into_iter().filter(|(id, _)| ids.contains(id.as_str())).map(|(_, name)| name).collect();
        routes.sort_unstable();
        Ok(routes)
    }
}

fn as_read(version: u64) -> If {
    if version == 0 { If::Absent } else { If::Has(vec![("version", number(version))]) }
}
