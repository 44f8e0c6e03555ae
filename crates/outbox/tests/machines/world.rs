//! A world for the two machines: a source in memory, a sink with moods, and a shell that may crash at any point.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use futures_util::FutureExt;
use outbox::{
    Bookkeeping, Clock, CommitId, Content, Event, EventRef, Fault, Key, Lane, NewEvent, Operator, Outcome, PartitionId,
    Place, Placing, Position, Record, RouteName, SinkLimits,
    bookkeeping::{Checkpoint, Keep, KeepOutcome, Lease, Selector, Settlement, Trouble},
    event::Identity,
    keeper::{self, Keeper, TroubleDraft},
    memory::{ManualClock, MemoryBookkeeping, SeededEntropy},
    pipeline::{self, Disorder, Observed, Pipeline, Resume, WriteId},
    route::{RetryPolicy, WindowLimits},
};

#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each fault is switched on by itself")]
pub(crate) struct Faults {
    pub(crate) poison: bool,
    pub(crate) outages: bool,
    pub(crate) bombs: bool,
    pub(crate) crashes: bool,
    pub(crate) store: bool,
    pub(crate) operator: bool,
    /// The source doubles and reorders; without crashes it leaves some out, too.
    pub(crate) disorder: bool,
}

/// Work that the machines asked for and that has not been done yet.
enum Job {
    Call { keeper: bool, call: pipeline::CallId, events: Vec<EventRef> },
    Keep { write: WriteId, keep: Keep },
    Checkpoint { write: WriteId, position: Position },
    Fetch { fetch: pipeline::FetchId, key: Key, sequences: Vec<u64> },
    Load { load: keeper::LoadId, lane: Lane, limit: usize },
    Settle { write: WriteId, settlement: Settlement },
}

struct Machines {
    lease: Lease,
    pipeline: Pipeline,
    keeper: Keeper,
    read_to: usize,
    asked: Option<usize>,
    jobs: VecDeque<Job>,
    operator: u64,
}

pub(crate) struct World {
    rng: Rng,
    faults: Faults,
    clock: ManualClock,
    books: MemoryBookkeeping,
    route: RouteName,
    /// What was committed, in its order.
    table: Vec<Arc<Record>>,
    /// What the source gives of it.
    records: Vec<Arc<Record>>,
    /// Refused by name until healed.
    poison: BTreeSet<String>,
    /// Make the sink answer 500 for the whole call until healed.
    bombs: BTreeSet<String>,
    outage: bool,
    /// Every acceptance, first and later.
    accepted: Vec<String>,
    /// How far each key has arrived.
    arrived: BTreeMap<Key, u64>,
    discarded: BTreeSet<String>,
    machines: Option<Machines>,
    pub(crate) trace: Vec<String>,
    ordered_calls: bool,
    quiet: bool,
    seed: u64,
}

