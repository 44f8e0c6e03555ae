//! Drawing a run from its seed.

use std::time::Duration;

use fastrand::Rng;

use super::{
    AnswerFault, BUSY, CallFault, ConsumerMode, ConsumerScene, FilterScene, Incident, IoFault, Operation, PassFault,
    ReplayScene, Resharding, RouteScene, Scene, Schedule, SourceScene, Unwanted, What,
};
use crate::testing::{Doer, Io, simulator::fault::Fault};

impl Schedule {
    /// Draws the run that belongs to `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x006f_7574_626f_7821);
        let scene = Scene::draw(&mut rng);
        let mut incidents = Vec::new();
        draw_transactions(&mut rng, &scene, &mut incidents);
        for _ in 0..rng.usize(0..12) {
            incidents.push(draw_fault(&mut rng, &scene));
        }
        if let SourceScene::Shards { .. } = scene.source {
            for _ in 0..rng.usize(0..5) {
                incidents.push(draw_stream_fault(&mut rng));
            }
        }
        if rng.bool() {
            incidents.push(draw_seldom_killed(&mut rng, &scene));
        }
        if rng.u8(0..8) == 0 {
            draw_discarded_behind(&mut rng, &scene, &mut incidents);
        }
        for (route, _) in scene.routes.iter().enumerate().filter(|(_, route)| route.filter == FilterScene::Key) {
            let (at, what) = (millis(&mut rng, 0..BUSY), What::Operator { route, what: Operation::Refilter });
            incidents.push(Incident { number: 0, at, what });
        }
        if rng.u8(0..4) == 0 {
            // By a second or by a day.
            let longest = [1_000, 60_000, 86_400_000][rng.usize(..3)];
            let (at, by) = (millis(&mut rng, 0..BUSY), millis(&mut rng, 100..longest));
            incidents.push(Incident { number: 0, at, what: What::ClockBack { by } });
        }
        incidents.sort_by_key(|incident| incident.at);
        for (number, incident) in incidents.iter_mut().enumerate() {
            incident.number = number;
        }
        Self { seed, scene, incidents }
    }
}

impl Scene {
    fn draw(rng: &mut Rng) -> Self {
        let routes: Vec<RouteScene> = (0..rng.usize(1..=2)).map(|index| RouteScene::draw(rng, index > 0)).collect();
        let consumer = ConsumerScene::draw(rng, &routes[0]);
        let source = SourceScene::draw(rng);
        Self {
            source,
            keys: rng.usize(1..=6),
            relays: rng.usize(1..=2),
            routes,
            consumer,
            latency: [0, 500, 5_000, 40_000][rng.usize(..4)],
            // Only there are positions of the source the store's.
            retained: (source == SourceScene::Table && rng.bool()).then(|| rng.u64(1..8)),
        }
    }
}

impl ConsumerScene {
    fn draw(rng: &mut Rng, route: &RouteScene) -> Self {
        let modes = [ConsumerMode::Once, ConsumerMode::Latest, ConsumerMode::InOrder, ConsumerMode::AfterCause];
        let mut mode = modes[rng.usize(..modes.len())];
        if route.goes_on && mode != ConsumerMode::Latest {
            // A route that goes on without a dead letter is not gapless, and the other modes want that.
            mode = ConsumerMode::Once;
        }
        Self { mode, claims: rng.u8(0..3) == 0 }
    }
}

impl SourceScene {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u32(0..10) {
            0..=3 => Self::Table,
            4..=5 => Self::Late,
            kind => Self::Shards {
                shards: rng.u32(1..=3),
                page: rng.usize(1..=12),
                // A source that promises order hands out each record once.
                doubling: kind >= 8 && rng.bool(),
                swapping: rng.bool(),
                empty_pages: rng.bool(),
                reordering: kind >= 8,
            },
        }
    }
}

impl RouteScene {
    fn draw(rng: &mut Rng, second: bool) -> Self {
        let ordered_calls = rng.bool();
        Self {
            ordered_calls,
            max_events: rng.usize(1..=6),
            max_calls: rng.usize(1..=3),
            window: rng.usize(4..=32),
            // Some are narrower by their bytes: an event has some hundreds.
            window_bytes: if rng.bool() { rng.usize(2 << 10..8 << 10) } else { 1 << 20 },
            key_share: rng.usize(2..=8),
            troubled_keys: if rng.u8(0..4) == 0 { rng.usize(1..=2) } else { 100 },
            attempts: rng.u32(1..=4),
            quick_attempts: rng.u32(1..=3),
            goes_on: rng.u8(0..6) == 0,
            rate_limit: (rng.u8(0..8) == 0).then(|| rng.u32(5..50)),
            filter: match rng.u8(0..6) {
                0 | 1 if second => FilterScene::Kind,
                2 if second => FilterScene::Key,
                _ => FilterScene::All,
            },
        }
    }
}

fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

fn draw_transactions(rng: &mut Rng, scene: &Scene, incidents: &mut Vec<Incident>) {
    for _ in 0..rng.usize(4..24) {
        let writes = (0..rng.usize(1..=2)).map(|_| (rng.usize(..scene.keys), rng.u32(1..=3))).collect();
        // Without a key there is no place, which a consumer in mode `in_order` refuses.
        let allowed = scene.consumer.mode != ConsumerMode::InOrder;
        let keyless = if allowed && rng.u8(0..5) == 0 { rng.u32(1..=2) } else { 0 };
        let what = What::Transaction { writes, keyless, commits: rng.u8(0..6) != 0, raced: rng.u8(0..8) == 0 };
        incidents.push(Incident { number: 0, at: millis(rng, 0..BUSY), what });
    }
}

fn draw_fault(rng: &mut Rng, scene: &Scene) -> Incident {
    let what = match rng.u32(0..100) {
        0..=35 => {
            let io = draw_io(rng);
            What::Io { io, skip: skip(rng), fault: draw_io_fault(rng) }
        }
        36..=37 => {
            let io = (rng.u8(0..4) > 0).then(|| draw_io(rng));
            What::StoreOut { io, lasts: millis(rng, 300..8000) }
        }
        38..=55 => What::Call { route: rng.usize(..scene.routes.len()), skip: skip(rng), fault: draw_call_fault(rng) },
        56..=60 => {
            let (route, lasts) = (rng.usize(..scene.routes.len()), millis(rng, 100..8000));
            What::Outage { route, lasts, fault: draw_sink_fault(rng) }
        }
        61..=70 => What::Unwanted {
            route: rng.usize(..scene.routes.len()),
            nth: rng.usize(0..30),
            how: match rng.u8(0..5) {
                0 => Unwanted::Refused(rng.u32(1..7)),
                1 | 2 => Unwanted::ForGood,
                3 => Unwanted::Failing,
                _ => Unwanted::Bomb(if rng.bool() { crate::sink::Fault::Event } else { crate::sink::Fault::Unknown }),
            },
        },
        71..=74 => What::Kill { relay: rng.usize(..scene.relays) },
        75..=77 => What::Restart { relay: rng.usize(..scene.relays) },
        78..=84 => {
            let route = rng.usize(..scene.routes.len());
            What::Operator { route, what: draw_operation(rng, scene, route) }
        }
        85..=86 if scene.source == SourceScene::Table => What::Restore { since: millis(rng, 50..6000) },
        85..=91 => What::Pass {
            skip: skip(rng),
            fault: [PassFault::KilledBefore, PassFault::KilledAfter, PassFault::Fails, PassFault::AnswerLost]
                [rng.usize(..4)],
        },
        92..=94 => What::Transport { skip: skip(rng), twice: rng.bool(), late: millis(rng, 0..3000) },
        95..=97 => What::Answer { nth: rng.usize(0..30), how: draw_answer(rng, scene), times: rng.u32(1..4) },
        _ => What::Rubbish { key: rng.bool().then(|| rng.usize(..scene.keys)) },
    };
    Incident { number: 0, at: millis(rng, 0..BUSY + 4000), what }
}

fn draw_io(rng: &mut Rng) -> Io {
    let all: Vec<Io> = Fault::ios().collect();
    // The I/Os that write are the ones that matter, and there are few of them.
    let writes = [Io::Keep, Io::Settle, Io::Checkpoint, Io::Publish, Io::Kept];
    if rng.bool() { writes[rng.usize(..writes.len())] } else { all[rng.usize(..all.len())] }
}

/// A relay's death around an I/O that is seldom done, armed from the first moment on: otherwise it would hardly ever strike.
fn draw_seldom_killed(rng: &mut Rng, scene: &Scene) -> Incident {
    const SELDOM: [Io; 10] = [
        Io::Start,
        Io::Purge,
        Io::Release,
        Io::Trouble,
        Io::ForgetCheckpoints,
        Io::ForgetTombstones,
        Io::NoteReplayed,
        Io::Fetch,
        Io::Recovery,
        Io::AfterRecovery,
    ];
    let is_stream = matches!(scene.source, SourceScene::Shards { .. });
    let ios: Vec<Io> = SELDOM.into_iter().filter(|io| is_stream || io.doer() != Doer::Streams).collect();
    let fault = if rng.bool() { IoFault::KilledBefore } else { IoFault::KilledAfter };
    let what = What::Io { io: ios[rng.usize(..ios.len())], skip: [0, 0, 1][rng.usize(..3)], fault };
    Incident { number: 0, at: Duration::ZERO, what }
}

