//! A suite that finds nothing proves nothing: each of these backends has one defect, and the suite names it.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "conformance_finds/books.rs"]
mod books;
#[cfg(feature = "inbox")]
#[path = "conformance_finds/inboxes.rs"]
mod inboxes;
#[path = "conformance_finds/sinks.rs"]
mod sinks;
#[path = "conformance_finds/sources.rs"]
mod sources;
#[path = "conformance_finds/stores.rs"]
mod stores;
#[path = "conformance_finds/writers.rs"]
mod writers;

use outbox::testing::conformance;

#[tokio::test]
#[should_panic(
    expected = "conformance check `numbers_rise` failed: 3 after 5\n  the contract says: A key's entries are numbered"
)]
async fn a_broken_rule_is_named_with_its_check() {
    conformance::named("numbers_rise", "A key's entries are numbered 1, 2, 3.", async { panic!("{} after 5", 3) })
        .await;
}
