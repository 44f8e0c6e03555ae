//! How far functions of Lambda are with the stream, and what it may have forgotten before they got it.

use jiff::Timestamp;
use outbox::{RouteName, StoreError, bookkeeping::Lease};

use super::{
    books::{Books, Sent, damaged},
    routes::RouteRow,
    rows::{Change, If, Row},
};
use crate::dynamodb::item::{Item, text, text_of};

const READING: &str = "reading how far a route's functions are";
const NOTING: &str = "noting how far a route's functions are";

/// How far the functions of a route are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// When the records of a batch were created that was handed in, and done, soon after.
    pub current: Option<Timestamp>,
    /// Of a batch that was old when it was done: when it was done, and when its records were created.
    pub behind: Option<(Timestamp, Timestamp)>,
    /// When the sink last accepted something that a forwarder gave it.
    pub accepted: Option<Timestamp>,
    /// What was seen when the stream was last compared with it.
    pub seen: Option<Seen>,
    /// What the stream may have forgotten before a forwarder got it.
    pub loss: Option<Loss>,
    /// When the replay was asked for that publishes it.
    pub asked: Option<Timestamp>,
}

/// A look at the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it was.
    pub at: Timestamp,
    /// Up to when nothing was in the stream that had not been handed in.
    pub until: Timestamp,
    /// The stream's label: another one once it was disabled and enabled again.
    pub stream: String,
    /// When the first of those was inserted that the stream held and nobody had been handed, if there was one.
    pub waiting: Option<Timestamp>,
}

/// Entries that nobody may have got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// None was recorded before this.
    pub since: Timestamp,
    /// When it was found out.
    pub found: Timestamp,
    /// How.
    pub reason: String,
    /// The replay that publishes them, once it was asked for.
    pub replay: Option<String>,
}

/// A batch that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedIn {
    /// Its records were created a short time before.
    Current(Timestamp),
    /// It was old: when it was done, and when its records were created.
    Behind(Timestamp, Timestamp),
}

impl Watermark {
    /// Up to when all that was inserted had been handed in, as far as forwarders know: they say so once a minute. While one
    /// of them is behind, that one counts.
    pub fn handed_in(&self) -> Option<Timestamp> {
        match (self.current, self.behind) {
            (Some(current), Some((at, created))) if at >= current => Some(created.min(current)),
            (None, Some((_, created))) => Some(created),
            (current, _) => current,
        }
    }

    /// Since when something waits in the stream that a look at it found, and that was not handed in since.
    pub fn waiting(&self) -> Option<Timestamp> {
        let found = self.seen.as_ref()?.waiting;
        found.filter(|found| self.handed_in().is_none_or(|handed_in| handed_in < *found))
    }

    fn read(found: &Item, name: &str) -> Result<Self, StoreError> {
        let given = |what| text_of(found, what).filter(|text| !text.is_empty());
        let time = |what| -> Result<Option<Timestamp>, StoreError> {
            given(what).map(|text| text.parse().map_err(|_| damaged("watermark", name, what))).transpose()
        };
        let (stream, waiting) = (given("seen_stream").map(str::to_owned), time("seen_waiting")?);
        let reason = given("loss_reason").unwrap_or_default().to_owned();
        let replay = given("loss_replay").map(str::to_owned);
        Ok(Self {
            current: time("current")?,
            behind: time("behind_at")?.zip(time("behind_created")?),
            accepted: time("accepted")?,
            seen: match (time("seen_at")?, time("seen_until")?, stream) {
                (Some(at), Some(until), Some(stream)) => Some(Seen { at, until, stream, waiting }),
                _ => None,
            },
            loss: match (time("loss_since")?, time("loss_found")?) {
                (Some(since), Some(found)) => Some(Loss { since, found, reason, replay }),
                _ => None,
            },
            asked: time("loss_asked")?,
        })
    }

    /// The condition that what is known of a loss is as it was read.
    fn loss_as_read(&self) -> If {
        self.loss.as_ref().map_or(If::Empty("loss_since"), as_read)
    }

    /// What is to be written for `loss` to be known, all of which was committed before `until`; nothing where it is already.
    fn with(&self, loss: &Loss, until: Timestamp) -> Option<Attributes> {
        let known = self.loss.as_ref();
        let is_known = known.is_some_and(|known| known.since <= loss.since && known.replay.is_none());
        if is_known || self.is_replayed(loss.since, until) {
            return None;
        }
        Some(vec![
            ("loss_since", known.map_or(loss.since, |known| known.since.min(loss.since)).to_string()),
            ("loss_found", known.map_or(loss.found, |known| known.found).to_string()),
            ("loss_reason", loss.reason.clone()),
            ("loss_replay", loss.replay.clone().unwrap_or_default()),
            ("loss_asked", String::new()),
        ])
    }

    /// Whether the replay that was asked for publishes also what was lost since `since`, and was in the table by `until`.
    fn is_replayed(&self, since: Timestamp, until: Timestamp) -> bool {
        let replayed = self.loss.as_ref().filter(|loss| loss.replay.is_some());
        replayed.is_some_and(|loss| loss.since <= since) && self.asked.is_some_and(|asked| until <= asked)
    }
}

/// The condition that a loss is still the one that was read, and its replay, too: what is found since changes one of them.
fn as_read(loss: &Loss) -> If {
    let replay = loss.replay.as_deref().unwrap_or_default();
    If::Has(vec![("loss_since", text(loss.since.to_string())), ("loss_replay", text(replay))])
}