fn draw_stream_fault(rng: &mut Rng) -> Incident {
    let what = match rng.u32(0..7) {
        0..=1 => What::Reshard(Resharding::Split),
        2 => What::Reshard(Resharding::Roll),
        3 => What::Reshard(Resharding::Merge),
        4..=5 => What::Trim { kept: rng.u64(0..12) },
        _ => {
            // What is done for streams only is seldom drawn among all.
            let ios: Vec<Io> = Fault::ios().filter(|io| io.doer() == Doer::Streams).collect();
            What::Io { io: ios[rng.usize(..ios.len())], skip: skip(rng), fault: draw_io_fault(rng) }
        }
    };
    Incident { number: 0, at: millis(rng, 0..BUSY), what }
}

/// An event is given up on while checkpoints cannot be stored, and its relay dies: what was discarded is read again.
fn draw_discarded_behind(rng: &mut Rng, scene: &Scene, incidents: &mut Vec<Incident>) {
    let route = rng.usize(..scene.routes.len());
    let begins = rng.u64(0..BUSY);
    let mut add = |after: u64, what: What| {
        incidents.push(Incident { number: 0, at: Duration::from_millis(begins + after), what });
    };
    for nth in 0..rng.usize(1..4) {
        let nth = nth * rng.usize(1..10);
        add(0, What::Unwanted { route, nth, how: Unwanted::ForGood });
    }
    add(0, What::StoreOut { io: Some(Io::Checkpoint), lasts: millis(rng, 500..6000) });
    let what = if rng.u8(0..3) == 0 { Operation::Erase } else { Operation::Discard };
    add(rng.u64(0..1000), What::Operator { route, what });
    add(rng.u64(500..4000), What::Kill { relay: rng.usize(..scene.relays) });
}

/// Mostly few: a fault that never comes shows nothing.
fn skip(rng: &mut Rng) -> u32 {
    let most = [1, 3, 12][rng.usize(..3)];
    rng.u32(0..most)
}

fn draw_io_fault(rng: &mut Rng) -> IoFault {
    match rng.u32(0..10) {
        0..=1 => IoFault::KilledBefore,
        2..=4 => IoFault::KilledAfter,
        5 => IoFault::Fails,
        6 => IoFault::Full,
        7 => IoFault::AnswerLost,
        8 if rng.bool() => IoFault::AnswersLate(millis(rng, 10..6000)),
        8 => IoFault::Hangs(millis(rng, 10..6000)),
        _ => IoFault::Frozen(millis(rng, 100..9000)),
    }
}

fn draw_sink_fault(rng: &mut Rng) -> crate::sink::Fault {
    use crate::sink::Fault::{Sink, Throttle, Unknown};
    [Sink, Throttle, Unknown, Unknown][rng.usize(..4)]
}

fn draw_call_fault(rng: &mut Rng) -> CallFault {
    match rng.u32(0..8) {
        0 | 1 => CallFault::Fails(draw_sink_fault(rng)),
        2 => CallFault::Throttled(rng.bool().then(|| millis(rng, 1..2000))),
        3 | 4 => CallFault::AnswerLost,
        5 => CallFault::ShortAnswer,
        6 => CallFault::HalfAccepted,
        _ => CallFault::Hangs { lasts: millis(rng, 100..8000), effect: rng.bool() },
    }
}

fn draw_answer(rng: &mut Rng, scene: &Scene) -> AnswerFault {
    match rng.u8(0..3) {
        0 => AnswerFault::GivesUp,
        1 if scene.consumer.claims => AnswerFault::Hangs { effect: rng.bool() },
        _ => AnswerFault::Retries,
    }
}

fn draw_operation(rng: &mut Rng, scene: &Scene, route: usize) -> Operation {
    match rng.u32(0..12) {
        0..=2 => Operation::Redrive,
        3..=4 => Operation::Discard,
        5 => Operation::Erase,
        6..=7 => Operation::Pause(millis(rng, 10..9000)),
        8..=10 => Operation::Replay(draw_replay(rng, scene, route)),
        _ => Operation::Retire,
    }
}

fn draw_replay(rng: &mut Rng, scene: &Scene, route: usize) -> ReplayScene {
    // A consumer that needs all events of a key stops at what a replay brings of a part of them.
    let needs_all = route == 0 && matches!(scene.consumer.mode, ConsumerMode::InOrder | ConsumerMode::AfterCause);
    match rng.u8(0..6) {
        0 | 1 => ReplayScene::Key(rng.usize(..scene.keys)),
        2 if !needs_all => ReplayScene::Kind,
        3 if !needs_all => ReplayScene::Event(rng.usize(0..30)),
        _ => ReplayScene::All,
    }
}
