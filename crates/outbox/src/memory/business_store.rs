//! The in-memory store as a relay sees it: claims, routes, retention, adoption.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    lock,
    store::{Cursor, Data, MemoryStore, Written},
};
use crate::{
    entry::{Content, Position, Record},
    error::{ErrorKind, StoreError},
    event::Key,
    place::Place,
    route::{RouteName, Start},
    store::{Agreement, BusinessStore, Claim, Purged, Registration, Retention, StoreIdentity, Witness},
};

/// Entries that one purge removes at most.
const PURGE_BATCH: usize = 500;

#[async_trait]
impl BusinessStore for MemoryStore {
    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        let data = lock(&self.shared.data);
        Ok(StoreIdentity {
            id: data.id.clone(),
            incarnation: data.incarnation,
            producer: data.producer.as_ref().to_owned(),
            claim: data.claim.clone(),
        })
    }

    async fn claim(&self, claim: &Claim, seen: Option<&Claim>) -> Result<bool, StoreError> {
        let mut data = lock(&self.shared.data);
        if data.claim.as_ref() != seen && data.claim.as_ref() != Some(claim) {
            return Ok(false);
        }
        data.claim = Some(claim.clone());
        *lock(&self.handle.claim) = Some(claim.clone());
        Ok(true)
    }

    async fn disown(&self) -> Result<(), StoreError> {
        lock(&self.shared.data).claim = None;
        Ok(())
    }

    async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        Ok(lock(&self.shared.data).routes.values().cloned().collect())
    }

    async fn register(&self, registration: Registration) -> Result<Registration, StoreError> {
        let mut data = lock(&self.shared.data);
        if let Some(known) = data.routes.get_mut(&registration.route) {
            known.filter = registration.filter;
            known.max_event_bytes = registration.max_event_bytes;
            known.gapless &= registration.gapless;
            return Ok(known.clone());
        }
        let mut registration = registration;
        if registration.start == Start::Now && registration.start_position.is_none() {
            registration.start_position = Some(data.end().as_str().to_owned());
        }
        data.routes.insert(registration.route.clone(), registration.clone());
        Ok(registration)
    }

    async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        let mut data = lock(&self.shared.data);
        if data.routes.contains_key(to) {
            return Err(invalid(format!("route `{to}` is registered already: choose another name")));
        }
        let mut registration = data.routes.remove(from).ok_or_else(|| not_registered(from))?;
        registration.route = to.clone();
        data.routes.insert(to.clone(), registration);
        Ok(())
    }

    async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        lock(&self.shared.data).routes.remove(route).map(|_| ()).ok_or_else(|| not_registered(route))
    }

    async fn purge(&self, passed: &Position, retention: Retention) -> Result<Purged, StoreError> {
        let mut data = lock(&self.shared.data);
        self.check_claim(&data)?;
        let passed = data.cursor(passed)?.row;
        let published = data.entries.range(..=passed);
        let mut due: Vec<u64> = match retention {
            Retention::Off => Vec::new(),
            Retention::Before(time) => {
                published.filter(|(_, entry)| entry.record.recorded < time).map(|(row, _)| *row).collect()
            }
            Retention::Newest(kept) => {
                let kept = usize::try_from(kept).unwrap_or(usize::MAX);
                published.rev().skip(kept).map(|(row, _)| *row).collect()
            }
        };
        due.retain(|row| *row != passed);
        due.sort_unstable();
        let more = due.len() > PURGE_BATCH;
        due.truncate(PURGE_BATCH);
        for row in &due {
            data.entries.remove(row);
        }
        Ok(Purged { entries: due.len() as u64, more })
    }

    async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        let data = lock(&self.shared.data);
        let mut known = Vec::new();
        for witness in witnesses {
            let cursor = Cursor::of_witness(&witness.position)
                .ok_or_else(|| invalid(format!("`{}` is not a position of this store", witness.position)))?;
            known.push((cursor.row, witness));
        }
        // Routes stand at different positions, so the latest witness by time need not be the furthest.
        known.sort_by_key(|(row, _)| std::cmp::Reverse(*row));
        let mut lost = None;
        for (row, witness) in known {
            match data.entries.get(&row) {
                Some(entry) if entry.record.commit == witness.commit => {
                    return Ok(data.agreement(Some((row, witness.position.clone())), lost));
                }
                // Purged behind the anchor: says nothing, unless it is the anchor itself.
                None if lost.is_some() && data.is_purged(row) => {}
                _ => lost = Some(witness.position.clone()),
            }
        }
        Ok(data.agreement(None, lost))
    }

    async fn raise_incarnation(&self, agreed: Option<&Position>, restamp: bool) -> Result<u32, StoreError> {
        let mut data = lock(&self.shared.data);
        let behind = match agreed {
            Some(agreed) => data.cursor(agreed)?.row,
            None => 0,
        };
        data.incarnation += 1;
        if restamp {
            data.restamp(behind)?;
        }
        Ok(data.incarnation)
    }
}

impl Data {
    fn is_purged(&self, row: u64) -> bool {
        self.entries.keys().next().is_some_and(|first| row < *first)
    }

    fn agreement(&self, agreed: Option<(u64, Position)>, lost: Option<Position>) -> Agreement {
        let Some(lost) = lost else { return Agreement::Whole };
        let row = agreed.as_ref().map_or(0, |(row, _)| *row);
        let behind = self.entries.range((Excluded(row), Unbounded)).count() as u64;
        Agreement::Lost { agreed: agreed.map(|(_, position)| position), lost, behind }
    }

    /// Moves the entries behind row `behind`, and the heads with them, into the present incarnation.
    fn restamp(&mut self, behind: u64) -> Result<(), StoreError> {
        let mut moved = BTreeMap::<Key, Place>::new();
        for (_, entry) in self.entries.range_mut((Excluded(behind), Unbounded)) {
            let (Some(key), Some(written)) = (&entry.key, &entry.written) else { continue };
            let written = Written {
                events: written.events.clone(),
                fallback_ids: written.fallback_ids.clone(),
                first: written.first.map(|first| Place { incarnation: self.incarnation, ..first }),
                after: moved.get(key).copied().unwrap_or(written.after),
            };
            let events = written
                .events(&self.producer, entry.record.recorded)
                .map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))?;
            if let Some(last) = written.last() {
                moved.insert(key.clone(), last);
            }
            entry.record = Arc::new(Record { content: Content::Events(events), ..(*entry.record).clone() });
            entry.written = Some(Arc::new(written));
        }
        self.heads.extend(moved);
        Ok(())
    }
}

fn invalid(message: String) -> StoreError {
    StoreError::new(ErrorKind::Invalid, message)
}

fn not_registered(route: &RouteName) -> StoreError {
    invalid(format!("route `{route}` is not registered: `outbox route list` shows those that are"))
}
