//! A map whose changes can be taken back.

use std::{collections::BTreeMap, ops::RangeBounds};

/// A sorted map that remembers, since the last commit, what each change replaced.
pub(super) struct Journal<K, V> {
    map: BTreeMap<K, V>,
    replaced: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Journal<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), replaced: Vec::new() }
    }
}

impl<K: Ord + Clone, V> Journal<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub(super) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }

    pub(super) fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        self.map.range(range)
    }

    /// Sets, or with `None` removes, a value.
    pub(super) fn set(&mut self, key: K, value: Option<V>) {
        let before = match value {
            Some(value) => self.map.insert(key.clone(), value),
            None => self.map.remove(&key),
        };
        self.replaced.push((key, before));
    }

    /// Where [`back_to`](Self::back_to) can go back to, until the next commit.
    pub(super) fn point(&self) -> usize {
        self.replaced.len()
    }

    pub(super) fn back_to(&mut self, point: usize) {
        for (key, before) in self.replaced.drain(point..).rev() {
            match before {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
    }

    pub(super) fn commit(&mut self) {
        self.replaced.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_since_a_point_is_taken_back() {
        let mut journal = Journal::default();
        journal.set(1, Some("a"));
        journal.commit();
        let point = journal.point();
        journal.set(1, Some("b"));
        journal.set(2, Some("c"));
        journal.set(1, None);
        journal.back_to(point);
        assert_eq!(journal.iter().collect::<Vec<_>>(), [(&1, &"a")]);
    }
}
