//! Older than the stream: what it does not remember is read from the table.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use outbox::{
    Clock as _, ErrorKind, PartitionId, Position, Source, bookkeeping::Checkpoint, memory::MemorySink,
    relay::RelayError, route::Start, source::Limit,
};
use outbox_aws::{
    dynamodb::{SourceOptions, TableSource},
    testing::streams::Habits,
};

use crate::rig::{HOUR, PLENTY, Rig, eventually, ids, registration};

fn sink() -> Arc<MemorySink> {
    Arc::new(MemorySink::default())
}

const KEYS: [&str; 3] = ["cart/1", "cart/2", "cart/3"];

/// Writes these numbers of each key.
fn write(rig: &Rig, numbers: std::ops::RangeInclusive<u64>) {
    for key in KEYS {
        rig.write(key, numbers.clone());
    }
}

/// More than a day passes, and the stream remembers nothing of what was written before.
fn forget_all(rig: &Rig) {
    let old = rig.server.shard_of(KEYS[0]);
    rig.clock.pass(30 * HOUR);
    rig.server.roll(&old);
    rig.server.trim(&old, 1000);
    rig.server.forget(&old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_down_for_longer_than_the_stream_remembers_loses_nothing() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    write(&rig, 1..=5);
    rig.published(&sink).await;
    relay.stop().await;
    write(&rig, 6..=10);
    forget_all(&rig);
    write(&rig, 11..=12);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    assert!(rig.server.calls("Scan") > 0);
    // And it goes on with the stream, by one recovery.
    write(&rig, 13..=14);
    rig.server.split(&rig.server.shard_of(KEYS[1]));
    write(&rig, 15..=16);
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    let recoveries = rig.checkpoints().await.into_iter().filter(|known| known.partition.is_recovery());
    assert!(recoveries.map(|known| known.finished).eq([true]));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_was_trimmed_in_an_open_shard_is_recovered_from() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    rig.write("cart/1", 1..=5);
    rig.published(&sink).await;
    relay.stop().await;
    rig.write("cart/1", 6..=9);
    rig.server.trim(&rig.server.shard_of("cart/1"), 7);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_stream_is_off_comes_with_the_next_one() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.clock.pass(HOUR);
    let relay = rig.run(&sink).await;
    write(&rig, 1..=5);
    rig.published(&sink).await;
    rig.server.disable();
    write(&rig, 6..=8);
    rig.server.enable();
    write(&rig, 9..=10);
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_new_begins_with_the_table() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.server.disable();
    write(&rig, 1..=5);
    rig.clock.pass(HOUR);
    rig.server.enable();
    write(&rig, 6..=8);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_whose_number_is_none_of_an_entry_are_dead_letters_each_and_a_recovery_passes_them() {
    use outbox::Bookkeeping as _;
    let (rig, sink) = (Rig::new().await, sink());
    rig.server.disable();
    for number in ["-2", "-1"] {
        let mut rubbish = rig.server.entry("cart/1", 1);
        rubbish["sequence"] = serde_json::json!({ "N": number });
        rig.server.put(&rubbish);
    }
    write(&rig, 1..=3);
    rig.clock.pass(HOUR);
    rig.server.enable();
    rig.server.habits(Habits { items: 1, ..Habits::default() });
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    let route = crate::rig::route();
    eventually("both are dead letters", async || rig.bookkeeping.kept_counts(&route).await.unwrap().dead == 2).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_goes_on_where_it_was_when_its_relay_died() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.server.disable();
    for key in 0..8 {
        rig.write(&format!("cart/{key}"), 1..=10);
    }
    rig.clock.pass(HOUR);
    rig.server.enable();
    // A page of ten in two and a half seconds, the share of 16 units: there is time to kill it before all is read.
    rig.server.habits(Habits { items: 10, ..Habits::default() });
    rig.server.say_capacity(16, 80, 80 * 400);
    let relay = rig.run(&sink).await;
    eventually("a part of it is behind a checkpoint", async || {
        let checkpoints = rig.checkpoints().await;
        sink.ids().len() >= 20
            && checkpoints
                .iter()
                .any(|known| known.partition.is_recovery() && known.position.as_str().contains("cart/1"))
    })
    .await;
    relay.kill().await;
    let before = rig.server.calls("Scan");
    let asked = rig.checkpoints().await;
    rig.server.say_capacity(0, 80, 80 * 400);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    let first = &rig.server.requests("Scan")[before];
    assert!(first["ExclusiveStartKey"]["key"]["S"].is_string(), "it goes on in the middle: {first}");
    let is_same = |known: &Checkpoint| asked.iter().any(|asked| asked.partition == known.partition);
    assert!(rig.checkpoints().await.iter().filter(|known| known.partition.is_recovery()).all(is_same));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_takes_its_share_of_the_read_capacity_and_no_more() {
    let rig = Rig::new().await;
    for number in 1..=40 {
        rig.server.put(&rig.server.entry("cart/1", number));
    }
    // A quarter of 40 units is 10 a second: 40 KB, of items of 2 KB each 20 in two seconds, and they cost a unit each.
    rig.server.say_capacity(40, 40, 40 * 2048);
    let source = rig.source().await;
    let recovery = source.recovery(&registration(Start::Beginning, Timestamp::UNIX_EPOCH), &[]).await.unwrap().unwrap();
    let began = rig.clock.moment();
    let (mut position, mut found) = (recovery.position, Vec::new());
    loop {
        let page = source.read(&recovery.partition, &position, PLENTY).await.unwrap();
        found.extend(ids(&page));
        position = page.next;
        if page.end {
            break;
        }
    }
    assert_eq!(found, (1..=40).map(|number| crate::rig::id("cart/1", number)).collect::<Vec<_>>());
    assert!(rig.server.requests("Scan").iter().all(|scan| scan["Limit"] == 40 && scan["ConsistentRead"] == true));
    assert_eq!(rig.server.calls("Scan"), 1);
    // The next page would have to wait for what this one took.
    let other = source.recovery(&registration(Start::Beginning, Timestamp::UNIX_EPOCH), &[]).await.unwrap().unwrap();
    source.read(&other.partition, &other.position, PLENTY).await.unwrap();
    assert!(rig.clock.moment().since(began) >= Duration::from_millis(3500), "{:?}", rig.clock.moment().since(began));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_for_a_recovery_that_nobody_reads_on_is_let_go() {
    let rig = Rig::new().await;
    for number in 1..=10 {
        rig.server.put(&rig.server.entry("cart/1", number));
    }
    let source = rig.source().await;
    let recovery = source.recovery(&registration(Start::Beginning, Timestamp::UNIX_EPOCH), &[]).await.unwrap().unwrap();
    let (partition, one) = (recovery.partition, Limit { events: 1, ..PLENTY });
    let first = source.read(&partition, &recovery.position, one).await.unwrap();
    let second = source.read(&partition, &first.next, one).await.unwrap();
    assert_eq!(rig.server.calls("Scan"), 1, "the rest of the page waits");
    rig.clock.pass(HOUR);
    let third = source.read(&partition, &second.next, one).await.unwrap();
    assert_eq!((ids(&third), rig.server.calls("Scan")), (vec![crate::rig::id("cart/1", 3)], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_could_not_end_in_time_is_refused() {
    let (rig, sink) = (Rig::new().await, sink());
    rig.server.disable();
    rig.clock.pass(HOUR);
    rig.server.enable();
    rig.server.say_capacity(5, 100_000_000, 100 << 30);
    let ended = rig.run(&sink).await.ended().await.unwrap_err();
    let RelayError::Store(error) = ended else { panic!("{ended}") };
    assert!(error.to_string().contains("read capacity"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_go_on_behind_a_recovery_s_start_and_its_slack() {
    for knows_times in [true, false] {
        let rig = Rig::new().await;
        rig.server.habits(Habits { knows_times, ..Habits::default() });
        rig.write("cart/1", [1]);
        rig.clock.pass(3 * HOUR);
        rig.write("cart/1", [2]);
        let source = rig.source().await;
        let asked = registration(Start::Beginning, Timestamp::UNIX_EPOCH);
        let recovery = source.recovery(&asked, &[]).await.unwrap().unwrap().partition;
        let shard = source.partitions().await.unwrap().remove(0).id;
        let position = source.after_recovery(&recovery, &shard).await.unwrap();
        rig.write("cart/1", [3]);
        let page = source.read(&shard, &position, PLENTY).await.unwrap();
        assert_eq!(ids(&page), ["cart/1@1.2.0", "cart/1@1.3.0"], "with iterators at a time: {knows_times}");
        // Once it took longer than the stream remembers, it is of no use.
        rig.clock.pass(23 * HOUR);
        let error = source.after_recovery(&recovery, &shard).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Trimmed, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_during_which_the_stream_changed_is_done_again() {
    let rig = Rig::new().await;
    let source = rig.source().await;
    let asked = registration(Start::Beginning, Timestamp::UNIX_EPOCH);
    let recovery = source.recovery(&asked, &[]).await.unwrap().unwrap().partition;
    rig.server.disable();
    rig.clock.pass(HOUR);
    rig.server.enable();
    let shard = source.partitions().await.unwrap().remove(0).id;
    let error = source.after_recovery(&recovery, &shard).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trimmed, "{error}");
}

fn checkpoint(shard: &PartitionId, position: &str, finished: bool) -> Checkpoint {
    Checkpoint { partition: shard.clone(), position: Position::new(position), finished }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_was_last_read_before_entries_expired_stops_unless_a_loss_is_accepted() {
    let rig = Rig::new().await;
    let shard = rig.source().await.partitions().await.unwrap().remove(0).id;
    let long_ago = rig.clock.wall().as_second() - 31 * 24 * 3600;
    let known = [checkpoint(&shard, &format!("@s1/{long_ago}"), false)];
    let asked = registration(Start::Beginning, Timestamp::UNIX_EPOCH);
    rig.write("cart/1", 1..=2);
    rig.server.trim(&rig.server.shard_of("cart/1"), 1);
    let error = rig.source().await.recovery(&asked, &known).await.unwrap_err();
    assert!(!error.kind().retry() && error.to_string().contains("--accept-loss"), "{error}");
    let accepting = rig.source_with(SourceOptions { accept_loss: true, ..SourceOptions::default() }).await;
    assert!(accepting.recovery(&asked, &known).await.unwrap().is_some());
    // A replay of more than there is gives what there is.
    let replay = registration(Start::Time(rig.clock.wall() - 40 * 24 * HOUR), Timestamp::UNIX_EPOCH);
    assert!(rig.source().await.recovery(&replay, &[]).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_that_was_raised_meanwhile_hides_no_loss() {
    const DAY: i64 = 24 * 3600;
    let rig = Rig::new().await;
    let shard = rig.source().await.partitions().await.unwrap().remove(0).id;
    let asked = registration(Start::Beginning, Timestamp::UNIX_EPOCH);
    // Today an entry lives for 30 days; the last one that was read, two days ago, lived for so many.
    let read = rig.clock.wall().as_second() - 2 * DAY;
    for (lived, is_refused) in [(1, true), (3, false), (40, false)] {
        let position = format!("1/{}/cart/1@s1/{read}", read + lived * DAY);
        let recovery = rig.source().await.recovery(&asked, &[checkpoint(&shard, &position, false)]).await;
        assert_eq!(
            recovery.is_err_and(|error| error.to_string().contains("--accept-loss")),
            is_refused,
            "{lived} days"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_while_the_table_is_read_is_no_less_lost() {
    let rig = Rig::new().await;
    let shard = rig.source().await.partitions().await.unwrap().remove(0).id;
    let asked = registration(Start::Beginning, Timestamp::UNIX_EPOCH);
    // Of what was read last there is left for four hours.
    let read = rig.clock.wall().as_second() - 30 * 24 * 3600 + 4 * 3600;
    let known = checkpoint(&shard, &format!("@s1/{read}"), false);
    // A quarter of 40 units, of 4 KB each: five hours of it, and three.
    for (hours, is_refused) in [(5, true), (3, false)] {
        rig.server.say_capacity(40, 1, hours * 3600 * 10 * 4096);
        let recovery = rig.source().await.recovery(&asked, std::slice::from_ref(&known)).await;
        assert_eq!(recovery.is_err(), is_refused, "{hours} hours");
    }
    // It took longer than it was said to.
    let source = rig.source().await;
    let recovery = source.recovery(&asked, std::slice::from_ref(&known)).await.unwrap().unwrap();
    rig.clock.pass(3 * HOUR);
    source.after_recovery(&recovery.partition, &shard).await.unwrap();
    rig.clock.pass(2 * HOUR);
    let error = source.after_recovery(&recovery.partition, &shard).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Trimmed, "{error}");
    let begun = checkpoint(&recovery.partition, recovery.position.as_str(), false);
    let error = source.recovery(&asked, &[known, begun]).await.unwrap_err();
    assert!(error.to_string().contains("--accept-loss"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_begins_an_hour_before_what_is_behind_and_not_before_what_is_not() {
    let rig = Rig::new().await;
    let now = rig.clock.wall().as_second();
    let old = rig.server.open_shards().remove(0);
    let [one, other] = rig.server.split(&old);
    let source = rig.source().await;
    let partitions = source.partitions().await.unwrap();
    let named = |shard: &str| partitions.iter().find(|listed| listed.id.as_str().ends_with(shard)).unwrap().id.clone();
    let asked = registration(Start::Beginning, Timestamp::UNIX_EPOCH);
    let begin = async |known: &[Checkpoint]| {
        let position = source.recovery(&asked, known).await.unwrap().unwrap().position;
        position.as_str().split(['t', '/']).nth(1).unwrap().parse::<i64>().unwrap() / 1000
    };
    let parent = checkpoint(&named(&old), &format!("@s/{}", now - 20_000), true);
    let behind = checkpoint(&named(&one), &format!("@s100000000000000000000/{}", now - 8000), false);
    let ahead = checkpoint(&named(&other), &format!("@s100000000000000000000/{}", now - 60), false);
    // One that is read on where it is counts for nothing, nor does a parent whose children were begun.
    assert_eq!(begin(&[parent.clone(), behind.clone(), ahead]).await, now - 8000 - 3600);
    // One that was only begun goes on behind the recovery, so it has to hold all of that.
    let unread = checkpoint(&named(&other), &format!("@s/{}", now - 9000), false);
    assert_eq!(begin(&[parent.clone(), behind.clone(), unread]).await, now - 9000 - 3600);
    // A child that nobody began is behind its parent.
    assert_eq!(begin(&[parent, behind]).await, now - 20_000 - 3600);
    // Without checkpoints it is the whole table.
    assert!(begin(&[]).await < -1_000_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_stream_does_not_reach_back_to_is_read_from_the_table() {
    let rig = Rig::new().await;
    let kind = async |start, registered: Timestamp| {
        let source = rig.source().await;
        let shard = source.partitions().await.unwrap().remove(0).id;
        source.start(&shard, &registration(start, registered)).await.map_err(|error| error.kind()).err()
    };
    let made = rig.clock.wall();
    assert_eq!(kind(Start::Beginning, made).await, None, "the stream was made with the table");
    assert_eq!(kind(Start::Now, made).await, None);
    rig.clock.pass(24 * HOUR);
    assert_eq!(kind(Start::Beginning, made).await, Some(ErrorKind::Trimmed), "a day later it has forgotten");
    assert_eq!(kind(Start::Now, made).await, Some(ErrorKind::Trimmed));
    assert_eq!(kind(Start::Now, rig.clock.wall()).await, None);
    assert_eq!(kind(Start::Time(rig.clock.wall() - HOUR), made).await, None);
    rig.server.disable();
    rig.server.enable();
    assert_eq!(kind(Start::Time(rig.clock.wall() - HOUR), made).await, Some(ErrorKind::Trimmed), "it was off then");
    rig.clock.pass(2 * HOUR);
    assert_eq!(kind(Start::Time(rig.clock.wall() - HOUR), made).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_functions_published_begins_with_the_table_though_the_stream_is_old() {
    use outbox::Operator as _;
    let (rig, sink) = (Rig::new().await, sink());
    write(&rig, 1..=5);
    rig.bookkeeping.reset_checkpoint(&crate::rig::route(), &TableSource::published_elsewhere()).await.unwrap();
    forget_all(&rig);
    write(&rig, 6..=8);
    let relay = rig.run(&sink).await;
    rig.published(&sink).await;
    rig.assert_complete(&sink);
    relay.stop().await;
}

/// It was registered longer ago than entries live: functions published what came then.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_functions_published_from_a_time_on_goes_on_with_what_is_left_in_the_table() {
    let rig = Rig::new().await;
    rig.clock.pass(40 * 24 * HOUR);
    let asked = registration(Start::Now, rig.clock.wall() - 40 * 24 * HOUR);
    let source = rig.source().await;
    source.recovery(&asked, &[TableSource::published_elsewhere()]).await.unwrap().unwrap();
    let error = source.recovery(&asked, &[]).await.unwrap_err();
    assert!(error.to_string().contains("--accept-loss"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_relay_was_shows_in_what_it_left_and_whether_the_stream_holds_what_came_since() {
    let (rig, sink) = (Rig::new().await, sink());
    let relay = rig.run(&sink).await;
    write(&rig, 1..=5);
    rig.published(&sink).await;
    rig.server.split(&rig.server.shard_of(KEYS[1]));
    write(&rig, 6..=7);
    rig.published(&sink).await;
    relay.stop().await;
    let (left, now) = (rig.checkpoints().await, rig.clock.wall());
    write(&rig, 8..=9);
    rig.clock.pass(HOUR);
    let reached = rig.source().await.reached(&left).await.unwrap();
    assert!(!reached.is_forgotten && reached.until <= now, "{reached:?}");
    assert!(now.duration_since(reached.until).as_mins() < 5, "{reached:?}");
    rig.clock.pass(30 * HOUR);
    let forgotten = rig.source().await.reached(&left).await.unwrap();
    assert!(forgotten.is_forgotten && forgotten.until == reached.until, "{forgotten:?}");
}
