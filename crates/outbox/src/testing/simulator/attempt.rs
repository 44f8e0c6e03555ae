//! Playing a schedule that may not come to an end, or may take its thread down: both are told like a broken rule.

mod panics;
mod watch;

use std::{
    io,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::Duration,
};

pub(super) use self::{
    panics::told,
    watch::{Endless, LOOK, Watch},
};
use super::{play::play, rule::Breach, schedule::Schedule, world::Played};

/// A sound schedule takes milliseconds of real time, on a machine that is busy with much else seconds: one that takes so long
/// has no end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Plays `schedule` like [`play`], on a thread of its own. What panics in it, and no end within [`PATIENCE`] of real time,
/// are breaches. Nothing can stop a schedule that has no end: its thread is left behind, and ends with the process.
///
/// # Errors
/// If no runtime or no thread could be made.
pub fn attempt(schedule: &Schedule, traced: bool) -> io::Result<Played> {
    let schedule = schedule.clone();
    attended(PATIENCE, move || play(&schedule, traced))
}

/// Has `run` play a schedule on a thread of its own, for no longer than `patience`.
pub(super) fn attended(
    patience: Duration,
    run: impl FnOnce() -> io::Result<Played> + Send + 'static,
) -> io::Result<Played> {
    let (tell, told_of) = channel();
    let waiting = thread::current();
    thread::Builder::new().spawn(move || {
        // Nobody waits any more for one that took too long.
        let _ = tell.send(told(run));
        waiting.unpark();
    })?;
    wait(&told_of, Watch::new(patience))
}

fn wait(told_of: &Receiver<io::Result<Played>>, mut watch: Watch) -> io::Result<Played> {
    watch.begins(0);
    loop {
        match told_of.try_recv() {
            Ok(played) => return played,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(io::Error::other("the thread of a schedule died")),
        }
        if let Some(Endless { breach, .. }) = watch.look() {
            return Ok(broken(breach));
        }
        thread::park_timeout(LOOK);
    }
}

/// A run of which nothing is known but how it broke.
fn broken(breach: Breach) -> Played {
    Played {
        trace: Vec::new(),
        breaches: vec![breach],
        tally: super::fault::Tally::default(),
        fingerprint: 0,
        steps: 0,
        events: 0,
    }
}
