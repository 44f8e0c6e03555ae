//! Witnesses: the latest, and an ever thinner sample of what came before.

use std::collections::VecDeque;

use crate::store::Witness;

/// So many of the latest are all kept.
const DENSE: u64 = 8;

/// What one route read of one partition, newest first. Of n witnesses about 8 + 4 log n stay.
#[derive(Clone, Default)]
pub(super) struct Witnesses {
    listed: VecDeque<Listed>,
    /// How many were ever added.
    added: u64,
}

#[derive(Clone)]
struct Listed {
    /// Which one of the bookkeeping it is: puts those of several routes in order.
    number: u64,
    /// Which one of this list it is.
    index: u64,
    witness: Witness,
}

impl Witnesses {
    /// Adds the latest; one that is the latest already is not added again.
    pub(super) fn add(&mut self, number: u64, witness: &Witness) {
        if self.listed.front().is_some_and(|newest| newest.witness == *witness) {
            return;
        }
        self.added += 1;
        let newest = self.added;
        self.listed.push_front(Listed { number, index: newest, witness: witness.clone() });
        self.listed.retain(|listed| is_kept(newest - listed.index, listed.index));
    }

    /// Forgets what came after the one at `position`, or all if there is none.
    pub(super) fn go_back_to(&mut self, position: &crate::Position) {
        while self.listed.front().is_some_and(|newest| newest.witness.position != *position) {
            self.listed.pop_front();
        }
    }
}

/// Each doubling of the age halves the density. What is dropped at one age is not missed at a later one.
fn is_kept(age: u64, index: u64) -> bool {
    age < DENSE || index.is_multiple_of(1 << (age / DENSE).ilog2().min(63))
}

/// The witnesses of several routes, newest first.
pub(super) fn newest_first<'a>(lists: impl Iterator<Item = &'a Witnesses>) -> Vec<Witness> {
    let mut all: Vec<_> = lists.flat_map(|list| &list.listed).collect();
    all.sort_by_key(|listed| std::cmp::Reverse(listed.number));
    let mut witnesses = Vec::<Witness>::with_capacity(all.len());
    for listed in all {
        if !witnesses.contains(&listed.witness) {
            witnesses.push(listed.witness.clone());
        }
    }
    witnesses
}
