//! Planted bugs: patches that each break Outbox in a way in which others broke, and the proof that each is noticed.
//!
//! A bug is a patch under `proof/planted/`, with a sentence on what is wrong and another on where it comes from before the
//! diff. It is applied to a copy of the tree, in which the simulator then plays schedules until one breaks the contract.
//! What the simulator does not notice is shown to the quick tests.

mod bug;
mod found;
mod report;
mod run;
mod tree;

pub use bug::{Bug, all};
pub use found::Found;
pub use report::markdown;
pub use run::{Caught, Finding, check_sound, seek};
pub use tree::{Compiled, Tree};

#[cfg(test)]
mod tests;
