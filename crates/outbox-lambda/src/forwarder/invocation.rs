//! One invocation: a pipeline that is fed with the batch, and the loop that carries out what it wants.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use outbox::{
    Event, Lane, Moment, Position, Record, StoreError,
    bookkeeping::{HealthState, Keep, Lease},
    filter::Matcher,
    pipeline::{Disorder, Effect, Health, Input, Observed, Pipeline, Resume, Settings},
    source::Limit,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Done, Parts, Share, Time,
    gaps::{self, Fetched, Gap},
    jobs,
    standing::Standing,
    turns::{self, Place},
};
use crate::batch::Batch;

/// What became of a batch.
pub(super) struct Ended {
    /// So many of its first records are done.
    pub(super) done: usize,
    /// What is done behind them.
    pub(super) beyond: Vec<(Position, u32)>,
    /// Whether the sink took anything of it.
    pub(super) accepted: bool,
    /// Since when nothing of it is accepted, and nobody says whose fault that is.
    pub(super) doubted: Option<Timestamp>,
    /// How the route fares.
    pub(super) health: HealthState,
    /// What makes it useless to go on.
    pub(super) fatal: Option<StoreError>,
}

/// One batch under way.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; none excludes another")]
pub(super) struct Invocation<'a> {
    pub(super) parts: &'a Parts,
    pub(super) share: &'a Share,
    pub(super) lease: Lease,
    gapless: bool,
    pub(super) time: Time,
    pipeline: Pipeline,
    pub(super) filter: Matcher,
    /// The batch's entries in their turns, each with its record's place in the batch.
    pub(super) entries: Vec<(usize, Arc<Record>)>,
    /// Entries that the pipeline has not asked for yet.
    waiting: VecDeque<Arc<Record>>,
    /// Of each entry, by the position behind it.
    places: HashMap<Position, Place>,
    pub(super) records: usize,
    /// Where the prefix ends now.
    pub(super) prefix: usize,
    /// Events that are done.
    pub(super) finished: Done,
    /// What is missing between the batch's entries, by the position of the one behind.
    pub(super) gaps: HashMap<Position, Gap>,
    pub(super) fetched: Fetched,
    /// Lanes of which the sink did not take the event that it was given last.
    pub(super) failed: BTreeSet<Lane>,
    /// Whether the sink took anything.
    pub(super) accepted: bool,
    /// Whether something of the batch was done before, when it came for the first time.
    pub(super) is_redelivered: bool,
    /// Whether the last call failed by the sink's own fault.
    pub(super) is_sink_down: bool,
    /// Since when nothing of the batch was accepted before, and nobody said whose fault that was.
    pub(super) doubted: Option<Timestamp>,
    /// What the sink said last of what it did not take.
    pub(super) said: Option<String>,
    /// Whether all of the batch is done although the sink did not take all of it.
    pub(super) resolved: bool,
    pub(super) jobs: JoinSet<jobs::Done>,
    inputs: VecDeque<Input>,
    wake: Option<Moment>,
    health: Health,
    /// Why the bookkeeping could not be written the last time.
    pub(super) unwritten: Option<String>,
    pub(super) fatal: Option<StoreError>,
    draining: bool,
    over: bool,
}

