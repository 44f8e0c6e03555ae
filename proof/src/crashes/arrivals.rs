//! What arrived at a target, and whether it is what the contract promises.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use outbox::{Event, Place};

/// An event as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: Option<String>,
    /// Its place within the key.
    pub place: Option<Place>,
    /// Its type.
    pub kind: String,
    /// Its payload.
    pub data: Option<Bytes>,
    /// The replay that brought it.
    pub replay: Option<String>,
    /// Which relay sent it, by the header `x-relay`.
    pub relay: Option<String>,
    /// Whether it was answered as accepted, be it that the answer got lost.
    pub accepted: bool,
}

impl Arrival {
    /// `event` as it comes from `relay`.
    pub fn of(event: &Event, relay: Option<&str>, accepted: bool) -> Self {
        Self {
            id: event.id().to_owned(),
            key: event.key().map(ToString::to_string),
            place: event.placing().map(|placing| placing.place),
            kind: event.kind().to_owned(),
            data: event.data().cloned(),
            replay: event.extension_text("replayid").map(str::to_owned),
            relay: relay.map(str::to_owned),
            accepted,
        }
    }

    /// Whether it is of this key.
    pub fn is_of(&self, key: &str) -> bool {
        self.key.as_deref() == Some(key)
    }
}

/// Checks that everything committed was accepted, and that the first acceptances of each key are in the order of the
/// commits. Events without a key and replays are left out.
pub fn assert_whole_and_in_order(arrivals: &[Arrival], committed: &BTreeMap<String, Vec<Place>>) {
    let mut seen = BTreeSet::new();
    let mut first: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.accepted && arrival.replay.is_none()) {
        if let (Some(key), Some(place)) = (&arrival.key, arrival.place)
            && seen.insert(&arrival.id)
        {
            first.entry(key).or_default().push(place);
        }
    }
    for (key, places) in committed {
        let found = first.get(key.as_str()).cloned().unwrap_or_default();
        assert_eq!(&found, places, "first arrivals of {key} against its commits");
    }
    assert_eq!(first.len(), committed.len(), "keys that nobody committed");
}

/// How many of `arrivals` were accepted before in `earlier` or among themselves.
pub fn duplicates(arrivals: &[Arrival], earlier: &[Arrival]) -> usize {
    let mut seen: BTreeSet<&str> = earlier.iter().map(|arrival| arrival.id.as_str()).collect();
    arrivals.iter().filter(|arrival| !seen.insert(&arrival.id)).count()
}

#[cfg(test)]
mod judging {
    use super::*;

    /// Arrivals of key `a` with these sequences, against its commits 1, 2, 3.
    fn judge(sequences: [u64; 3]) {
        let arrival = |sequence| Arrival {
            id: format!("a@1.{sequence}.0"),
            key: Some("a".to_owned()),
            place: Some(Place::new(1, sequence, 0)),
            kind: "order.placed".to_owned(),
            data: None,
            replay: None,
            relay: None,
            accepted: true,
        };
        let places = [1, 2, 3].map(|sequence| Place::new(1, sequence, 0));
        assert_whole_and_in_order(&sequences.map(arrival), &BTreeMap::from([("a".to_owned(), places.to_vec())]));
    }

    #[test]
    fn what_is_whole_and_in_order_passes() {
        judge([1, 2, 3]);
    }

    #[test]
    #[should_panic(expected = "first arrivals of a")]
    fn an_inversion_is_found() {
        judge([2, 1, 3]);
    }

    #[test]
    #[should_panic(expected = "first arrivals of a")]
    fn a_loss_is_found() {
        judge([1, 2, 2]);
    }
}
