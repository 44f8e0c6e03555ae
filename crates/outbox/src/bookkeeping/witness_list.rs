//! Witnesses: the latest, and an ever thinner sample of what came before.

use std::collections::VecDeque;

use crate::{entry::Position, store::Witness};

/// So many of the latest are all kept.
const DENSE: u64 = 8;

/// What one route read of one partition, newest first, for those who keep a bookkeeping. Of n witnesses about 8 + 4 log n
/// stay: enough to find the last agreement with a store whose history went backwards, however far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WitnessList {
    listed: VecDeque<ListedWitness>,
    added: u64,
}

/// A witness in a [`WitnessList`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedWitness {
    /// Which one of the bookkeeping it is: puts those of several lists in order.
    pub number: u64,
    /// Which one of its list it is, from 1.
    pub index: u64,
    /// The witness.
    pub witness: Witness,
}

impl WitnessList {
    /// A list as it was stored: `listed` newest first, of `added` that were ever added.
    pub fn stored(listed: impl IntoIterator<Item = ListedWitness>, added: u64) -> Self {
        Self { listed: listed.into_iter().collect(), added }
    }

    /// Adds the latest; one that is the latest already is not added again. Says whether it was added.
    pub fn add(&mut self, number: u64, witness: &Witness) -> bool {
        if self.listed.front().is_some_and(|newest| newest.witness == *witness) {
            return false;
        }
        self.added += 1;
        let newest = self.added;
        self.listed.push_front(ListedWitness { number, index: newest, witness: witness.clone() });
        self.listed.retain(|listed| is_kept(newest - listed.index, listed.index));
        true
    }

    /// Forgets what came after the one at `position`, or all if there is none.
    pub fn go_back_to(&mut self, position: &Position) {
        while self.listed.front().is_some_and(|newest| newest.witness.position != *position) {
            self.listed.pop_front();
        }
    }

    /// Those that are kept, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &ListedWitness> {
        self.listed.iter()
    }

    /// How many were ever added.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// The witnesses of several lists, newest first, each once.
    pub fn newest_first<'a>(lists: impl IntoIterator<Item = &'a Self>) -> Vec<Witness> {
        let mut all: Vec<_> = lists.into_iter().flat_map(|list| &list.listed).collect();
        all.sort_by_key(|listed| std::cmp::Reverse(listed.number));
        let mut witnesses = Vec::<Witness>::with_capacity(all.len());
        for listed in all {
            if !witnesses.contains(&listed.witness) {
                witnesses.push(listed.witness.clone());
            }
        }
        witnesses
    }
}

/// Each doubling of the age halves the density. What is dropped at one age is not missed at a later one.
fn is_kept(age: u64, index: u64) -> bool {
    age < DENSE || index.is_multiple_of(1 << (age / DENSE).ilog2().min(63))
}
