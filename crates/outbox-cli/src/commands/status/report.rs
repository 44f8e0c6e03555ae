//! What `status` knows, as data.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{
    ErrorKind, PartitionId, Position, RouteName,
    bookkeeping::{HealthState, KeptCounts, LeaseView},
    store::{Registration, StoreIdentity},
};
use outbox_sql::postgres::wal::UnreadSlot;
use serde::Serialize;

use crate::{
    commands::{
        holder,
        standing::{self, Behind, Standing},
    },
    config::Config,
    exit::Failure,
    wiring::{self, Stores},
};

/// How long a transaction may be open without being mentioned.
const LONG: Duration = Duration::from_secs(5);

/// Everything that `status` shows.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub at: Timestamp,
    pub store: StoreView,
    pub relay: RelayView,
    pub routes: Vec<RouteView>,
    pub replays: Vec<ReplayView>,
}

/// The business store.
#[derive(Debug, Serialize)]
pub(crate) struct StoreView {
    pub id: String,
    pub producer: String,
    pub incarnation: u32,
    /// Whose transaction has been open for a while, which holds its entries back.
    pub open_transaction: Option<OpenView>,
    /// Replication slots that nobody reads, for which the server keeps its log.
    pub unread_slots: Vec<SlotView>,
}

/// A replication slot that nobody reads.
#[derive(Debug, Serialize)]
pub(crate) struct SlotView {
    pub name: String,
    pub held_bytes: u64,
    /// What it does, and how to get rid of it.
    pub text: String,
}

/// A transaction that does not end.
#[derive(Debug, Serialize)]
pub(crate) struct OpenView {
    pub holder: String,
    pub since: Timestamp,
}

/// Who owns the lease.
#[derive(Debug, Serialize)]
pub(crate) struct RelayView {
    /// The present or last owner, if there ever was one.
    pub holder: Option<String>,
    /// Whether the owner gave the lease up.
    pub released: bool,
    /// Whether the owner was a process of this machine that has ended without doing so.
    pub killed: bool,
    pub epoch: u64,
    pub beat: u64,
    pub failover_seconds: f64,
    /// How long `--watch` has seen no beat.
    pub silent_seconds: Option<u64>,
}

/// A route.
#[derive(Debug, Serialize)]
pub(crate) struct RouteView {
    pub name: String,
    pub sink: Option<String>,
    pub configured: bool,
    pub registered: bool,
    pub gapless: Option<bool>,
    pub backlog: u64,
    pub backlog_exact: bool,
    pub oldest: Option<Timestamp>,
    /// Entries a second that its checkpoint passed; known from the second look on.
    pub rate: Option<f64>,
    pub retrying: u64,
    pub dead: u64,
    pub parked: u64,
    /// Events that come again at most after a crash of the relay; known of configured routes.
    pub duplicates_after_crash: Option<u64>,
    pub state: State,
    pub reason: Option<String>,
    pub since: Option<Timestamp>,
    /// The function of Lambda that publishes it, if one does: then there is no backlog to be counted.
    #[cfg(feature = "aws")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<super::functions::FunctionView>,
    /// What a stream may have forgotten before the route's function got it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostView>,
    #[serde(skip)]
    pub standings: Vec<Standing>,
}

/// Entries that nobody may have got.
#[derive(Debug, Serialize)]
pub(crate) struct LostView {
    /// None was recorded before this.
    pub since: Timestamp,
    pub found: Timestamp,
    pub reason: String,
    /// The replay that publishes them, once it was asked for.
    pub replay: Option<String>,
}

/// Whether a route's events flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Flowing,
    Paused,
    BackingOff,
    Overloaded,
    Recovering,
    Stopped,
    /// Configured, and no relay has seen it yet.
    New,
    /// Registered, and no longer configured: retention waits for it.
    NotConfigured,
}

/// A replay that is not finished, or keeps something.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayView {
    pub id: String,
    pub route: String,
    /// Entries still to be read.
    pub left: u64,
    /// Its dead letters.
    pub dead: u64,
    /// Its other kept events: retrying, or parked.
    pub waiting: u64,
}

