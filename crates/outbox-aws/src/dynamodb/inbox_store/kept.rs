//! Kept events, as full copies: an item each among those of its lane, by its place; the rest of a large one is in further
//! items.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use outbox::{
    Event, Place, StoreError,
    bookkeeping::KeptId,
    cloudevents::{Envelope, json},
    event::extension,
    inbox::RawMessage,
    inbox_store::{InboxKept, KeptMessage, LaneId},
};

use super::{
    items::{self, KEPT, damaged, sorted},
    table::{Range, name_of},
    tx::DynamoTx,
};
use crate::dynamodb::item::{self, Item, bytes, bytes_of, number, number_of, text, text_of};

const READING: &str = "reading a kept event";
/// Kept events that are read at once.
const PAGE: usize = 16;
/// Of a message in one item. An item takes 400 KB, names and the rest included.
const CHUNK: usize = 380_000;

/// What a transaction knows and changes of kept events.
#[derive(Default)]
pub(super) struct Keeping {
    /// By lane and place: what is written, or `None` for what is removed.
    pub(super) changes: BTreeMap<(LaneId, Place), Change>,
    /// What was read of lanes.
    read: BTreeMap<LaneId, ReadKept>,
    /// Where kept events are that were met in this transaction.
    met: BTreeMap<KeptId, (LaneId, Place, usize)>,
}

/// A change of one kept event.
pub(super) struct Change {
    /// In how many items the one was kept that is there; 0 if there is none.
    pub(super) before: usize,
    pub(super) now: Option<InboxKept>,
}

#[derive(Default)]
struct ReadKept {
    /// The first ones that are there, by their places.
    items: VecDeque<Item>,
    /// The last part that was read.
    last: Option<String>,
    is_whole: bool,
}

/// The part of a kept event's first item.
fn part(place: Place) -> String {
    format!("{KEPT}{}", sorted(place))
}

/// The part of a further item: it does not stand among the first ones.
fn further(place: Place, number: usize) -> String {
    format!("rest/{}/{number}", sorted(place))
}

impl DynamoTx<'_> {
    pub(super) async fn keep_message(
        &mut self,
        lane: &LaneId,
        place: Place,
        message: &KeptMessage,
        now: Timestamp,
    ) -> Result<Option<KeptId>, StoreError> {
        let known =
            self.keeping.changes.get(&(lane.clone(), place)).map(|change| (change.before, change.now.is_some()));
        let before = match known {
            Some((_, true)) => return Ok(None),
            Some((before, false)) => before,
            None => {
                // A lane without trouble keeps nothing; that it has none is a condition of the commit.
                let keeps = self.lane(lane).await?.read.record.trouble.is_some();
                let key = items::key(self.table.names.lane(lane), part(place));
                if keeps && self.table.item(key, READING).await?.is_some() {
                    return Ok(None);
                }
                0
            }
        };
        let id = KeptId(self.table.next_number().await?);
        let kept = InboxKept { id, place, arrived: now, message: message.clone() };
        self.keeping.met.insert(id, (lane.clone(), place, before));
        self.keeping.changes.insert((lane.clone(), place), Change { before, now: Some(kept) });
        Ok(Some(id))
    }

    pub(super) async fn first_kept(&mut self, lane: &LaneId) -> Result<Option<InboxKept>, StoreError> {
        let stored =
            if self.lane(lane).await?.read.record.trouble.is_some() { self.first_stored(lane).await? } else { None };
        let from = (lane.clone(), Place::ORIGIN);
        let mut written = self.keeping.changes.range(from..).take_while(|((of, _), _)| of == lane);
        let written = written.find_map(|(_, change)| change.now.clone());
        match (stored, written) {
            (Some(stored), Some(written)) if written.place < stored.0 => Ok(Some(written)),
            (Some((_, item)), _) => self.whole(lane, &item).await.map(Some),
            (None, written) => Ok(written),
        }
    }

    /// The first one that is there and stays, and its place.
    async fn first_stored(&mut self, lane: &LaneId) -> Result<Option<(Place, Item)>, StoreError> {
        loop {
            let read = self.keeping.read.entry(lane.clone()).or_default();
            if let Some(item) = read.items.front() {
                let place = place_of(item)?;
                if !self.keeping.changes.contains_key(&(lane.clone(), place)) {
                    return Ok(Some((place, item.clone())));
                }
                read.items.pop_front();
                continue;
            }
            if read.is_whole {
                return Ok(None);
            }
            let after = read.last.clone();
            let range = Range { id: self.table.names.lane(lane), prefix: KEPT, after, limit: Some(PAGE) };
            let items = self.table.query(range, READING).await?;
            let read = self.keeping.read.entry(lane.clone()).or_default();
            read.is_whole = items.len() < PAGE;
            read.last = items.last().and_then(|item| text_of(item, "part")).map(str::to_owned).or(read.last.take());
            read.items = items.into();
        }
    }

    /// A kept event with all of its items.
    async fn whole(&mut self, lane: &LaneId, first: &Item) -> Result<InboxKept, StoreError> {
        let place = place_of(first)?;
        let count: usize = number_of(first, "items").ok_or_else(|| damaged(first, "items"))?;
        let mut message = bytes_of(first, "message").ok_or_else(|| damaged(first, "message"))?.to_vec();
        let rest: Vec<_> =
            (1..count).map(|number| items::key(self.table.names.lane(lane), further(place, number))).collect();
        if !rest.is_empty() {
            let mut found = self.table.items(rest.clone(), READING).await?;
            for key in &rest {
                let item = found.remove(&name_of(key)).ok_or_else(|| damaged(first, "message"))?;
                message.extend_from_slice(bytes_of(&item, "message").ok_or_else(|| damaged(first, "message"))?);
            }
        }
        let kept = decoded(first, place, message)?;
        self.keeping.met.insert(kept.id, (lane.clone(), place, count));
        Ok(kept)
    }

    pub(super) async fn remove_kept(&mut self, id: KeptId) -> Result<(), StoreError> {
        if !self.keeping.met.contains_key(&id) && self.find_kept(id).await?.is_none() {
            return Ok(());
        }
        let Some((lane, place, stored)) = self.keeping.met.remove(&id) else { return Ok(()) };
        match self.keeping.changes.get_mut(&(lane.clone(), place)) {
            Some(change) if change.before == 0 => drop(self.keeping.changes.remove(&(lane, place))),
            Some(change) => change.now = None,
            None => drop(self.keeping.changes.insert((lane, place), Change { before: stored, now: None })),
        }
        Ok(())
    }

    /// Looks through all lanes in trouble.
    pub(super) async fn find_kept(&mut self, id: KeptId) -> Result<Option<(LaneId, InboxKept)>, StoreError> {
        const LOOKING: &str = "looking for a kept event";
        let range = Range { id: self.table.names.troubles(), prefix: "", after: None, limit: None };
        let troubles = self.table.query(range, LOOKING).await?;
        for trouble in &troubles {
            let lane = items::lane_of(trouble)?;
            let range = Range { id: self.table.names.lane(&lane), prefix: KEPT, after: None, limit: None };
            let kept = self.table.query(range, LOOKING).await?;
            if let Some(item) = kept.iter().find(|item| number_of(item, "number") == Some(id.0)) {
                let kept = self.whole(&lane, item).await?;
                return Ok(Some((lane, kept)));
            }
        }
        Ok(None)
    }
}

