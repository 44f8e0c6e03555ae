//! What is erased while a relay runs.

use std::sync::Arc;

use outbox::{Bookkeeping as _, Operator as _, memory::MemorySink};
use tokio::time::sleep;

use crate::rig::{Rig, arrived, key, no_breach, route, seconds};

#[tokio::test(start_paused = true)]
async fn tombstones_of_what_is_erased_are_forgotten_once_the_checkpoint_is_past_them() {
    let rig = Rig::new();
    let sink = Arc::new(MemorySink::default());
    sink.refuse("a@1.1.0", true, "no");
    rig.write("a", 3);
    let relay = rig.run(sink.clone());
    rig.keeps("all", 1, 2).await;
    rig.caught_up("all").await;
    assert_eq!(rig.bookkeeping.erase(&key("a")).await.unwrap(), 3);
    assert_eq!(rig.bookkeeping.tombstones(&route("all")).await.unwrap().len(), 3);
    // The relay looks for what an operator did once a second; what is behind the next checkpoint is forgotten then.
    for _ in 0..10 {
        sleep(seconds(1)).await;
        rig.write("b", 1);
        rig.caught_up("all").await;
    }
    assert_eq!(rig.bookkeeping.tombstones(&route("all")).await.unwrap(), []);
    arrived(&sink, 10).await;
    relay.stop().await;
    no_breach(&sink);
}