impl Report {
    /// Looks at everything once.
    pub(crate) async fn gather(config: &Config, stores: &Stores, now: Timestamp) -> Result<Self, Failure> {
        let StoreIdentity { id, incarnation, producer, .. } = stores.business.identity().await?;
        let relay = RelayView::from(stores.bookkeeping.lease(&config.relay.name).await?);
        let registrations = stores.business.routes().await?;
        let paused = stores.bookkeeping.paused().await?;
        let mut routes = Vec::new();
        for route in &config.routes {
            let found = registrations.iter().find(|registration| registration.route == route.settings.name);
            let registration = found.cloned().unwrap_or_else(|| standing::would_be(route, now));
            let mut view = look(stores, &registration, &paused, &relay).await?;
            view.sink = Some(route.sink.shown());
            view.configured = true;
            view.duplicates_after_crash = Some(route.settings.duplicates_after_crash(&wiring::limits(route)));
            if found.is_none() {
                (view.registered, view.gapless, view.state) = (false, None, State::New);
            }
            routes.push(view);
        }
        for registration in
            registrations.iter().filter(|registration| config.route(registration.route.as_str()).is_none())
        {
            let mut view = look(stores, registration, &paused, &relay).await?;
            view.state = State::NotConfigured;
            view.since = None;
            view.reason = Some(
                "registered, but no longer configured; retention waits for it: `outbox route rename` or `retire`"
                    .to_owned(),
            );
            routes.push(view);
        }
        #[cfg(feature = "aws")]
        super::functions::note(config, &mut routes).await?;
        let replays = replays(stores, &registrations).await?;
        let open_transaction = open_transaction(stores, now).await?;
        let unread_slots = wiring::unread_slots(config).await?.into_iter().map(SlotView::from).collect();
        let store = StoreView { id, producer, incarnation, open_transaction, unread_slots };
        Ok(Self { at: now, store, relay, routes, replays })
    }

    /// Whether nothing asks for attention that only an operator can give.
    pub(crate) fn is_well(&self) -> bool {
        self.routes.iter().all(|route| match route.state {
            _ if route.lost.as_ref().is_some_and(|lost| lost.replay.is_none()) => false,
            State::Stopped | State::Overloaded => false,
            State::Flowing
            | State::Paused
            | State::BackingOff
            | State::Recovering
            | State::New
            | State::NotConfigured => true,
        })
    }

    /// Works out the rates since `earlier`, `apart` ago.
    pub(crate) async fn compare(&mut self, earlier: &Self, apart: Duration, stores: &Stores) -> Result<(), Failure> {
        for route in &mut self.routes {
            let Some(before) = earlier.routes.iter().find(|before| before.name == route.name) else { continue };
            let mut passed = 0;
            for standing in &route.standings {
                let was = before.standings.iter().find(|was| was.partition == standing.partition);
                let Some(was) = was.and_then(|was| was.position.as_ref()) else { continue };
                let Some(is) = standing.position.as_ref().filter(|is| *is != was) else { continue };
                passed += passed_between(stores, &standing.partition, was, is).await?;
            }
            route.rate = Some(per_second(passed, apart));
        }
        Ok(())
    }
}

