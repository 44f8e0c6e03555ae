//! The invocation is the deadline: an answer comes before it, with no call in flight.

use std::time::Duration;

use outbox::{Clock as _, System};
use outbox_aws::testing::proxy::Fault;

use crate::{
    forwarding::carts,
    mapping::{Mapping, payload},
    runtime::Outcome,
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_does_not_answer_is_given_up_before_the_deadline() {
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    let (records, mut sandbox) = (&stream.shards[0], World::forwarder(&world.environment()).await);
    let time = Duration::from_secs(10);
    let held = world.bus.hold("PutEvents");
    let began = System.moment();
    let outcome = sandbox.invoke(payload(records), time).await;
    assert!(System.moment().since(began) < time, "{:?}", System.moment().since(began));
    assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
    assert_eq!(outcome.failed_from(records), Some(0));
    held.release();
    Mapping::default().run(&world, &stream).await;
    world.assert_exact(&stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_bus_gets_as_much_of_a_batch_as_the_time_allows_and_the_rest_comes_again() {
    let (world, stream) = (World::new().await, carts(1, 2, 60));
    world.bus.rule("PutEvents", |_| Fault::Slow(Duration::from_millis(200)));
    let seen = Mapping { timeout: Duration::from_secs(4), ..Mapping::default() }.run(&world, &stream).await;
    assert!(seen.in_part >= 2, "one batch takes several invocations: {seen:?}");
    assert_eq!((seen.failed, seen.died), (0, 0), "{seen:?}");
    assert_eq!(world.assert_exact(&stream), 0, "nothing came twice: {seen:?}");
}
