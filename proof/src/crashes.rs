//! Real processes that are really killed.
//!
//! A run has worlds, and each of them a folder with a database, a target and a plan of what goes wrong, all from one seed.
//! Relays live on it one after the other. Each is killed: by itself at a point that is named by its I/O, for which the
//! binary has to be built with the feature `crash-points`; by SIGKILL from outside; stopped past its lease, be it when it
//! is about to write, and then killed; while a proxy loses what passes; while the wall clock jumps. Others have a full file
//! system, or find an older backup in the place of the database; and in some a consumer with an inbox is killed, too, and
//! its clock jumps. At the end all is drained and held against what was committed: every event arrived as it was committed, none that was
//! rolled back, each key in the order of its commits, no more of them again than the status says and none behind an
//! orderly end, nothing kept, no checkpoint that went back. What a relay that lost its lease was about to write is refused.
//!
//! What decides *what* goes wrong is the seed. *When* exactly it strikes is up to real processes: a repeated run of a seed
//! takes the same blows, not to the instruction.

pub mod arrivals;
mod binary;
mod consumer;
mod full_disk;
pub mod interrupt;
mod ledger;
mod lives;
mod mood;
pub mod mounts;
pub mod plan;
pub mod process;
pub mod proxy;
mod restored;
pub mod rig;
mod run;
pub mod tally;
pub mod target;
mod verdict;
pub mod watch;
mod world;

pub use binary::{build, check_binary};
pub use run::{Breach, Progress, Settings, run};
