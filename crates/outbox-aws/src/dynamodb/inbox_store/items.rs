//! The items of an inbox's table: their keys, and what a lane is like as one.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use outbox::{
    ErrorKind, Lane, Place, StoreError,
    inbox_store::{EventId, LaneId, LaneRecord, Life, Trouble, TroubleState},
};

use crate::dynamodb::{
    bookkeeping::rows::fitting,
    item::{self, Item, flag_of, number, number_of, text, text_of},
};

/// What a consumer's items begin with.
#[derive(Clone, Debug)]
pub(super) struct Names {
    consumer: String,
}

/// The part of a lane's item that holds its mark and its trouble.
pub(super) const RECORD: &str = "record";
/// The part that says what a lane waits for.
pub(super) const WAIT: &str = "wait";
/// The only part of other items.
const ONLY: &str = "-";

impl Names {
    pub(super) fn new(consumer: &str) -> Self {
        Self { consumer: consumer.to_owned() }
    }

    pub(super) fn consumer(&self) -> &str {
        &self.consumer
    }

    /// What the ids of all its items begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.consumer)
    }

    /// The item that says that there is this inbox.
    pub(super) fn inbox(&self) -> Item {
        key(CONSUMERS.to_owned(), self.consumer.clone())
    }

    /// The id of a lane's items.
    pub(super) fn lane(&self, lane: &LaneId) -> String {
        // No URI reference has a space.
        fitting(&format!("{}/lane/", self.consumer), &format!("{} {}", lane.producer, lane.lane.to_text()))
    }

    pub(super) fn record(&self, lane: &LaneId) -> Item {
        key(self.lane(lane), RECORD.to_owned())
    }

    pub(super) fn wait(&self, waiter: &LaneId) -> Item {
        key(self.lane(waiter), WAIT.to_owned())
    }

    /// Among the items of `cause`, that `waiter` waits for it.
    pub(super) fn waiter(&self, cause: &LaneId, waiter: &LaneId) -> Item {
        let waiter = format!("{} {}", waiter.producer, waiter.lane.to_text());
        key(self.lane(cause), fitting(WAITER, &waiter))
    }

    /// The id of the items of lanes in trouble.
    pub(super) fn troubles(&self) -> String {
        format!("{}/troubles", self.consumer)
    }

    pub(super) fn trouble(&self, lane: &LaneId) -> Item {
        key(self.troubles(), trouble_part(lane))
    }

    pub(super) fn event(&self, id: &EventId) -> Item {
        key(fitting(&format!("{}/event/", self.consumer), &format!("{} {}", id.producer, id.id)), ONLY.to_owned())
    }

    /// One of several items over which the counts are spread, so that not every transaction meets every other there.
    pub(super) fn counts(&self, share: u64) -> Item {
        key(format!("{}/counts/{share}", self.consumer), ONLY.to_owned())
    }

    /// Where the last number of a kept event is drawn.
    pub(super) fn numbers(&self) -> Item {
        key(format!("{}/numbers", self.consumer), ONLY.to_owned())
    }
}

/// The id of the items that say which inboxes there are.
pub(super) const CONSUMERS: &str = "consumers";
/// What the parts of waiters begin with.
pub(super) const WAITER: &str = "waiter/";
/// What the parts of kept events begin with.
pub(super) const KEPT: &str = "kept/";

/// The part of a lane among those in trouble.
pub(super) fn trouble_part(lane: &LaneId) -> String {
    fitting("", &format!("{} {}", lane.producer, lane.lane.to_text()))
}

pub(super) fn key(id: String, part: String) -> Item {
    item::item([("id", text(id)), ("part", text(part))])
}

/// A lane's item as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadLane {
    pub(super) record: LaneRecord,
    /// Another one with each write; `None` if there is no item.
    pub(super) version: Option<String>,
    /// Whether lanes may wait for something in it.
    pub(super) awaited: bool,
}

/// The attributes of a lane's item, besides its key.
pub(super) fn lane_item(lane: &LaneId, record: &LaneRecord, version: &str, awaited: bool) -> Item {
    let mut item = item::item([
        ("producer", text(&*lane.producer)),
        ("lane", text(lane.lane.to_text())),
        ("mark", text(record.mark.to_string())),
        ("version", text(version)),
    ]);
    let life = match record.life {
        Life::Unknown => None,
        Life::Open => Some("open"),
        Life::Removed => Some("removed"),
    };
    item.extend(life.map(|life| ("life".to_owned(), text(life))));
    if awaited {
        item.insert("awaited".to_owned(), AttributeValue::Bool(true));
    }
    if let Some(trouble) = &record.trouble {
        item.extend(item::item([
            ("state", text(state_name(trouble.state))),
            ("attempts", number(trouble.attempts)),
            ("since", number(trouble.since.as_microsecond())),
            ("reason", text(&trouble.reason)),
            ("epoch", number(trouble.epoch)),
            ("kept", number(trouble.kept)),
        ]));
        item.extend(trouble.due.map(|due| ("due".to_owned(), number(due.as_microsecond()))));
    }
    item
}