const PARTITION: &str = "entries";

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory never waits")
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = Rng::with_seed(seed);
        let keys = rng.u64(1..8);
        let table = history(&mut rng, keys);
        let records = if faults.disorder { disorder(&mut rng, &table, !faults.crashes) } else { table.clone() };
        let mut world = Self {
            faults,
            clock: ManualClock::default(),
            books: MemoryBookkeeping::new(&SeededEntropy::new(seed)),
            route: RouteName::new("route").unwrap(),
            poison: BTreeSet::new(),
            bombs: BTreeSet::new(),
            outage: false,
            accepted: Vec::new(),
            arrived: BTreeMap::new(),
            discarded: BTreeSet::new(),
            machines: None,
            trace: Vec::new(),
            ordered_calls: rng.bool(),
            quiet: false,
            seed,
            table,
            records,
            rng,
        };
        for event in world.table.iter().flat_map(|record| record.events()) {
            let id = event.id().to_owned();
            if faults.poison && world.rng.u32(0..12) == 0 {
                world.poison.insert(id);
            } else if faults.bombs && world.rng.u32(0..25) == 0 {
                world.bombs.insert(id);
            }
        }
        world.start();
        world
    }

    fn retry() -> RetryPolicy {
        RetryPolicy {
            attempts: 5,
            doubt: Duration::from_secs(20),
            max_delay: Duration::from_secs(5),
            ..RetryPolicy::default()
        }
    }

    /// A worker takes the lease and goes on where the bookkeeping says.
    fn start(&mut self) {
        let view = now(self.books.lease("relay")).unwrap();
        let lease = now(self.books.take("relay", &view, "worker", Duration::from_secs(10))).unwrap().unwrap();
        let troubles = now(self.books.troubles(&self.route, None, 10_000)).unwrap();
        let checkpoint = now(self.books.checkpoints(&self.route)).unwrap().pop();
        let position = checkpoint.map_or(Position::new("0"), |checkpoint| checkpoint.position);
        let tombstones = now(self.books.tombstones(&self.route)).unwrap();
        let sink = SinkLimits {
            ordered_calls: self.ordered_calls,
            max_events: if self.ordered_calls { 7 } else { 4 },
            max_bytes: 4000,
            max_event_bytes: 1000,
            max_calls: 3,
        };
        let size: Arc<dyn Fn(&Event) -> usize + Send + Sync> = Arc::new(|_| 500);
        let pipeline = Pipeline::new(
            pipeline::Settings {
                takes: Arc::new(|_, _| true),
                keeps_undecodable: true,
                sink,
                size: size.clone(),
                retry: Self::retry(),
                window: WindowLimits { events: 24, bytes: 1 << 20, key_share: 6, troubled_keys: 100 },
                checkpoint_after: Duration::from_millis(50),
                observed: self.faults.disorder.then(Observed::default),
                seed: self.rng.u64(..),
            },
            Resume {
                position: position.clone(),
                troubled: troubles.iter().map(|trouble| trouble.lane.clone()).collect(),
                tombstones: tombstones.into_iter().map(|(id, _, position)| (id, position)).collect(),
            },
        );
        let keeper =
            Keeper::new(keeper::Settings { sink, size, retry: Self::retry(), gapless: true, seed: self.rng.u64(..) });
        let read_to = position.as_str().parse().unwrap();
        let operator = now(self.books.operator_changes()).unwrap();
        self.machines =
            Some(Machines { lease, pipeline, keeper, read_to, asked: None, jobs: VecDeque::new(), operator });
        for trouble in &troubles {
            let draft = self.draft(trouble);
            self.keeper(keeper::Input::Trouble(draft));
        }
        self.pipeline(pipeline::Input::Tick);
    }

    fn m(&mut self) -> &mut Machines {
        self.machines.as_mut().unwrap()
    }

    fn note(&mut self, line: String) {
        self.trace.push(line);
    }

    fn draft(&self, trouble: &Trouble) -> TroubleDraft {
        TroubleDraft::at(trouble, self.clock.wall())
    }

    fn pipeline(&mut self, input: pipeline::Input) {
        let (moment, wall) = (self.clock.moment(), self.clock.wall());
        let mut effects = Vec::new();
        self.m().pipeline.step(moment, input, &mut effects);
        for effect in effects {
            match effect {
                pipeline::Effect::Read { credit } => self.m().asked = Some(credit.events),
                pipeline::Effect::Publish { call, events } => {
                    self.check_call(&events);
                    self.m().jobs.push_back(Job::Call { keeper: false, call, events });
                }
                pipeline::Effect::Keep { write, lane, front, events } => {
                    let keep = Keep { lane, front: front.map(|front| front.at(wall)), events };
                    self.m().jobs.push_back(Job::Keep { write, keep });
                }
                pipeline::Effect::Checkpoint { write, position, .. } => {
                    self.m().jobs.push_back(Job::Checkpoint { write, position });
                }
                pipeline::Effect::FetchMissing { fetch, key, sequences } => {
                    self.m().jobs.push_back(Job::Fetch { fetch, key, sequences });
                }
                pipeline::Effect::OutOfTurn { key, place, disorder } => self.out_of_turn(&key, place, disorder),
                pipeline::Effect::Gap { key, sequences } => {
                    panic!("seed {}: {sequences:?} of {key} are there", self.seed)
                }
                pipeline::Effect::WakeAt(_) | pipeline::Effect::Health(_) | pipeline::Effect::Finished => {}
            }
        }
    }

    fn keeper(&mut self, input: keeper::Input) {
        let (moment, wall) = (self.clock.moment(), self.clock.wall());
        let mut effects = Vec::new();
        self.m().keeper.step(moment, input, &mut effects);
        for effect in effects {
            match effect {
                keeper::Effect::Load { load, lane, limit } => {
                    self.m().jobs.push_back(Job::Load { load, lane, limit });
                }
                keeper::Effect::Publish { call, events } => {
                    self.check_call(&events);
                    self.m().jobs.push_back(Job::Call { keeper: true, call, events });
                }
                keeper::Effect::Settle { write, lane, generation, remove, apart, discarded, front } => {
                    assert!(apart.is_none(), "this route parks");
                    let front = front.map(|front| front.at(wall));
                    let settlement = Settlement { lane, generation, remove, apart: None, discarded, front };
                    self.m().jobs.push_back(Job::Settle { write, settlement });
                }
                keeper::Effect::Released { lane } => self.pipeline(pipeline::Input::Released { lane }),
                keeper::Effect::WakeAt(_) | keeper::Effect::Health(_) | keeper::Effect::Finished => {}
            }
        }
    }

    /// A key is in at most one call at a time, and several of its events share a call only where that keeps order.
    fn check_call(&mut self, events: &[EventRef]) {
        let ordered = self.ordered_calls;
        let seed = self.seed;
        let mut keys = BTreeSet::new();
        for event in events {
            if let Some(key) = event.key() {
                assert!(keys.insert(key.clone()) || ordered, "seed {seed}: two events of {key} in an unordered call");
            }
        }
        for job in &self.m().jobs {
            if let Job::Call { events, .. } = job {
                let shared = events.iter().filter_map(|event| event.key()).find(|key| keys.contains(key));
                assert!(shared.is_none(), "seed {seed}: {shared:?} is in two calls at once");
            }
        }
    }

    pub(crate) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..=24 => self.read(),
            25..=79 => self.job(),
            80..=91 => self.pass_time(),
            92..=93 if self.faults.outages && !self.quiet => self.outage = !self.outage,
            94..=95 if self.faults.crashes && !self.quiet => self.crash(),
            96..=98 if self.faults.operator && !self.quiet => self.operate(),
            _ => self.tick(),
        }
    }

    fn read(&mut self) {
        let Some(credit) = self.m().asked else { return };
        let from = self.m().read_to;
        let most = self.rng.usize(1..6);
        let mut records = Vec::new();
        let mut events = 0;
        for record in self.records[from..].iter().take(most) {
            events += record.len();
            if events > credit && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        if records.is_empty() {
            return;
        }
        self.m().asked = None;
        self.m().read_to += records.len();
        let next = Position::new(self.m().read_to.to_string());
        self.note(format!("read to {next}"));
        self.pipeline(pipeline::Input::Read { records, next, end: false });
    }

    fn pass_time(&mut self) {
        let millis = self.rng.u64(1..3000);
        self.clock.advance(Duration::from_millis(millis));
        self.tick();
    }

    fn tick(&mut self) {
        let operator = now(self.books.operator_changes()).unwrap();
        if operator != self.m().operator {
            self.m().operator = operator;
            let troubles = now(self.books.troubles(&self.route, None, 10_000)).unwrap();
            let drafts = troubles.iter().map(|trouble| self.draft(trouble)).collect();
            self.keeper(keeper::Input::Troubles(drafts));
        }
        self.pipeline(pipeline::Input::Tick);
        self.keeper(keeper::Input::Tick);
    }

    /// The worker dies. What it had under way may or may not have taken effect.
    fn crash(&mut self) {
        self.note("crash".to_owned());
        let machines = self.machines.take().unwrap();
        for job in machines.jobs {
            if self.rng.bool() {
                continue;
            }
            match job {
                Job::Call { events, .. } => drop(self.sink(&events)),
                Job::Keep { keep, .. } => {
                    now(self.books.keep(&machines.lease, &self.route, &partition(), &keep)).unwrap();
                }
                Job::Checkpoint { position, .. } => self.store_checkpoint(&machines.lease, &position),
                Job::Settle { settlement, .. } => {
                    now(self.books.settle(&machines.lease, &self.route, &settlement)).unwrap();
                }
                Job::Load { .. } | Job::Fetch { .. } => {}
            }
        }
        now(self.books.release(&machines.lease)).unwrap();
        self.start();
    }

    fn operate(&mut self) {
        let wall = self.clock.wall();
        let dead = now(self.books.dead_letters(&self.route, &Selector::default(), None, 100)).unwrap();
        let Some(letter) = self.rng.choice(&dead) else { return };
        let id = letter.kept.content.id().to_owned();
        let selector = Selector { id: Some(letter.kept.id), ..Selector::default() };
        if self.rng.u32(0..3) == 0 {
            self.note(format!("discard {id}"));
            self.discarded.insert(id);
            now(self.books.discard(&self.route, &selector, "not needed")).unwrap();
        } else {
            self.note(format!("redrive {id}"));
            now(self.books.redrive(&self.route, &selector, wall)).unwrap();
        }
    }

    fn job(&mut self) {
        let count = self.m().jobs.len();
        if count == 0 {
            return;
        }
        let index = self.rng.usize(0..count);
        let job = self.m().jobs.remove(index).unwrap();
        let lease = self.m().lease.clone();
        let store_fails = self.faults.store && !self.quiet && self.rng.u32(0..6) == 0;
        let answer_lost = store_fails && self.rng.bool();
        match job {
            Job::Call { keeper, call, events } => self.answer(keeper, call, &events),
            Job::Keep { write, keep } => {
                if !store_fails || answer_lost {
                    let outcome = now(self.books.keep(&lease, &self.route, &partition(), &keep)).unwrap();
                    self.note(format!("keep {:?} {} {outcome:?}", keep.lane, keep.events.len()));
                    if !answer_lost {
                        return self.kept(write, keep, outcome);
                    }
                }
                self.pipeline(pipeline::Input::StoreFailed { write });
            }
            Job::Checkpoint { write, position } => {
                if !store_fails || answer_lost {
                    self.store_checkpoint(&lease, &position);
                }
                let stored = pipeline::Input::Stored { write };
                self.pipeline(if store_fails { pipeline::Input::StoreFailed { write } } else { stored });
            }
            Job::Fetch { fetch, .. } if store_fails => self.pipeline(pipeline::Input::FetchFailed { fetch }),
            Job::Fetch { fetch, key, sequences } => {
                let records = sequences.iter().map(|&sequence| self.find(&key, sequence)).collect();
                self.note(format!("fetch {sequences:?} of {key}"));
                self.pipeline(pipeline::Input::Fetched { fetch, records });
            }
            Job::Load { load, lane, limit } => {
                if store_fails {
                    return self.keeper(keeper::Input::LoadFailed { load });
                }
                let trouble = now(self.books.trouble(&self.route, &lane)).unwrap().map(|trouble| self.draft(&trouble));
                let kept = now(self.books.kept(&self.route, &lane, limit)).unwrap();
                self.keeper(keeper::Input::Loaded { load, trouble, kept });
            }
            Job::Settle { write, settlement } => {
                if !store_fails || answer_lost {
                    let outcome = now(self.books.settle(&lease, &self.route, &settlement)).unwrap();
                    self.note(format!("settle {:?} {} {outcome:?}", settlement.lane, settlement.remove.len()));
                    if !answer_lost {
                        return self.keeper(keeper::Input::Settled { write, outcome });
                    }
                }
                self.keeper(keeper::Input::StoreFailed { write });
            }
        }
    }

    fn find(&self, key: &Key, sequence: u64) -> Option<Arc<Record>> {
        self.table.iter().find(|record| entry_of(record) == Some((key, sequence))).cloned()
    }

    /// Only a worker that has just begun may not know whether it is late.
    fn out_of_turn(&mut self, key: &Key, place: Place, disorder: Disorder) {
        let seed = self.seed;
        self.note(format!("{disorder:?} {place} of {key}"));
        assert!(self.faults.crashes || disorder == Disorder::Duplicate, "seed {seed}: {disorder:?} {place} of {key}");
    }

    fn kept(&mut self, write: WriteId, keep: Keep, outcome: KeepOutcome) {
        match outcome {
            KeepOutcome::KeyFree => self.pipeline(pipeline::Input::KeyFree { write }),
            KeepOutcome::Stored { generation } => {
                self.pipeline(pipeline::Input::Stored { write });
                if let Some(front) = keep.front {
                    let draft = self.draft(&Trouble { lane: keep.lane, generation, front, kept: 0 });
                    self.keeper(keeper::Input::Trouble(draft));
                }
            }
        }
    }

    fn answer(&mut self, keeper: bool, call: pipeline::CallId, events: &[EventRef]) {
        let answer = self.sink(events);
        let lost = self.faults.outages && !self.quiet && self.rng.u32(0..10) == 0;
        let answer = if lost { Err(Fault::Unknown) } else { answer };
        self.note(format!("call {:?} {answer:?}", events.iter().map(|event| event.id()).collect::<Vec<_>>()));
        let accepted = answer.as_ref().is_ok_and(|outcomes| outcomes.contains(&Outcome::Accepted));
        let reason = "scripted".to_owned();
        let retry_after = (self.rng.u32(0..4) == 0).then_some(Duration::from_secs(2));
        match (keeper, answer) {
            (false, Ok(outcomes)) => self.pipeline(pipeline::Input::Answered { call, outcomes }),
            (false, Err(fault)) => {
                self.pipeline(pipeline::Input::CallFailed { call, fault, retry_after, reason });
            }
            (true, Ok(outcomes)) => self.keeper(keeper::Input::Answered { call, outcomes }),
            (true, Err(fault)) => self.keeper(keeper::Input::CallFailed { call, fault, retry_after, reason }),
        }
        if !keeper && accepted {
            self.keeper(keeper::Input::OthersAccepted);
        }
    }

    /// The other side: takes events of a key in order up to the first that it does not accept.
    fn sink(&mut self, events: &[EventRef]) -> Result<Vec<Outcome>, Fault> {
        if self.outage {
            return Err(if self.rng.bool() { Fault::Sink } else { Fault::Unknown });
        }
        if events.iter().any(|event| self.bombs.contains(event.id()) && event.kind() != "outbox.skipped") {
            return Err(if self.rng.bool() { Fault::Unknown } else { Fault::Event });
        }
        let mut stopped = BTreeSet::new();
        let mut outcomes = Vec::new();
        for event in events {
            let outcome = self.outcome(event, &stopped);
            if outcome == Outcome::Accepted {
                self.accept(event);
            } else {
                stopped.extend(event.key().cloned());
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn outcome(&mut self, event: &Event, stopped: &BTreeSet<Key>) -> Outcome {
        if event.key().is_some_and(|key| stopped.contains(key)) {
            return Outcome::Throttled { after: None };
        }
        if self.poison.contains(event.id()) && event.kind() != "outbox.skipped" {
            return Outcome::Refused { permanent: self.rng.bool(), reason: "poison".to_owned() };
        }
        if self.faults.poison && !self.quiet && self.rng.u32(0..20) == 0 {
            return Outcome::Throttled { after: Some(Duration::from_millis(300)) };
        }
        Outcome::Accepted
    }

    /// First publications of a key follow its order, and nothing overtakes a predecessor.
    fn accept(&mut self, event: &Event) {
        self.accepted.push(event.id().to_owned());
        if let (Some(key), Some(placing)) = (event.key(), event.placing()) {
            let arrived = self.arrived.entry(key.clone()).or_default();
            let number = placing.place.sequence * 10 + u64::from(placing.place.index);
            let before = placing.after.sequence * 10 + u64::from(placing.after.index);
            let (arrived, seed) = (*arrived, self.seed);
            // A worker that begins anew does not know what it has not seen yet.
            let blind = self.faults.disorder && self.faults.crashes;
            assert!(
                number <= arrived || before == arrived || blind,
                "seed {seed}: {} arrived when its key had got to {arrived}\n{}",
                event.id(),
                self.trace.join("\n")
            );
            self.arrived.insert(key.clone(), number.max(arrived));
        }
    }

    /// A checkpoint never passes an event that is neither accepted nor durably kept.
    fn store_checkpoint(&mut self, lease: &Lease, position: &Position) {
        let end: usize = position.as_str().parse().unwrap();
        let mut kept = BTreeSet::new();
        for trouble in now(self.books.troubles(&self.route, None, 10_000)).unwrap() {
            for kept_event in now(self.books.kept(&self.route, &trouble.lane, 10_000)).unwrap() {
                kept.insert(kept_event.content.id().to_owned());
            }
        }
        for event in self.records[..end].iter().flat_map(|record| record.events()) {
            let id = event.id();
            let safe = kept.contains(id) || self.accepted.iter().any(|accepted| accepted == id);
            assert!(
                safe || self.discarded.contains(id),
                "seed {}: the checkpoint {end} passed {id}\n{}",
                self.seed,
                self.trace.join("\n")
            );
        }
        let checkpoint = Checkpoint { partition: partition(), position: position.clone(), finished: false };
        now(self.books.checkpoint(lease, &self.route, &checkpoint, None)).unwrap();
    }

    /// When faults stop, everything is delivered within a bounded number of steps.
    pub(crate) fn heal_and_finish(&mut self) {
        self.quiet = true;
        self.outage = false;
        self.poison.clear();
        self.bombs.clear();
        for _ in 0..200 {
            let wall = self.clock.wall();
            now(self.books.redrive(&self.route, &Selector::default(), wall)).unwrap();
            self.run(200);
            self.clock.advance(Duration::from_secs(10));
            self.tick();
            if self.is_done() {
                return;
            }
        }
        let missing: Vec<_> = self
            .table
            .iter()
            .flat_map(|record| record.events())
            .map(Event::id)
            .filter(|id| !self.accepted.iter().any(|accepted| accepted == id) && !self.discarded.contains(*id))
            .collect();
        let counts = now(self.books.kept_counts(&self.route)).unwrap();
        panic!("seed {}: {missing:?} did not arrive, {counts:?} is kept\n{}", self.seed, self.trace.join("\n"));
    }

    fn is_done(&mut self) -> bool {
        let all = self.table.iter().flat_map(|record| record.events()).all(|event| {
            self.accepted.iter().any(|accepted| accepted == event.id()) || self.discarded.contains(event.id())
        });
        let checkpoint = now(self.books.checkpoints(&self.route)).unwrap().pop();
        let end = checkpoint.map_or(0, |checkpoint| checkpoint.position.as_str().parse().unwrap());
        all && end == self.records.len() && now(self.books.kept_counts(&self.route)).unwrap().lanes == 0
    }
}

fn partition() -> PartitionId {
    PartitionId::new(PARTITION)
}

/// The key and sequence of the entry that a record holds.
fn entry_of(record: &Record) -> Option<(&Key, u64)> {
    let first = record.events().first()?;
    Some((first.key()?, first.placing()?.place.sequence))
}

/// The table as a source gives it that only was seen to keep order: some late, some twice, and, if it leaves out, some
/// never that others of their key follow. The first one of a key comes first.
fn disorder(rng: &mut Rng, table: &[Arc<Record>], leaves_out: bool) -> Vec<Arc<Record>> {
    let mut stream = Vec::new();
    for (index, record) in table.iter().enumerate() {
        let entry = entry_of(record);
        let is_first = entry.is_some_and(|(_, sequence)| sequence == 1);
        let is_followed = table[index + 1..]
            .iter()
            .any(|later| entry_of(later).zip(entry).is_some_and(|((later, _), (key, _))| later == key));
        if leaves_out && is_followed && !is_first && rng.u32(0..10) == 0 {
            continue;
        }
        stream.push((if is_first { index } else { index + rng.usize(0..8) }, record));
        if rng.u32(0..6) == 0 {
            stream.push((index + rng.usize(0..20), record));
        }
    }
    stream.sort_by_key(|(at, _)| *at);
    let positions = 1_u64..;
    let place = |(position, (_, record)): (u64, (usize, &Arc<Record>))| {
        Arc::new(Record { position: Position::new(position.to_string()), ..(**record).clone() })
    };
    positions.zip(stream).map(place).collect()
}

/// Entries of one to four events for a few keys, some events without a key.
fn history(rng: &mut Rng, keys: u64) -> Vec<Arc<Record>> {
    let source: Arc<str> = "/world".into();
    let mut heads = BTreeMap::<u64, (u64, Place)>::new();
    (0..60_u64)
        .map(|number| {
            let keyless = rng.u32(0..8) == 0;
            let count = if keyless { 1 } else { rng.u32(1..4) };
            // Half of all events belong to the first key.
            let key = if rng.bool() { 0 } else { rng.u64(0..keys) };
            let (sequence, mut after) = heads.get(&key).copied().unwrap_or((0, Place::ORIGIN));
            let events: Vec<Event> = (0..count)
                .map(|index| {
                    let mut builder = NewEvent::builder("thing.happened").json(&number);
                    let place = Place::new(1, sequence + 1, index);
                    let placing = (!keyless).then_some(Placing { place, count, after });
                    after = place;
                    if !keyless {
                        builder = builder.key(format!("key/{key}"));
                    }
                    let fallback = format!("keyless-{number}");
                    let identity = Identity { source: &source, placing, recorded: None, fallback_id: &fallback };
                    Event::from_new(builder.build().unwrap(), identity).unwrap()
                })
                .collect();
            if !keyless {
                heads.insert(key, (sequence + 1, after));
            }
            Arc::new(Record {
                position: Position::new((number + 1).to_string()),
                commit: CommitId([0; 16]),
                recorded: jiff::Timestamp::UNIX_EPOCH,
                content: Content::Events(events.into_iter().collect()),
            })
        })
        .collect()
}
