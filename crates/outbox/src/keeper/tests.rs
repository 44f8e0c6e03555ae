//! The keeper's rules, one by one: a keeper, a bookkeeping of three maps, and a sink that answers as each test says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Effect, FrontPlan, Input, Keeper, LoadId, Settings, TroubleDraft};
use crate::{
    bookkeeping::{Kept, KeptContent, KeptId, Lane, SettleOutcome},
    clock::Moment,
    entry::{Position, Undecodable},
    event::{Event, Key, SKIPPED},
    pipeline::{CallId, FrontDraft, Health, WriteId},
    route::RetryPolicy,
    sink::{Fault, Outcome, SinkLimits},
    source::PartitionId,
    testing_event,
};

mod operator;
mod order;
mod retry;
mod settlement;
mod sink;

fn settings() -> Settings {
    Settings {
        sink: SinkLimits {
            ordered_calls: true,
            max_events: 100,
            max_bytes: 1_000_000,
            max_event_bytes: 100_000,
            max_calls: 4,
        },
        size: Arc::new(|event| event.data().map_or(0, bytes::Bytes::len)),
        retry: RetryPolicy { attempts: 3, ..RetryPolicy::default() },
        gapless: true,
        seed: 1,
    }
}

/// As [`settings`], for a sink that takes one event of a key at a time.
fn singly() -> Settings {
    Settings { sink: SinkLimits { ordered_calls: false, ..settings().sink }, ..settings() }
}

/// A keeper, what it wants, and what its bookkeeping holds.
struct Rig {
    keeper: Keeper,
    now: Moment,
    store: BTreeMap<Lane, Stored>,
    numbers: u64,
    loads: Vec<(LoadId, Lane, usize)>,
    calls: Vec<(CallId, Vec<String>)>,
    settles: Vec<Settle>,
    released: Vec<Lane>,
    health: Vec<Health>,
    wake: Option<Moment>,
    finished: bool,
}

/// A lane in trouble, as the bookkeeping has it.
#[derive(Clone)]
struct Stored {
    generation: u64,
    plan: FrontPlan,
    /// When the plan was stored: what a retry's delay counts from.
    since: Moment,
    attempts: u32,
    failed_since: Moment,
    kept: Vec<Kept>,
}

impl Default for Stored {
    fn default() -> Self {
        let start = Moment::from_zero(Duration::ZERO);
        let (since, failed_since) = (start, start);
        Self { generation: 0, plan: FrontPlan::Dead, since, attempts: 0, failed_since, kept: Vec::new() }
    }
}

impl Stored {
    fn fares(&mut self, now: Moment, front: &FrontDraft) {
        self.plan = front.retry_in.map_or(FrontPlan::Dead, FrontPlan::Retry);
        self.since = now;
        self.attempts = front.attempts;
        self.failed_since = now.before(front.failed_for);
    }
}

#[derive(Clone, Debug)]
struct Settle {
    write: WriteId,
    lane: Lane,
    generation: u64,
    remove: Vec<KeptId>,
    apart: Option<(Lane, FrontDraft)>,
    discarded: bool,
    front: Option<FrontDraft>,
}

fn lane(key: &str) -> Lane {
    Lane::Key(Key::new(key).unwrap())
}

fn event(key: &str, sequence: u64) -> KeptContent {
    KeptContent::Event(testing_event("order.placed", Some(key), sequence))
}

fn row(id: &str, key: &str) -> KeptContent {
    let key = Some(Key::new(key).unwrap());
    KeptContent::Undecodable(Undecodable { id: id.into(), key, reason: "rubbish".to_owned(), raw: bytes::Bytes::new() })
}

fn refused(permanent: bool) -> Outcome {
    Outcome::Refused { permanent, reason: "no".to_owned() }
}