/// The items of a kept event: as many as its size takes.
pub(super) fn written(id: &str, kept: &InboxKept) -> Vec<Item> {
    let (kind, message) = match &kept.message {
        KeptMessage::Event(event) => (Some(event.kind()), encode(event)),
        KeptMessage::Raw { message, .. } => (None, message.to_bytes()),
    };
    let mut chunks: Vec<&[u8]> = message.chunks(CHUNK).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let count = chunks.len();
    let item = |(index, chunk): (usize, &[u8])| {
        let part = if index == 0 { part(kept.place) } else { further(kept.place, index) };
        let mut item = items::key(id.to_owned(), part);
        item.insert("message".to_owned(), bytes(chunk));
        if index == 0 {
            item.extend(item::item([
                ("number", number(kept.id.0)),
                ("place", text(kept.place.to_string())),
                ("arrived", number(kept.arrived.as_microsecond())),
                ("event_id", text(kept.message.id())),
                ("items", number(count)),
            ]));
            item.extend(kind.map(|kind| ("type".to_owned(), text(kind))));
        }
        item
    };
    chunks.into_iter().enumerate().map(item).collect()
}

/// The keys of the items of a kept event that has so many.
pub(super) fn keys(id: &str, place: Place, count: usize) -> Vec<Item> {
    let parts: BTreeSet<_> =
        (0..count).map(|index| if index == 0 { part(place) } else { further(place, index) }).collect();
    parts.into_iter().map(|part| items::key(id.to_owned(), part)).collect()
}

fn place_of(item: &Item) -> Result<Place, StoreError> {
    text_of(item, "place").and_then(|place| place.parse().ok()).ok_or_else(|| damaged(item, "place"))
}

fn decoded(item: &Item, place: Place, message: Vec<u8>) -> Result<InboxKept, StoreError> {
    let id = text_of(item, "event_id").ok_or_else(|| damaged(item, "event_id"))?;
    let event = item.contains_key("type").then(|| json::decode(&message));
    let message = match event {
        Some(Ok(event)) => KeptMessage::Event(event),
        // An item that somebody changed by hand is in nobody's way but its own lane's.
        Some(Err(_)) => KeptMessage::Raw { id: id.into(), message: RawMessage::new(json::MEDIA_TYPE, message) },
        None => KeptMessage::Raw { id: id.into(), message: RawMessage::from_bytes(&message.into()) },
    };
    Ok(InboxKept {
        id: KeptId(number_of(item, "number").ok_or_else(|| damaged(item, "number"))?),
        place,
        arrived: number_of(item, "arrived").and_then(items::time).ok_or_else(|| damaged(item, "arrived"))?,
        message,
    })
}

fn encode(event: &Event) -> Vec<u8> {
    json::encode(event, Envelope { gapless: event.gapless(), replay: event.extension_text(extension::REPLAY_ID) })
}
