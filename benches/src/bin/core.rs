//! The pipeline with a null shell: how many events a second the state machine itself passes on one core.
//!
//! `cargo run --release -p benches --bin core`

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures real time, and may fail"
)]

use std::{collections::VecDeque, sync::Arc, time::Instant};

use outbox::{
    CommitId, Content, Event, Moment, NewEvent, Outcome, Place, Placing, Position, Record, SinkLimits,
    event::Identity,
    pipeline::{Effect, Input, Pipeline, Resume, Settings},
    route::{RetryPolicy, WindowLimits},
};

const EVENTS: usize = 2_000_000;

fn records(keys: usize) -> Vec<Arc<Record>> {
    let source: Arc<str> = "/bench".into();
    let data = bytes::Bytes::from(vec![b'x'; 1024]);
    (0..EVENTS)
        .map(|number| {
            let key = format!("customer/{}", number % keys);
            let sequence = (number / keys + 1) as u64;
            let new =
                NewEvent::builder("order.placed").key(key).bytes("application/octet-stream", data.clone()).build();
            let placing = Placing {
                place: Place::new(1, sequence, 0),
                count: 1,
                after: Place::new(u32::from(sequence > 1), sequence - 1, 0),
            };
            let identity = Identity { source: &source, placing: Some(placing), recorded: None, fallback_id: "x" };
            let event = Event::from_new(new.unwrap(), identity).unwrap();
            Arc::new(Record {
                position: Position::new(number.to_string()),
                commit: CommitId([0; 16]),
                recorded: jiff::Timestamp::UNIX_EPOCH,
                content: Content::Events(event.into()),
            })
        })
        .collect()
}

/// Answers every effect at once and gives how long all events took.
fn run(records: &[Arc<Record>], ordered_calls: bool) -> std::time::Duration {
    let sink =
        SinkLimits { ordered_calls, max_events: 100, max_bytes: 1 << 20, max_event_bytes: 1 << 20, max_calls: 4 };
    let settings = Settings {
        takes: Arc::new(|_, _| true),
        keeps_undecodable: true,
        sink,
        size: Arc::new(|event| event.data().map_or(0, bytes::Bytes::len)),
        retry: RetryPolicy::default(),
        window: WindowLimits::default(),
        checkpoint_after: std::time::Duration::from_millis(200),
        observed: None,
        seed: 1,
    };
    let resume = Resume { position: Position::new("0"), troubled: Vec::new(), tombstones: Vec::new() };
    let mut pipeline = Pipeline::new(settings, resume);
    let started = Instant::now();
    let now = || Moment::from_zero(started.elapsed());
    let (mut read, mut accepted, mut effects, mut inputs) = (0, 0, Vec::new(), VecDeque::from([Input::Tick]));
    while accepted < records.len() {
        let input = inputs.pop_front().unwrap_or(Input::Tick);
        pipeline.step(now(), input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Read { credit } => {
                    let page = &records[read..(read + credit.events.min(1024)).min(records.len())];
                    read += page.len();
                    let next = Position::new(read.to_string());
                    inputs.push_back(Input::Read { records: page.to_vec(), next, end: false });
                }
                Effect::Publish { call, events } => {
                    accepted += events.len();
                    inputs.push_back(Input::Answered { call, outcomes: vec![Outcome::Accepted; events.len()] });
                }
                Effect::Checkpoint { write, .. } => inputs.push_back(Input::Stored { write }),
                _ => {}
            }
        }
    }
    started.elapsed()
}

fn main() {
    println!("core with a null shell, {EVENTS} events of 1 KB, one core");
    for keys in [1, 1_000, 100_000] {
        let records = records(keys);
        for ordered in [false, true] {
            if keys == 1 && !ordered {
                continue;
            }
            let best = (0..3).map(|_| run(&records, ordered)).min().unwrap();
            let rate = EVENTS as f64 / best.as_secs_f64() / 1e6;
            println!("  {keys:>7} keys, ordered calls {ordered:<5}: {rate:.2} million events/s");
        }
    }
}
