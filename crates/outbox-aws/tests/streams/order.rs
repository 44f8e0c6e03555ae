//! Order that is observed and not promised: what the stream turns round, leaves out or doubles is put right.

use std::{sync::Arc, time::Duration};

use outbox::{Clock as _, Key, Source, memory::MemorySink};

use crate::rig::{Rig, all, id, run};

fn sink() -> Arc<MemorySink> {
    Arc::new(MemorySink::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inversion_within_a_key_is_put_right() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=3);
    rig.published(&sink).await;
    let reversed: Vec<_> = (4..=6).map(|number| rig.server.entry("cart/1", number)).collect();
    rig.server.put_reversed(&reversed);
    (4..=6).for_each(|number| rig.wrote("cart/1", number));
    rig.write("cart/1", [7]);
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_leaves_out_is_read_from_the_table() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=2);
    rig.published(&sink).await;
    for number in 3..=5 {
        rig.server.put_unseen(&rig.server.entry("cart/1", number));
        rig.wrote("cart/1", number);
    }
    rig.write("cart/1", [6]);
    rig.published(&sink).await;
    rig.assert_once(&sink);
    assert!(rig.server.calls("GetItem") >= 3);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_goes_out_once() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=2);
    rig.server.record(&rig.server.entry("cart/1", 2));
    rig.server.record(&rig.server.entry("cart/1", 1));
    rig.write("cart/1", [3]);
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_whose_entry_nobody_has_holds_its_key_only_and_only_so_long() {
    let (rig, sink) = (Rig::new().await, sink());
    // All of it is one page, read at once.
    rig.write("cart/1", [1, 3]);
    rig.write("cart/2", 1..=2);
    let source = Arc::new(rig.source().await);
    let (patience, began) = (Duration::from_secs(3), rig.clock.moment());
    let relay = run(rig.relay_on(source).missing_patience(patience).route(all(), sink.clone()));
    rig.published(&sink).await;
    rig.assert_once(&sink);
    assert!(rig.clock.moment().since(began) >= patience, "it waits for number 2");
    assert_eq!(sink.ids().last(), Some(&id("cart/1", 3)), "other keys go on");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_key_are_fetched_by_their_numbers() {
    let rig = Rig::new().await;
    let source = rig.source().await;
    rig.write("cart/1", [1, 2]);
    let mut rubbish = rig.server.entry("cart/1", 4);
    rubbish["count"] = serde_json::json!({ "N": "9" });
    rig.server.put(&rubbish);
    let found = source.fetch(&Key::new("cart/1").unwrap(), &[2, 3, 4]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().events()[0].id(), id("cart/1", 2));
    assert!(found[1].is_none());
    let outbox::Content::Undecodable(row) = &found[2].as_ref().unwrap().content else { panic!("{found:?}") };
    assert_eq!(&*row.id, "entry/cart/1/4");
}