fn row(route: &RouteRow) -> Row {
    Row::new("watermark", &route.id)
}

type Attributes = Vec<(&'static str, String)>;

fn said(batch: HandedIn, accepted: Option<Timestamp>) -> Attributes {
    let mut attributes = match batch {
        HandedIn::Current(created) => vec![("current", created.to_string())],
        HandedIn::Behind(at, created) => vec![("behind_at", at.to_string()), ("behind_created", created.to_string())],
    };
    attributes.extend(accepted.map(|at| ("accepted", at.to_string())));
    attributes
}

impl Books {
    pub(super) async fn watermark(&self, name: &RouteName) -> Result<Watermark, StoreError> {
        let Some(route) = self.route(name).await? else { return Ok(Watermark::default()) };
        let found = self.get(&row(&route), READING).await?;
        found.map_or_else(|| Ok(Watermark::default()), |found| Watermark::read(&found, &route.id))
    }

    pub(super) async fn note_handed_in(
        &self,
        lease: &Lease,
        name: &RouteName,
        batch: HandedIn,
        accepted: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.note(Some(lease), name, said(batch, accepted), None).await.map(drop)
    }

    pub(super) async fn note_seen(&self, lease: &Lease, name: &RouteName, seen: &Seen) -> Result<(), StoreError> {
        let Seen { at, until, stream, waiting } = seen;
        let attributes = vec![
            ("seen_at", at.to_string()),
            ("seen_until", until.to_string()),
            ("seen_stream", stream.clone()),
            ("seen_waiting", waiting.map(|since| since.to_string()).unwrap_or_default()),
        ];
        self.note(Some(lease), name, attributes, None).await.map(drop)
    }

    /// One that is known already is only moved back. What is under way against it may have passed by what is lost besides, if
    /// that was not in the table yet when it was asked for.
    pub(super) async fn note_loss(
        &self,
        lease: &Lease,
        name: &RouteName,
        loss: &Loss,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            let mark = Box::pin(self.watermark(name)).await?;
            let Some(attributes) = mark.with(loss, until) else { return Ok(()) };
            if Box::pin(self.note(Some(lease), name, attributes, Some(mark.loss_as_read()))).await? {
                return Ok(());
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(NOTING));
            }
        }
    }

    /// Says whether it did: not if the loss is no longer the one that was `read`.
    pub(super) async fn note_recovering(
        &self,
        name: &RouteName,
        read: &Loss,
        replay: &str,
    ) -> Result<bool, StoreError> {
        let asked = if replay.is_empty() { String::new() } else { self.calls.clock.wall().to_string() };
        let attributes = vec![("loss_replay", replay.to_owned()), ("loss_asked", asked)];
        self.note(None, name, attributes, Some(as_read(read))).await
    }

    /// Says whether it did: not if the loss is no longer the one that was `read`.
    pub(super) async fn forget_loss(&self, name: &RouteName, read: &Loss) -> Result<bool, StoreError> {
        let nothing = ["loss_since", "loss_found", "loss_reason", "loss_replay", "loss_asked"];
        self.note(None, name, nothing.map(|name| (name, String::new())).to_vec(), Some(as_read(read))).await
    }

    /// Says whether the row is as `condition` has it, where there is one, and so was written.
    async fn note(
        &self,
        lease: Option<&Lease>,
        name: &RouteName,
        attributes: Attributes,
        condition: Option<If>,
    ) -> Result<bool, StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            let route = self.route_or_new(name).await?;
            let set = attributes.iter().map(|(name, value)| (*name, text(value))).collect();
            let only = condition.clone().unwrap_or(If::Anything);
            let update = self.actions().update(&row(&route), Change { set, ..Change::default() }, only)?;
            if self.write(lease, Some(self.called(&route)?), vec![update], NOTING).await? == Sent::Done {
                return Ok(true);
            }
            let is_called_so = self.route(name).await?.is_some_and(|now| now.id == route.id);
            if condition.is_some() && is_called_so {
                return Ok(false);
            }
            if !pauses.wait(&*self.calls.clock).await {
                return Err(Self::busy(NOTING));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn while_a_forwarder_is_behind_that_one_counts() {
        let current = Watermark { current: Some(at(900)), ..Watermark::default() };
        assert_eq!(Watermark::default().handed_in(), None);
        assert_eq!(current.handed_in(), Some(at(900)));
        let behind = |done, created| Watermark { behind: Some((at(done), at(created))), ..current.clone() };
        assert_eq!(behind(901, 300).handed_in(), Some(at(300)));
        assert_eq!(behind(899, 300).handed_in(), Some(at(900)), "it has caught up since");
    }

    #[test]
    fn what_waits_in_the_stream_does_so_until_it_is_handed_in() {
        let seen = Seen { at: at(800), until: at(100), stream: "s".to_owned(), waiting: Some(at(300)) };
        let waits = Watermark { seen: Some(seen), ..Watermark::default() };
        let handed_in = |until| Watermark { current: Some(at(until)), ..waits.clone() };
        assert_eq!((waits.waiting(), handed_in(299).waiting()), (Some(at(300)), Some(at(300))));
        assert_eq!(handed_in(300).waiting(), None);
    }
}
