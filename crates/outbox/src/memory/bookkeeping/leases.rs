//! Leases: who owns a source.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    bookkeeping::{Lease, LeaseView},
    error::{ErrorKind, StoreError},
};

#[derive(Clone, Default)]
pub(super) struct Leases(BTreeMap<String, LeaseView>);

impl Leases {
    /// A lease that nobody ever had reads as given up.
    pub(super) fn view(&self, name: &str) -> LeaseView {
        self.0.get(name).cloned().unwrap_or_else(|| LeaseView {
            epoch: 0,
            beat: 0,
            released: true,
            holder: String::new(),
            duration: Duration::ZERO,
        })
    }

    pub(super) fn take(&mut self, name: &str, seen: &LeaseView, holder: &str, duration: Duration) -> Option<Lease> {
        let now = self.view(name);
        if now != *seen {
            return None;
        }
        let epoch = now.epoch + 1;
        let taken = LeaseView { epoch, beat: now.beat + 1, released: false, holder: holder.to_owned(), duration };
        self.0.insert(name.to_owned(), taken);
        Some(Lease { name: name.to_owned(), epoch })
    }

    /// Whether `lease` is the one that is held. One that was given up is not: nothing of its owner comes after that.
    pub(super) fn is_current(&self, lease: &Lease) -> bool {
        self.0.get(&lease.name).is_some_and(|held| held.epoch == lease.epoch && !held.released)
    }

    pub(super) fn renew(&mut self, lease: &Lease) {
        if let Some(held) = self.0.get_mut(&lease.name) {
            held.beat += 1;
        }
    }

    pub(super) fn release(&mut self, lease: &Lease) {
        if self.is_current(lease)
            && let Some(held) = self.0.get_mut(&lease.name)
        {
            held.released = true;
        }
    }
}

pub(super) fn fenced(lease: &Lease) -> StoreError {
    let message =
        format!("lease `{}` is no longer held under epoch {}: another relay took over", lease.name, lease.epoch);
    StoreError::new(ErrorKind::Fenced, message)
}
