//! A few schedules of the simulator, for who changes something and wants to know at once. `outbox simulate` plays any number
//! of them, and says of a fault that never struck, which so few cannot promise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(all(feature = "relay", feature = "inbox"))]

use outbox::testing::simulator::Campaign;

#[test]
fn the_contract_holds_in_a_few_hundred_schedules() {
    let campaign = Campaign { most_failures: 1, ..Campaign::new(0..400) };
    let findings = campaign.run(|_played| true).unwrap();
    let broken = findings.failures.first().map(|failure| (failure.seed, &failure.breaches));
    assert!(broken.is_none(), "seed and breaches: {broken:?}");
    assert_eq!(findings.next, 400);
}