pub(super) fn read_lane(found: &Item) -> Result<ReadLane, StoreError> {
    let mark =
        text_of(found, "mark").and_then(|mark| mark.parse::<Place>().ok()).ok_or_else(|| damaged(found, "mark"))?;
    let life = match text_of(found, "life") {
        None => Life::Unknown,
        Some("open") => Life::Open,
        Some("removed") => Life::Removed,
        Some(_) => return Err(damaged(found, "life")),
    };
    let version = text_of(found, "version").ok_or_else(|| damaged(found, "version"))?.to_owned();
    let record = LaneRecord { mark, life, trouble: read_trouble(found)? };
    Ok(ReadLane { record, version: Some(version), awaited: flag_of(found, "awaited") })
}

fn read_trouble(found: &Item) -> Result<Option<Trouble>, StoreError> {
    let Some(state) = text_of(found, "state") else { return Ok(None) };
    let wrong = |what| damaged(found, what);
    let due: Option<i64> = number_of(found, "due");
    Ok(Some(Trouble {
        state: state_of(state).ok_or_else(|| wrong("state"))?,
        attempts: number_of(found, "attempts").ok_or_else(|| wrong("attempts"))?,
        due: due.map(|due| time(due).ok_or_else(|| wrong("due"))).transpose()?,
        since: number_of(found, "since").and_then(time).ok_or_else(|| wrong("since"))?,
        reason: text_of(found, "reason").ok_or_else(|| wrong("reason"))?.to_owned(),
        epoch: number_of(found, "epoch").ok_or_else(|| wrong("epoch"))?,
        kept: number_of(found, "kept").ok_or_else(|| wrong("kept"))?,
    }))
}

pub(super) fn time(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok()
}

/// Which lane an item is about.
pub(super) fn lane_of(found: &Item) -> Result<LaneId, StoreError> {
    let producer = text_of(found, "producer").ok_or_else(|| damaged(found, "producer"))?;
    let lane = text_of(found, "lane").and_then(Lane::from_text).ok_or_else(|| damaged(found, "lane"))?;
    Ok(LaneId { producer: producer.into(), lane })
}

/// The attributes that name a lane.
pub(super) fn lane_attributes(lane: &LaneId) -> Item {
    item::item([("producer", text(&*lane.producer)), ("lane", text(lane.lane.to_text()))])
}

/// An item that somebody changed by hand.
pub(super) fn damaged(found: &Item, what: &str) -> StoreError {
    let shown =
        |name| text_of(found, name).unwrap_or("?").chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    let message = format!(
        "`{what}` of the item `{}`, `{}` in the inbox's table cannot be read: restore it from a backup",
        shown("id"),
        shown("part")
    );
    StoreError::new(ErrorKind::Invalid, message)
}

fn state_name(state: TroubleState) -> &'static str {
    match state {
        TroubleState::Waiting => "waiting",
        TroubleState::Cause => "cause",
        TroubleState::Retrying => "retrying",
        TroubleState::Dead => "dead",
        TroubleState::Claimed => "claimed",
    }
}

fn state_of(name: &str) -> Option<TroubleState> {
    use TroubleState::{Cause, Claimed, Dead, Retrying, Waiting};
    [Waiting, Cause, Retrying, Dead, Claimed].into_iter().find(|state| state_name(*state) == name)
}

/// A place that sorts as text.
pub(super) fn sorted(place: Place) -> String {
    format!("{:010}.{:020}.{:010}", place.incarnation, place.sequence, place.index)
}

#[cfg(test)]
mod tests {
    use outbox::Key;

    use super::*;

    fn lane(producer: &str, lane: Lane) -> LaneId {
        LaneId { producer: producer.into(), lane }
    }

    #[test]
    fn a_lane_comes_back_from_its_item() {
        let at = Timestamp::from_microsecond(1_795_000_000_123_456).unwrap();
        let trouble = Trouble { due: Some(at), reason: "no".to_owned(), kept: 3, epoch: 7, ..Trouble::new(at) };
        for (life, trouble) in [(Life::Unknown, None), (Life::Open, Some(trouble.clone())), (Life::Removed, None)] {
            let record = LaneRecord { mark: Place::new(1, u64::MAX >> 1, 9), life, trouble };
            let id = lane("/orders", Lane::Key(Key::new("a b").unwrap()));
            let item = lane_item(&id, &record, "v", true);
            let read = read_lane(&item).unwrap();
            assert_eq!((read.record, read.version.as_deref(), read.awaited), (record, Some("v"), true));
            assert_eq!(lane_of(&item).unwrap(), id);
        }
    }

    #[test]
    fn lanes_of_producers_that_look_alike_are_apart() {
        let names = Names::new("ledger");
        let key = |text: &str| Lane::Key(Key::new(text).unwrap());
        let all = [
            lane("/a", key("b c")),
            lane("/a", Lane::Event("b c".into())),
            lane("", Lane::Event("/a".into())),
            lane("/a", key(&"x".repeat(512))),
            lane(&format!("/{}", "y".repeat(900)), key("z")),
            lane(&format!("/{}", "y".repeat(900)), key("zz")),
        ];
        let ids: Vec<_> = all.iter().map(|lane| names.lane(lane)).collect();
        assert!((1..ids.len()).all(|index| !ids[..index].contains(&ids[index])), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() <= 2048));
    }

    #[test]
    fn places_sort_as_text_as_they_do_as_numbers() {
        let places = [Place::new(1, 9, 3), Place::new(1, 10, 0), Place::new(2, 1, 0), Place::new(10, 1, 0)];
        assert!(places.windows(2).all(|pair| sorted(pair[0]) < sorted(pair[1])));
    }
}