impl<'a> Invocation<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        share: &'a Share,
        lease: Lease,
        gapless: bool,
        batch: &Batch,
        standing: Standing,
        time: Time,
    ) -> Self {
        let Standing { troubled, tombstones, done, doubted } = standing;
        let entries = turns::in_turn(batch);
        let resume = Resume { position: Position::new("@"), troubled, tombstones };
        let settings = settings(parts, done.clone(), time);
        Self {
            parts,
            share,
            lease,
            gapless,
            time,
            pipeline: Pipeline::new(settings, resume),
            filter: parts.route.filter.compile(),
            waiting: entries.iter().map(|(_, entry)| entry.clone()).collect(),
            places: turns::places(&entries, batch.records.len()),
            gaps: gaps::gaps(&entries),
            entries,
            records: batch.records.len(),
            fetched: Fetched::new(),
            failed: BTreeSet::new(),
            accepted: false,
            is_redelivered: !done.is_empty(),
            is_sink_down: false,
            doubted,
            said: None,
            resolved: false,
            prefix: 0,
            finished: done,
            jobs: JoinSet::new(),
            inputs: VecDeque::from([Input::Tick]),
            wake: None,
            health: Health::Flowing,
            unwritten: None,
            fatal: None,
            draining: false,
            over: false,
        }
    }

    /// Publishes until all is done, or the time is over.
    pub(super) async fn run(mut self) -> Ended {
        while !self.over {
            if let Some(input) = self.inputs.pop_front() {
                self.step(input);
                continue;
            }
            let now = self.parts.clock.moment();
            if !self.draining && (now >= self.time.drain || self.fatal.is_some()) {
                self.draining = true;
                self.inputs.push_back(Input::Drain);
                continue;
            }
            if now >= self.time.give_up {
                tracing::warn!(route = %self.parts.route.name, "calls were given up at the deadline; their events come again");
                break;
            }
            let end = if self.draining { self.time.give_up } else { self.time.drain };
            let until = self.wake.map_or(end, |wake| wake.min(end));
            tokio::select! {
                biased;
                Some(done) = self.jobs.join_next() => self.complete(done).await,
                () = sleep_until(Instant::now() + until.since(now)) => {
                    self.wake = self.wake.filter(|wake| *wake > until);
                    self.inputs.push_back(Input::Tick);
                }
            }
        }
        // Nothing is in flight once an answer is given: calls without an answer are cut off. What the bookkeeping has begun
        // to write it writes to the end.
        self.jobs.shutdown().await;
        if self.over && self.prefix < self.records {
            self.keep_what_is_left().await;
        }
        self.ended()
    }

    fn ended(self) -> Ended {
        let done = self.answerable(self.prefix);
        let is_doubted = !self.failed.is_empty() && !self.accepted && !self.is_sink_down;
        // Of another record it is not known for how long.
        let before = self.doubted.filter(|_| done == 0);
        let doubted = is_doubted.then(|| before.unwrap_or_else(|| self.parts.clock.wall()));
        let beyond = self.places.iter().filter(|(_, place)| place.at >= done).map(|(position, _)| position.as_str());
        // What was fetched is fetched again.
        let fetched = self.all_fetched().map(|record| record.position.as_str());
        let beyond: BTreeSet<_> = beyond.chain(fetched).collect();
        let beyond = self.finished.iter().filter(|(position, _)| beyond.contains(position.as_str()));
        let beyond = beyond.map(|(position, index)| (Position::new(position), *index)).collect();
        let health = match (
            if self.resolved { Health::Flowing } else { self.health },
            self.unwritten.filter(|_| self.prefix < self.records),
        ) {
            (Health::BackingOff { reason }, _) => HealthState::BackingOff { reason },
            (_, Some(reason)) => {
                HealthState::BackingOff { reason: format!("the bookkeeping cannot be written: {reason}") }
            }
            (Health::Overloaded, None) => HealthState::Overloaded,
            (Health::Flowing, None) => HealthState::Flowing,
        };
        Ended { done, beyond, accepted: self.accepted, doubted, health, fatal: self.fatal }
    }

    fn step(&mut self, input: Input) {
        let now = self.parts.clock.moment();
        let mut effects = Vec::new();
        self.pipeline.step(now, input, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Read { credit } => self.hand_out(credit),
            Effect::Publish { call, events } => {
                let left = self.time.give_up.since(self.parts.clock.moment());
                self.jobs.spawn(jobs::publish(self.parts.sink.clone(), call, events, self.gapless, left));
            }
            Effect::Keep { write, lane, front, events } => {
                let front = front.map(|draft| draft.at(self.parts.clock.wall()));
                let keep = Keep { lane, front, events };
                self.jobs.spawn(jobs::keep(self.parts.clone(), self.lease.clone(), write, keep));
            }
            // The service keeps the checkpoint: the answer tells it.
            Effect::Checkpoint { write, position, finished, .. } => {
                let reached = self.places.get(&position).map_or(0, |place| place.done);
                self.prefix = if finished { self.records } else { self.prefix.max(reached) };
                self.inputs.push_back(Input::Stored { write });
            }
            Effect::FetchMissing { fetch, key, sequences } => {
                self.jobs.spawn(jobs::fetch(self.parts.entries.clone(), fetch, key, sequences));
            }
            Effect::OutOfTurn { key, place, disorder: Disorder::Leap } => {
                tracing::error!(
                    route = %self.parts.route.name, %key, %place,
                    "an entry's number is far beyond that of the one before; it is published, and nothing between is waited \
                     for; look for who writes numbers of their own"
                );
            }
            Effect::OutOfTurn { key, place, disorder } => {
                tracing::warn!(route = %self.parts.route.name, %key, %place, ?disorder, "an entry came out of its turn");
            }
            Effect::Gap { key, sequences } => {
                tracing::error!(
                    route = %self.parts.route.name, %key, ?sequences,
                    "entries are missing: neither the stream nor its table has them, and later ones of the key go on; look \
                     for what removed them"
                );
                self.lost(&key, &sequences);
            }
            Effect::WakeAt(moment) => self.wake = Some(moment),
            Effect::Health(health) => {
                if let Health::BackingOff { reason } = &health {
                    tracing::warn!(route = %self.parts.route.name, reason, "the sink as a whole does not take events");
                }
                self.health = health;
            }
            Effect::Finished => self.over = true,
        }
    }

    /// Hands the pipeline what it asked for of the batch.
    fn hand_out(&mut self, credit: Limit) {
        let (mut records, mut events, mut bytes) = (Vec::new(), 0, 0);
        while let Some(record) = self.waiting.front() {
            events += record.len();
            bytes += record.weight();
            if !records.is_empty() && (events > credit.events || bytes > credit.bytes) {
                break;
            }
            records.extend(self.waiting.pop_front());
        }
        let next = records.last().map_or_else(|| Position::new("@"), |record| record.position.clone());
        self.inputs.push_back(Input::Read { records, next, end: self.waiting.is_empty() });
    }

    /// An event is accepted, or durably kept.
    pub(super) fn finish(&mut self, position: &Position, index: u32) {
        self.finished.insert((position.as_str().to_owned(), index));
    }

    pub(super) fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
    }
}

/// What the pipeline works by. What was done before counts as done where it comes again.
fn settings(parts: &Parts, done: Done, time: Time) -> Settings {
    let (filter, sink) = (parts.route.filter.compile(), parts.sink.clone());
    let done: BTreeMap<String, Vec<u32>> = done.into_iter().fold(BTreeMap::new(), |mut by, (position, index)| {
        by.entry(position).or_default().push(index);
        by
    });
    let was_done = move |record: &Record, event: &Event| {
        let Some(indexes) = done.get(record.position.as_str()) else { return false };
        indexes.contains(&jobs::index_of(event))
    };
    Settings {
        takes: Arc::new(move |record, event| filter.matches(event) && !was_done(record, event)),
        keeps_undecodable: true,
        sink: sink.limits(),
        size: Arc::new(move |event| sink.size(event)),
        retry: parts.route.retry,
        window: parts.route.window,
        checkpoint_after: Duration::ZERO,
        // A key that waits for what is nowhere must not hold up its shard for ever: the next invocation would begin anew.
        observed: Some(Observed { patience: time.drain.since(parts.clock.moment()) / 2, ..Observed::default() }),
        seed: parts.entropy.seed(),
    }
}
