use std::time::Duration;

use super::*;

const NOW: Moment = Moment::from_zero(Duration::from_secs(1000));

fn id(name: &str) -> PartitionId {
    PartitionId::new(name)
}

/// `child: parent parent`, each.
fn listing(lines: &[&str]) -> Listing {
    let partition = |line: &&str| {
        let (name, parents) = line.split_once(':').unwrap_or((line, ""));
        Partition { id: id(name), parents: parents.split_whitespace().map(id).collect() }
    };
    lines.iter().map(partition).collect()
}

fn lineage(lines: &[&str]) -> Lineage {
    Lineage::new(listing(lines), None)
}

fn checkpoint(name: &str, finished: bool) -> Checkpoint {
    Checkpoint { partition: id(name), position: Position::new("7"), finished }
}

fn names(due: &[(PartitionId, BeginAt)]) -> Vec<&str> {
    due.iter().map(|(partition, _)| partition.as_str()).collect()
}

#[test]
fn a_child_waits_for_every_listed_parent_and_begins_at_its_beginning() {
    let mut lineage = lineage(&["a", "b", "c:a b"]);
    assert_eq!(lineage.begin(NOW), [(id("a"), BeginAt::Start), (id("b"), BeginAt::Start)]);
    assert_eq!(lineage.waiting().map(|(child, _)| child.as_str()).collect::<Vec<_>>(), ["c"]);
    lineage.note(checkpoint("a", true));
    lineage.leave(&id("a"));
    assert_eq!(lineage.begin(NOW), []);
    lineage.note(checkpoint("b", true));
    lineage.leave(&id("b"));
    assert_eq!(lineage.begin(NOW), [(id("c"), BeginAt::First)]);
    assert_eq!(lineage.begin(NOW), [], "it is begun once");
    lineage.leave(&id("c"));
    lineage.note(checkpoint("c", false));
    assert_eq!(lineage.begin(NOW), [(id("c"), BeginAt::Checkpoint(Position::new("7")))]);
}

#[test]
fn a_parent_that_is_not_listed_counts_as_read_but_nobody_knows_where_its_child_begins() {
    let mut lineage = lineage(&["c:gone", "d:read"]);
    lineage.know(vec![checkpoint("read", true)]);
    assert_eq!(lineage.begin(NOW), [(id("c"), BeginAt::Start), (id("d"), BeginAt::First)]);
}

#[test]
fn what_was_begun_and_is_not_listed_any_more_is_asked_for_all_the_same_before_its_children() {
    let mut lineage = lineage(&["c:p"]);
    lineage.know(vec![checkpoint("p", false)]);
    assert_eq!(names(&lineage.begin(NOW)), ["p"]);
}

#[test]
fn a_recovery_is_the_parent_of_every_other_partition() {
    let mut lineage = lineage(&["a", "b"]);
    let recovery = Checkpoint { partition: PartitionId::recovery(1), ..checkpoint("", false) };
    lineage.know(vec![checkpoint("a", false), recovery.clone()]);
    assert_eq!(names(&lineage.begin(NOW)), ["recovery/1"]);
    assert_eq!(lineage.waiting().map(|(child, _)| child.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    lineage.leave(&recovery.partition);
    lineage.note(Checkpoint { finished: true, ..recovery });
    assert_eq!(names(&lineage.begin(NOW)), ["a", "b"]);
    assert_eq!(lineage.waiting().count(), 0);
}

#[test]
fn a_replay_reads_the_partitions_that_were_there_when_it_was_asked_for() {
    let only = ["a", "b"].map(id).into_iter().collect();
    let mut lineage = Lineage::new(listing(&["a", "b:a", "new", "c:b"]), Some(only));
    assert_eq!(names(&lineage.begin(NOW)), ["a"]);
    lineage.note(checkpoint("a", true));
    assert_eq!(lineage.begin(NOW), [(id("b"), BeginAt::First)]);
    assert!(!lineage.is_replayed());
    lineage.note(checkpoint("b", true));
    assert!(lineage.is_replayed());
    assert_eq!(lineage.begin(NOW), []);
}

#[test]
fn a_finished_checkpoint_is_forgotten_once_it_is_long_gone_and_all_that_follows_it_was_begun() {
    const LONG: Duration = Duration::from_secs(60);
    let mut lineage = lineage(&["b:a", "c:a"]);
    lineage.know(vec![checkpoint("a", true), checkpoint("b", false), checkpoint("gone", false)]);
    let later = NOW + LONG;
    assert_eq!(lineage.forgettable(NOW, LONG), []);
    assert_eq!(lineage.forgettable(later, LONG), [], "c was not begun");
    lineage.note(checkpoint("c", false));
    assert_eq!(lineage.forgettable(later, LONG), [id("a")]);
    lineage.list(listing(&["a", "b:a", "c:a"]));
    assert_eq!(lineage.forgettable(later, LONG), [], "it was not gone");
    lineage.list(listing(&["b:a", "c:a"]));
    assert_eq!(lineage.forgettable(later, LONG), [], "it is gone only now");
}

#[test]
fn who_waits_is_known_since_when() {
    let mut lineage = lineage(&["a", "b:a"]);
    lineage.begin(NOW);
    lineage.begin(NOW + Duration::from_secs(5));
    let waiting: Vec<_> = lineage.waiting().map(|(_, waiting)| waiting.clone()).collect();
    assert_eq!(waiting, [Waiting { parent: id("a"), since: NOW }]);
    assert!(lineage.is_closed(&id("a")) && !lineage.is_closed(&id("b")));
}