/// Entries between two positions; none that can be counted where the source does not remember them.
async fn passed_between(
    stores: &Stores,
    partition: &PartitionId,
    was: &Position,
    is: &Position,
) -> Result<u64, Failure> {
    let behind = |position| stores.source.backlog(partition, position);
    match (behind(was).await, behind(is).await) {
        (Ok(then), Ok(now)) => Ok(then.entries.saturating_sub(now.entries)),
        (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::Trimmed => Ok(0),
        (Err(error), _) | (_, Err(error)) => Err(error.into()),
    }
}

/// The transaction that has been open for longest, if that is worth a word.
async fn open_transaction(stores: &Stores, now: Timestamp) -> Result<Option<OpenView>, Failure> {
    let open = stores.business.oldest_transaction().await?;
    let open = open.filter(|open| now.duration_since(open.since).unsigned_abs() >= LONG);
    Ok(open.map(|open| OpenView { holder: open.holder, since: open.since }))
}

#[expect(clippy::cast_precision_loss, reason = "a rate that is shown")]
fn per_second(count: u64, apart: Duration) -> f64 {
    let seconds = apart.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

async fn look(
    stores: &Stores,
    registration: &Registration,
    paused: &[RouteName],
    relay: &RelayView,
) -> Result<RouteView, Failure> {
    let Behind { standings, mut backlog, forgotten } = standing::behind(stores, registration).await?;
    let KeptCounts { retrying, dead, parked, .. } = stores.bookkeeping.kept_counts(&registration.route).await?;
    let health = stores.bookkeeping.health(&registration.route).await?;
    let since = health.as_ref().map(|health| health.since);
    let (mut state, mut reason) = match health.map(|health| health.state) {
        None | Some(HealthState::Flowing) => (State::Flowing, None),
        Some(HealthState::BackingOff { reason }) => (State::BackingOff, Some(reason)),
        Some(HealthState::Overloaded) => {
            let reason = "too many keys in trouble: nothing new is read until they are redriven or discarded";
            (State::Overloaded, Some(reason.to_owned()))
        }
        Some(HealthState::Recovering { reason }) => (State::Recovering, Some(reason)),
        Some(HealthState::Stopped { reason }) => (State::Stopped, Some(reason)),
    };
    // A relay that runs says itself how it is.
    if let Some(said) = forgotten.filter(|_| !relay.may_run()) {
        match standing::in_table(stores, registration).await {
            Ok(entries) => {
                backlog.entries = backlog.entries.max(entries.unwrap_or(0));
                if state != State::Stopped {
                    (state, reason) =
                        (State::Recovering, Some(format!("the next relay reads the table again: {said}")));
                }
            }
            Err(error) if error.kind().retry() => return Err(error.into()),
            Err(error) => (state, reason) = (State::Stopped, Some(error.to_string())),
        }
    }
    let pausing = paused.contains(&registration.route) && state != State::Stopped;
    Ok(RouteView {
        name: registration.route.to_string(),
        sink: None,
        configured: false,
        registered: true,
        gapless: Some(registration.gapless),
        backlog: backlog.entries,
        backlog_exact: backlog.exact,
        oldest: backlog.oldest,
        rate: None,
        retrying,
        dead,
        parked,
        duplicates_after_crash: None,
        state: if pausing { State::Paused } else { state },
        reason: if pausing { None } else { reason },
        since: if pausing { None } else { since },
        #[cfg(feature = "aws")]
        function: None,
        lost: None,
        standings,
    })
}

async fn replays(stores: &Stores, registrations: &[Registration]) -> Result<Vec<ReplayView>, Failure> {
    let mut views = Vec::new();
    for replay in stores.bookkeeping.replays().await? {
        let kept = stores.bookkeeping.kept_counts(&replay.route.replay(&replay.id)).await?;
        if replay.finished && kept.lanes == 0 {
            continue;
        }
        let registration = registrations.iter().find(|registration| registration.route == replay.route);
        let left = match registration {
            Some(registration) if !replay.finished => standing::left_of_replay(stores, registration, &replay).await?,
            Some(_) | None => 0,
        };
        let (dead, waiting) = (kept.dead, kept.retrying + kept.parked);
        views.push(ReplayView { id: replay.id, route: replay.route.to_string(), left, dead, waiting });
    }
    Ok(views)
}

impl From<UnreadSlot> for SlotView {
    fn from(slot: UnreadSlot) -> Self {
        Self { text: slot.to_string(), name: slot.name, held_bytes: slot.held_bytes }
    }
}

impl From<LeaseView> for RelayView {
    fn from(lease: LeaseView) -> Self {
        Self {
            killed: lease.epoch > 0 && !lease.released && holder::has_ended(&lease.holder),
            holder: (lease.epoch > 0).then_some(lease.holder),
            released: lease.released,
            epoch: lease.epoch,
            beat: lease.beat,
            failover_seconds: lease.duration.as_secs_f64(),
            silent_seconds: None,
        }
    }
}

impl RelayView {
    /// Whether one may be running.
    fn may_run(&self) -> bool {
        self.holder.is_some() && !self.released && !self.killed
    }

    /// Whether somebody renewed the lease after `earlier`.
    pub(crate) fn has_moved_since(&self, earlier: &Self) -> bool {
        (self.epoch, self.beat) != (earlier.epoch, earlier.beat)
    }

    /// Notes how long nobody has renewed it.
    pub(crate) fn note_silence(&mut self, silence: Duration) {
        self.silent_seconds = Some(silence.as_secs());
    }

    /// Whether the owner has been silent for longer than another relay would wait.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent_seconds.is_some_and(|seconds| Duration::from_secs(seconds).as_secs_f64() > self.failover_seconds)
    }
}
