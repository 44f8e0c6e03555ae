//! Shards that split, roll over, end, and go: what a relay reads of them, and in which order.

use std::{sync::Arc, time::Duration};

use outbox::{Source, memory::MemorySink};
use outbox_aws::testing::streams::Habits;

use crate::rig::{HOUR, PLENTY, Rig, a_moment, begin, eventually, ids};

fn sink() -> Arc<MemorySink> {
    Arc::new(MemorySink::default())
}

const KEYS: [&str; 4] = ["cart/1", "cart/2", "cart/3", "cart/4"];

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_split_and_roll_over_are_read_parents_first_and_everything_once() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    for round in 0..6 {
        for key in KEYS {
            rig.write(key, round * 5 + 1..=round * 5 + 5);
        }
        let shard = rig.server.shard_of(KEYS[usize::try_from(round).unwrap() % 4]);
        if round % 2 == 0 {
            rig.server.split(&shard);
        } else {
            rig.server.roll(&shard);
        }
    }
    for key in KEYS {
        rig.write(key, 31..=33);
    }
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_late_reads_the_whole_lineage_in_order() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.server.habits(Habits { shards: 1, page: 2, ..Habits::default() });
    let mut first = 1;
    for _ in 0..4 {
        for key in KEYS {
            rig.write(key, first..first + 3);
        }
        first += 3;
        for shard in rig.server.open_shards() {
            rig.server.split(&shard);
        }
    }
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_once(&sink);
    // 1 + 2 + 4 + 8 + 16 shards, one a page: that there is no next page is the only end.
    assert!(rig.server.calls("DescribeStream") >= 31);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_was_trimmed_counts_as_read() {
    let rig = Rig::new().await;
    let parent = rig.server.open_shards().remove(0);
    let child = rig.server.roll(&parent);
    rig.server.forget(&parent);
    rig.write("cart/1", 1..=3);
    let sink = sink();
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_once(&sink);
    assert_eq!(rig.server.open_shards(), [child]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_one_listing_leaves_out_is_not_taken_for_gone() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.write("cart/1", 1..=50);
    let parent = rig.server.open_shards().remove(0);
    rig.server.roll(&parent);
    rig.write("cart/1", 51..=60);
    rig.server.hide(&parent, 1);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_between_parent_and_child_goes_on_where_the_parent_ended() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=10);
    rig.published(&sink).await;
    relay.kill().await;
    let shard = rig.server.roll(&rig.server.shard_of("cart/1"));
    rig.server.split(&shard);
    rig.write("cart/1", 11..=20);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_doubled_pages_lose_and_double_nothing() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.server.habits(Habits { page: 3, empty_pages: 7, doubled_pages: true, ..Habits::default() });
    rig.write("cart/1", 1..=10);
    rig.write("cart/2", 1..=10);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.server.roll(&rig.server.shard_of("cart/1"));
    rig.write("cart/1", 11..=20);
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn iterators_that_have_expired_are_made_anew() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    for round in 0..5 {
        rig.server.expire_iterators();
        rig.write("cart/1", round * 4 + 1..=round * 4 + 4);
        rig.published(&sink).await;
    }
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttles_and_errors_that_pass_are_waited_out() {
    let (rig, sink) = (Rig::new().await, sink());
    for (operation, code) in [
        ("DescribeStream", "LimitExceededException"),
        ("GetShardIterator", "InternalServerError"),
        ("GetRecords", "ThrottlingException"),
        ("GetRecords", "ProvisionedThroughputExceededException"),
    ] {
        rig.server.fail(operation, code, 6);
    }
    rig.write("cart/1", 1..=5);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_ends_only_where_there_is_no_next_iterator() {
    let rig = Rig::new().await;
    let source = rig.source().await;
    let (partition, position) = begin(&source).await;
    rig.write("cart/1", 1..=2);
    let open = source.read(&partition, &position, PLENTY).await.unwrap();
    assert!(!open.end && ids(&open).len() == 2, "{open:?}");
    let child = rig.server.roll(&rig.server.shard_of("cart/1"));
    let children = source.partitions().await.unwrap();
    assert_eq!(children.len(), 2);
    let closed = source.read(&partition, &open.next, PLENTY).await.unwrap();
    assert!(closed.end && closed.records.is_empty(), "{closed:?}");
    let child = children.into_iter().find(|listed| listed.id.as_str().ends_with(&child)).unwrap();
    assert_eq!(child.parents, [partition]);
    let first = source.beginning(&child.id).await.unwrap();
    rig.write("cart/1", [3]);
    let page = source.read(&child.id, &first, PLENTY).await.unwrap();
    assert_eq!(ids(&page), ["cart/1@1.3.0"]);
    assert!(!page.end);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shard_is_asked_four_times_a_second_at_most_and_its_position_stays() {
    let rig = Rig::new().await;
    let sink = sink();
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=5);
    rig.published(&sink).await;
    let (iterators, checkpoints) = (rig.server.calls("GetShardIterator"), rig.checkpoints().await);
    rig.assert_asked_seldom(a_moment).await;
    assert_eq!(rig.server.calls("GetShardIterator"), iterators, "an iterator is used on");
    assert_eq!(rig.checkpoints().await, checkpoints, "an idle relay writes nothing");
    relay.stop().await;
}

/// As when a relay begins, and its first look at the backlog comes while the shard is read.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_read_at_one_place_at_once_have_it_asked_no_more_often_from_then_on() {
    let rig = Rig::new().await;
    let source = rig.source().await;
    let (partition, beginning) = begin(&source).await;
    let read = async || {
        source.read(&partition, &beginning, PLENTY).await.unwrap();
    };
    tokio::join!(read(), read());
    rig.assert_asked_seldom(read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_or_changes_is_no_event() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=3);
    rig.published(&sink).await;
    let mut changed = rig.server.entry("cart/1", 2);
    changed["incarnation"] = serde_json::json!({ "N": "2" });
    rig.server.put(&changed);
    rig.server.expire("cart/1", 1);
    // The shard ends with what is no event, and the next one follows.
    rig.server.roll(&rig.server.shard_of("cart/1"));
    rig.write("cart/1", 4..=5);
    rig.published(&sink).await;
    rig.assert_once(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_begun_after_a_restart_is_known_to_be_whole_by_its_parent_s_last_record() {
    let rig = Rig::new().await;
    rig.write("cart/1", [1]);
    let parent = rig.server.shard_of("cart/1");
    let empty = rig.server.roll(&parent);
    let child = rig.server.roll(&empty);
    rig.write("cart/1", [2]);
    let source = rig.source().await;
    let partitions = source.partitions().await.unwrap();
    let child = &partitions.iter().find(|listed| listed.id.as_str().ends_with(&child)).unwrap().id;
    let first = source.beginning(child).await.unwrap();
    assert_eq!(ids(&source.read(child, &first, PLENTY).await.unwrap()), ["cart/1@1.2.0"]);
    // Once that record is forgotten, some of the child may be as well: nobody knows.
    rig.server.trim(&parent, 1);
    let error = rig.source().await.beginning(child).await.unwrap_err();
    assert_eq!(error.kind(), outbox::ErrorKind::Trimmed, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_first_in_a_shard_is_not_taken_for_all_of_it_a_day_later() {
    let rig = Rig::new().await;
    let (partition, first) = begin(&rig.source().await).await;
    rig.write("cart/1", [1]);
    rig.clock.pass(25 * HOUR);
    rig.server.trim(&rig.server.shard_of("cart/1"), 1);
    rig.write("cart/1", [2]);
    let error = rig.source().await.read(&partition, &first, PLENTY).await.unwrap_err();
    assert_eq!(error.kind(), outbox::ErrorKind::Trimmed, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_is_no_entry_becomes_a_dead_letter_and_those_behind_it_go_on() {
    use outbox::Bookkeeping as _;
    let (rig, sink) = (Rig::new().await, sink());
    let mut rubbish = rig.server.entry("cart/9", 1);
    rubbish["events"] = serde_json::json!({ "S": "none" });
    rig.server.put(&rubbish);
    rig.write("cart/1", 1..=3);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_once(&sink);
    let route = crate::rig::route();
    eventually("it is a dead letter", async || rig.bookkeeping.kept_counts(&route).await.unwrap().dead == 1).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_read_in_full_pages() {
    let rig = Rig::new().await;
    rig.write("cart/1", 1..=2500);
    let source = rig.source().await;
    let (partition, mut position) = begin(&source).await;
    let mut found = Vec::new();
    while found.len() < 2500 {
        let page = source.read(&partition, &position, PLENTY).await.unwrap();
        assert_eq!(page.more, found.len() + page.records.len() < 2500);
        found.extend(ids(&page));
        position = page.next;
    }
    assert_eq!(found, rig.written());
    assert_eq!(rig.server.calls("GetRecords"), 3);
    assert_eq!(rig.server.calls("GetShardIterator"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_two_read_a_shard_at_a_time() {
    let rig = Rig::new().await;
    rig.write("cart/1", 1..=20);
    let source = rig.source().await;
    let (partition, first) = begin(&source).await;
    let page = source.read(&partition, &first, PLENTY).await.unwrap();
    rig.server.habits(Habits { delay: Duration::from_millis(100), ..Habits::default() });
    let reads = page.records[..6].iter().map(|record| source.read(&partition, &record.position, PLENTY));
    let read = futures_util::future::join_all(reads).await;
    let counts: Vec<usize> = read.into_iter().map(|page| page.unwrap().records.len()).collect();
    assert_eq!(counts, [19, 18, 17, 16, 15, 14]);
    assert_eq!(rig.server.most_readers(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_pages_before_a_parent_s_last_record_are_not_taken_for_its_loss() {
    let rig = Rig::new().await;
    rig.write("cart/1", [1]);
    let child = rig.server.roll(&rig.server.shard_of("cart/1"));
    rig.server.habits(Habits { empty_pages: 3, ..Habits::default() });
    let source = rig.source().await;
    let partitions = source.partitions().await.unwrap();
    let child = &partitions.iter().find(|listed| listed.id.as_str().ends_with(&child)).unwrap().id;
    source.beginning(child).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_shard_of_many_empty_pages_is_read_to_its_end_but_not_in_a_circle() {
    let rig = Rig::new().await;
    let source = rig.source().await;
    let (partition, mut position) = begin(&source).await;
    rig.write("cart/1", [1]);
    rig.server.roll(&rig.server.shard_of("cart/1"));
    rig.server.habits(Habits { empty_pages: 9, ..Habits::default() });
    let mut found = Vec::new();
    for _ in 0..20 {
        let page = source.read(&partition, &position, PLENTY).await.unwrap();
        found.extend(ids(&page));
        assert!(!page.more || page.next != position, "more, and nothing to go on from: {page:?}");
        if page.end {
            assert_eq!(found, ["cart/1@1.1.0"]);
            return;
        }
        position = page.next;
    }
    panic!("the shard has no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_pages_of_a_shard_that_is_read_late_make_nothing_younger_that_follows_it() {
    let rig = Rig::new().await;
    let (parent, first) = begin(&rig.source().await).await;
    rig.write("cart/1", [1]);
    let child = rig.server.roll(&rig.server.shard_of("cart/1"));
    rig.write("cart/1", [2]);
    rig.clock.pass(HOUR * 22);
    rig.server.habits(Habits { empty_pages: 3, ..Habits::default() });
    let source = rig.source().await;
    let child_id = source.partitions().await.unwrap().into_iter().find(|listed| listed.id.as_str().ends_with(&child));
    let child_id = child_id.unwrap().id;
    let page = source.read(&parent, &first, PLENTY).await.unwrap();
    assert_eq!(ids(&page), ["cart/1@1.1.0"]);
    let begun = source.beginning(&child_id).await.unwrap();
    rig.clock.pass(HOUR * 2);
    rig.server.trim(&child, 1);
    rig.write("cart/1", [3]);
    let error = source.read(&child_id, &begun, PLENTY).await.unwrap_err();
    assert_eq!(error.kind(), outbox::ErrorKind::Trimmed, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_child_is_listed_before_its_end_is_asked_no_more_often_than_others() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.write("cart/1", 1..=3);
    rig.server.announce(&rig.server.shard_of("cart/1"));
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_asked_seldom(a_moment).await;
    relay.stop().await;
}
