//! A world under seeded faults, and the contract checked at every step of it.
//!
//! A run has the shipped relay, inbox and state machines at work on stores in memory, one thread and a clock that leaps:
//! nothing of them is modelled. What surrounds them does its worst, as a [`Schedule`] says that is drawn from a seed:
//! transactions that roll back or race, rows of rubbish, targets that refuse, throttle, answer for half, lose their
//! answer, hang, or fail for one event only; stores that fail, are full, hang, or lose their answer; relays that are
//! killed before or after any I/O, stand still past their lease, or are stopped and started; operators that redrive,
//! discard, erase, pause, replay, retire, or put the store back from a backup; a consumer that is killed around its
//! commit, whose messages come twice or late, and whose handler fails. When all of that is over, everything has to come
//! right within ten minutes of the run's own time.
//!
//! The same schedule plays the same way, to the byte of its trace. [`play`] plays one, a [`Campaign`] many, and [`shrink`]
//! finds the smallest part of one that still goes wrong. A schedule that panics, or does not end, breaks the contract like
//! any other: [`attempt`] plays one and bears that, and so do the other two.
//!
//! ```
//! use outbox::testing::simulator::{Campaign, Schedule, play};
//!
//! let findings = Campaign::new(0..20).run(|_played| true)?;
//! assert!(findings.failures.is_empty());
//!
//! let traced = play(&Schedule::draw(7), true)?;
//! println!("{}", traced.trace.join("\n"));
//! # Ok::<(), std::io::Error>(())
//! ```

mod again;
mod attempt;
mod campaign;
mod checks;
mod consumer;
mod fault;
mod late;
mod operator;
mod patience;
mod play;
mod process;
mod rule;
mod schedule;
mod service;
mod shown;
mod shrink;
mod source;
mod stale;
mod target;
#[cfg(test)]
mod tests;
mod trace;
mod truth;
mod verdict;
mod worker;
mod world;

pub use attempt::{PATIENCE, attempt};
pub use campaign::{Campaign, Failure, Findings};
pub use fault::{Fault, Tally};
pub use play::play;
pub use rule::{Breach, Rule};
pub use schedule::Schedule;
pub use shrink::shrink;
pub use world::Played;