fn throttled(seconds: u64) -> Outcome {
    Outcome::Throttled { after: Some(Duration::from_secs(seconds)) }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rig(settings: Settings) -> Rig {
    Rig {
        keeper: Keeper::new(settings),
        now: Moment::from_zero(seconds(1_000_000)),
        store: BTreeMap::new(),
        numbers: 0,
        loads: Vec::new(),
        calls: Vec::new(),
        settles: Vec::new(),
        released: Vec::new(),
        health: Vec::new(),
        wake: None,
        finished: false,
    }
}

impl Rig {
    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.keeper.step(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Load { load, lane, limit } => self.loads.push((load, lane, limit)),
                Effect::Publish { call, events } => {
                    self.calls.push((call, events.iter().map(|event| name(event)).collect()));
                }
                Effect::Settle { write, lane, generation, remove, apart, discarded, front } => {
                    self.settles.push(Settle { write, lane, generation, remove, apart, discarded, front });
                }
                Effect::Released { lane } => self.released.push(lane),
                Effect::WakeAt(moment) => self.wake = Some(moment),
                Effect::Health(health) => self.health.push(health),
                Effect::Finished => self.finished = true,
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Stores events behind what the key has; the keeper is not told.
    fn park(&mut self, key: &str, contents: impl IntoIterator<Item = KeptContent>) {
        for content in contents {
            let id = KeptId(self.number());
            let kept = Kept { id, content, partition: PartitionId::new("entries"), position: Position::new("1") };
            self.store.get_mut(&lane(key)).unwrap().kept.push(kept);
        }
    }

    /// A key gets into trouble, in this state.
    fn open(&mut self, key: &str, plan: FrontPlan, contents: impl IntoIterator<Item = KeptContent>) {
        let generation = self.number();
        let (since, failed_since) = (self.now, self.now);
        let stored = Stored { generation, plan, since, attempts: 0, failed_since, kept: Vec::new() };
        self.store.insert(lane(key), stored);
        self.park(key, contents);
        let trouble = self.trouble(&lane(key)).unwrap();
        self.step(Input::Trouble(trouble));
    }

    /// A key gets into trouble with the events of these sequences, due at once; all loads and writes are carried out.
    fn keep(&mut self, key: &str, sequences: impl IntoIterator<Item = u64>) {
        let events: Vec<_> = sequences.into_iter().map(|sequence| event(key, sequence)).collect();
        self.open(key, FrontPlan::Retry(Duration::ZERO), events);
        self.serve();
    }

    /// A lane as the bookkeeping has it now.
    fn trouble(&self, lane: &Lane) -> Option<TroubleDraft> {
        let stored = self.store.get(lane)?;
        let state = match &stored.plan {
            FrontPlan::Retry(delay) => FrontPlan::Retry((stored.since + *delay).since(self.now)),
            FrontPlan::Dead => FrontPlan::Dead,
            FrontPlan::Discard(reason) => FrontPlan::Discard(reason.clone()),
        };
        Some(TroubleDraft {
            lane: lane.clone(),
            generation: stored.generation,
            state,
            attempts: stored.attempts,
            failed_for: self.now.since(stored.failed_since),
        })
    }

    fn troubles(&self) -> Vec<TroubleDraft> {
        self.store.keys().filter_map(|lane| self.trouble(lane)).collect()
    }

    /// An operator changes the front of a key, and the keeper hears of it.
    fn operate(&mut self, key: &str, plan: FrontPlan) {
        let now = self.now;
        let stored = self.store.get_mut(&lane(key)).unwrap();
        (stored.plan, stored.since) = (plan, now);
        self.step(Input::Troubles(self.troubles()));
    }

    fn redrive(&mut self, key: &str) {
        self.store.get_mut(&lane(key)).unwrap().attempts = 0;
        self.operate(key, FrontPlan::Retry(Duration::ZERO));
    }

    fn answer_load(&mut self) {
        let (load, lane, limit) = self.loads.remove(0);
        let kept = self.store.get(&lane).map(|stored| stored.kept.iter().take(limit).cloned().collect());
        self.step(Input::Loaded { load, trouble: self.trouble(&lane), kept: kept.unwrap_or_default() });
    }

    /// Carries out the next settlement in the bookkeeping, as the contract of `Bookkeeping::settle` says.
    fn carry_out(&mut self) -> (WriteId, SettleOutcome) {
        let now = self.now;
        let Settle { write, lane, generation, remove, apart, front, .. } = self.settles.remove(0);
        let (generation_apart, dead) = (self.number(), self.dead(&lane, &remove));
        let Some(stored) = self.store.get_mut(&lane).filter(|stored| stored.generation == generation) else {
            return (write, SettleOutcome::Changed);
        };
        stored.kept.retain(|kept| !remove.contains(&kept.id));
        let left = stored.kept.len() as u64;
        if let Some(front) = front {
            stored.fares(now, &front);
        }
        if left == 0 {
            self.store.remove(&lane);
        }
        if let (Some((lane, front)), Some(dead)) = (apart, dead) {
            let mut alone = Stored { generation: generation_apart, kept: vec![dead], ..Stored::default() };
            alone.fares(now, &front);
            self.store.insert(lane, alone);
        }
        (write, if left == 0 { SettleOutcome::Released } else { SettleOutcome::Left(left) })
    }

    /// The first of what a settlement removes.
    fn dead(&self, lane: &Lane, remove: &[KeptId]) -> Option<Kept> {
        self.store.get(lane)?.kept.iter().find(|kept| Some(&kept.id) == remove.first()).cloned()
    }

    fn store_settle(&mut self) {
        let (write, outcome) = self.carry_out();
        self.step(Input::Settled { write, outcome });
    }

    /// Carries out all loads and writes, until nothing but calls is awaited.
    fn serve(&mut self) {
        loop {
            if !self.loads.is_empty() {
                self.answer_load();
            } else if !self.settles.is_empty() {
                self.store_settle();
            } else {
                return;
            }
        }
    }

    /// Lets time pass. As a shell does, it tells the keeper of it only when that asked to be woken.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.wake.take_if(|wake| *wake <= end) {
            self.now = wake;
            self.step(Input::Tick);
            self.serve();
        }
        self.now = end;
        self.serve();
    }

    /// Lets time pass, a second at a time, until there is a call.
    fn wait_for_call(&mut self) {
        for _ in 0..100_000 {
            if !self.calls.is_empty() {
                return;
            }
            self.wait(seconds(1));
        }
        panic!("no call within a day");
    }

    /// The next call is answered; loads and writes are left to the test.
    fn answer_only(&mut self, outcomes: impl Into<Vec<Outcome>>) {
        let (call, _) = self.calls.remove(0);
        self.step(Input::Answered { call, outcomes: outcomes.into() });
    }

    fn answer(&mut self, outcomes: impl Into<Vec<Outcome>>) {
        self.answer_only(outcomes);
        self.serve();
    }

    /// The next call is accepted; gives the names of its events.
    fn accept(&mut self) -> Vec<String> {
        let events = self.calls[0].1.clone();
        self.answer(vec![Outcome::Accepted; events.len()]);
        events
    }

    fn fail(&mut self, fault: Fault, retry_after: Option<Duration>) {
        let (call, _) = self.calls.remove(0);
        self.step(Input::CallFailed { call, fault, retry_after, reason: "down".to_owned() });
        self.serve();
    }

    /// Ids of what the bookkeeping holds of a key.
    fn left(&self, key: &str) -> Vec<String> {
        let stored = self.store.get(&lane(key));
        stored.map_or(Vec::new(), |stored| stored.kept.iter().map(|kept| kept.content.id().to_owned()).collect())
    }

    fn plan(&self, key: &str) -> &FrontPlan {
        &self.store[&lane(key)].plan
    }
}

/// An event's id, and that it is a marker if it is one.
fn name(event: &Event) -> String {
    if event.kind() == SKIPPED { format!("marker {}", event.id()) } else { event.id().to_owned() }
}
