//! What proves Outbox, besides the tests of each crate: crashes of real processes, and planted bugs that have to be caught.

#[expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a harness is a test: what it does not expect it panics about"
)]
pub mod crashes;
pub mod planted;
