//! The leaves of the entries: made ahead of need, emptied behind everybody, and never in a writer's way.

use std::time::Duration;

use tokio::time::timeout;

use crate::fixture::{Fixture, refusal};

/// Nothing takes so long that gives up a lock after 50 ms.
const SOON: Duration = Duration::from_secs(5);

/// Empties a leaf that a snapshot taken now is past.
const EMPTY: &str =
    "SELECT entries FROM outbox.empty_leaf(ARRAY[pg_current_snapshot()], 1000000000, now() + interval '1 day')";

impl Fixture {
    /// One with leaves of 10 ids.
    pub(crate) async fn of_small_leaves() -> Self {
        let fixture = Self::new().await;
        fixture
            .sql("DROP TABLE outbox.entries_1; DELETE FROM outbox.leaves; SELECT outbox.make_leaf('0', 1, 10)")
            .await;
        fixture
    }

    pub(crate) async fn write(&self, count: u32) {
        self.sql(&format!("SELECT outbox.write('k', 't') FROM generate_series(1, {count})")).await;
    }

    pub(crate) async fn leaves(&self) -> Vec<String> {
        self.rows("SELECT name, low, high, emptied_at IS NOT NULL AS emptied FROM outbox.leaves ORDER BY low").await
    }

    pub(crate) async fn by_default(&self) -> i64 {
        self.number("SELECT count(*) FROM outbox.entries_default").await
    }
}

#[tokio::test]
async fn leaves_are_made_ahead_and_no_more_than_needed() {
    let fixture = Fixture::of_small_leaves().await;
    assert_eq!(fixture.leaves().await, [r#"{"name":"entries_1","low":1,"high":11,"emptied":false}"#]);
    for _ in 0..3 {
        fixture.sql("SELECT outbox.make_leaf('1 hour', 3, 10)").await;
    }
    assert_eq!(fixture.leaves().await.len(), 1, "there is room enough");
    fixture.write(5).await;
    fixture.sql("SELECT outbox.make_leaf('1 hour', 3, 10)").await;
    fixture.sql("SELECT outbox.make_leaf('0', 3, 10)").await;
    assert_eq!(fixture.leaves().await[1], r#"{"name":"entries_11","low":11,"high":21,"emptied":false}"#);
    fixture.write(15).await;
    assert_eq!(fixture.by_default().await, 0);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries_11").await, 10);
}

#[tokio::test]
async fn what_has_no_leaf_is_taken_by_the_default_and_new_ranges_start_above_it() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(25).await;
    assert_eq!(fixture.by_default().await, 15);
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    assert_eq!(fixture.leaves().await[1], r#"{"name":"entries_26","low":26,"high":36,"emptied":false}"#);
    fixture.write(5).await;
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries_26").await, 5);
    assert_eq!(fixture.by_default().await, 15);
    let sequences = "SELECT count(*) FROM outbox.entries WHERE sequence <> id";
    assert_eq!(fixture.number(sequences).await, 0, "no row was moved");
}

#[tokio::test]
async fn a_transaction_that_has_written_and_writes_on_is_not_refused_for_a_leaf_made_meanwhile() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.sql("BEGIN").await;
    for written in 1..=12 {
        // Nothing of the next statement is new to the session: it looks at no table's description anew.
        fixture.sql("SELECT outbox.write('k', 't')").await;
        if written == 8 {
            let beside = fixture.database.session().await;
            let refused = refusal(&beside, "SELECT outbox.make_leaf('0', 10, 10)").await;
            assert!(refused.starts_with("55P03"), "{refused}");
        }
    }
    fixture.sql("COMMIT; SELECT outbox.make_leaf('0', 10, 10)").await;
    assert_eq!(fixture.leaves().await[1], r#"{"name":"entries_13","low":13,"high":23,"emptied":false}"#);
}

#[tokio::test]
async fn only_a_leaf_that_everybody_is_past_is_emptied() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    let before: String = fixture.client.query_one("SELECT pg_current_snapshot()::text", &[]).await.unwrap().get(0);
    fixture.write(9).await;
    assert_eq!(fixture.number(EMPTY).await, 0, "its ids are not all drawn");
    fixture.write(3).await;
    let after: String = fixture.client.query_one("SELECT pg_current_snapshot()::text", &[]).await.unwrap().get(0);
    let empty = |passed: &str, keep: &str, time: &str| {
        format!("SELECT entries FROM outbox.empty_leaf('{passed}', {keep}, {time})")
    };
    let (later, earlier) = ("now() + interval '1 day'", "now() - interval '1 day'");
    let refused = [
        ("no snapshot", empty("{}", "100", later)),
        ("an unknown snapshot", empty("{NULL}", "100", later)),
        ("one route is not past", empty(&format!("{{\"{after}\",\"{before}\"}}"), "100", later)),
        ("an entry to be kept", empty(&format!("{{\"{after}\"}}"), "10", later)),
        ("too young", empty(&format!("{{\"{after}\"}}"), "100", earlier)),
    ];
    for (why, sql) in refused {
        assert_eq!(fixture.number(&sql).await, 0, "{why}");
        assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 12, "{why}");
    }
    assert_eq!(fixture.number(&empty(&format!("{{\"{after}\",\"{after}\"}}"), "11", later)).await, 10);
    assert_eq!(fixture.number("SELECT min(id) FROM outbox.entries").await, 11);
    assert_eq!(fixture.number(EMPTY).await, 0, "the next is in use");
}

#[tokio::test]
async fn a_leaf_that_an_open_transaction_wrote_to_is_passed_over_until_its_row_was_seen() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    fixture.write(9).await;
    let open = fixture.database.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('open', 't')").await.unwrap();
    fixture.write(10).await;
    let emptied = async || timeout(SOON, fixture.number(EMPTY)).await.expect("it gives up the lock soon");
    assert_eq!(emptied().await, 10);
    assert_eq!(emptied().await, 0);
    assert_eq!(fixture.number("SELECT max(id) FROM outbox.entries").await, 9, "the later leaf went");
    let before: String = fixture.client.query_one("SELECT pg_current_snapshot()::text", &[]).await.unwrap().get(0);
    open.batch_execute("COMMIT").await.unwrap();
    fixture.number(&EMPTY.replace("pg_current_snapshot()", &format!("'{before}'::pg_snapshot"))).await;
    let open_rows = "SELECT count(*) FROM outbox.entries WHERE key = 'open'";
    assert_eq!(fixture.number(open_rows).await, 1, "no route has seen it");
    assert_eq!(fixture.number(EMPTY).await, 10);
    assert_eq!(fixture.number(open_rows).await, 0);
}

#[tokio::test]
async fn a_leaf_is_looked_through_once_and_not_under_its_lock_though_an_old_transaction_is_open() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(10).await;
    fixture.sql("SELECT outbox.make_leaf('0', 3000, 3000)").await;
    // Whatever is written now is behind the first that this one has not seen.
    let old = fixture.database.session().await;
    old.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    assert_eq!(fixture.number(EMPTY).await, 10);
    fixture.write(3000).await;
    let touched = "SELECT t.seq_tup_read + coalesce(sum(i.idx_tup_read), 0) FROM pg_stat_all_tables AS t \
        JOIN pg_stat_all_indexes AS i USING (relid) WHERE t.schemaname = 'outbox' AND t.relname = 'entries_11' GROUP BY t.relid, t.seq_tup_read";
    fixture.sql("SELECT pg_stat_force_next_flush()").await;
    let before = fixture.number(touched).await;
    assert_eq!(fixture.number(EMPTY).await, 3000);
    fixture.sql("SELECT pg_stat_force_next_flush()").await;
    let looked_at = fixture.number(touched).await - before;
    assert!((3000..4500).contains(&looked_at), "{looked_at}");
    old.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_writer_waits_no_longer_than_the_lock_timeout_for_a_leaf_to_be_emptied() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(9).await;
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    let open = fixture.database.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('open', 't')").await.unwrap();
    fixture.write(1).await;
    let emptying = fixture.database.session().await;
    let emptying = tokio::spawn(async move {
        loop {
            emptying.batch_execute(EMPTY).await.unwrap();
        }
    });
    // While the lock on the leaf is waited for, others write, to that very leaf as well.
    let behind = "SELECT outbox.write('k', 't'); \
        INSERT INTO outbox.entries (id, type) OVERRIDING SYSTEM VALUE VALUES (5, 'late') ON CONFLICT DO NOTHING";
    for _ in 0..5 {
        fixture.until_waiting(1).await;
        timeout(SOON, fixture.sql(behind)).await.expect("nobody waits for the transaction that is open");
    }
    assert!(!emptying.is_finished(), "it asks for the lock again and again");
    emptying.abort();
    open.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn whatever_locks_out_writers_waits_for_50_ms() {
    let fixture = Fixture::new().await;
    let limited = "SELECT proname FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace \
        AND 'lock_timeout=50ms' = ANY (proconfig) ORDER BY proname";
    let limited = fixture.rows(limited).await;
    let locking = ["drop_leaf", "empty_leaf", "make_leaf", "raise_incarnation"];
    assert_eq!(limited, locking.map(|name| format!(r#"{{"proname":"{name}"}}"#)));
}

#[tokio::test]
async fn a_leaf_that_is_made_leaves_the_sessions_own_limit_as_it_was() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(5).await;
    fixture.sql("SET lock_timeout = '7s'; BEGIN; SELECT outbox.make_leaf('0', 10, 10)").await;
    assert_eq!(
        fixture.rows("SELECT current_setting('lock_timeout') AS lock_timeout").await,
        [r#"{"lock_timeout":"7s"}"#]
    );
    fixture.sql("COMMIT").await;
    assert_eq!(fixture.leaves().await.len(), 2);
}

#[tokio::test]
async fn a_leaf_is_not_made_beside_who_reads_the_default_one_for_long_and_writers_go_on() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(5).await;
    let reading = fixture.database.session().await;
    reading.batch_execute("BEGIN; LOCK TABLE outbox.entries_default IN ACCESS SHARE MODE").await.unwrap();
    let refused = fixture.refusal("SELECT outbox.make_leaf('0', 10, 10)").await;
    assert!(refused.starts_with("55P03"), "{refused}");
    timeout(SOON, fixture.write(1)).await.expect("nothing is left locked");
    reading.batch_execute("COMMIT").await.unwrap();
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    assert_eq!(fixture.leaves().await.len(), 2);
}

#[tokio::test]
async fn what_would_go_by_an_old_snapshot_is_refused() {
    let fixture = Fixture::new().await;
    for call in [
        "make_leaf()",
        "drop_leaf()",
        "empty_leaf(ARRAY[pg_current_snapshot()], 1, now())",
        "raise_incarnation('{}', '{}', 0, false)",
    ] {
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            let refused = fixture.refusal(&format!("BEGIN ISOLATION LEVEL {level}; SELECT outbox.{call}")).await;
            assert!(refused.starts_with("25001") && refused.contains(level), "{call}: {refused}");
            fixture.sql("ROLLBACK").await;
        }
    }
}

#[tokio::test]
async fn the_default_leaf_is_emptied_like_the_others() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(25).await;
    assert_eq!(fixture.number(EMPTY).await, 10);
    assert_eq!(fixture.number(EMPTY).await, 15);
    assert_eq!(fixture.by_default().await, 0);
    assert_eq!(fixture.number("SELECT outbox.write('k', 't')").await, 26, "a key goes on with its number");
}

#[tokio::test]
async fn an_empty_shell_is_dropped_when_it_is_quiet() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    fixture.write(12).await;
    fixture.number(EMPTY).await;
    let dropped = async || fixture.rows("SELECT outbox.drop_leaf() AS name").await.remove(0);
    assert_eq!(dropped().await, r#"{"name":null}"#, "emptied only now");
    fixture
        .sql("UPDATE outbox.leaves SET emptied_at = emptied_at - interval '2 hours' WHERE emptied_at IS NOT NULL")
        .await;
    let open = fixture.database.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('open', 't')").await.unwrap();
    assert_eq!(dropped().await, r#"{"name":null}"#, "somebody writes");
    open.batch_execute("COMMIT").await.unwrap();
    assert_eq!(dropped().await, r#"{"name":"entries_1"}"#);
    assert_eq!(fixture.leaves().await.len(), 1);
}

#[tokio::test]
async fn a_shell_that_was_written_to_since_is_kept_and_emptied_again() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    fixture.write(12).await;
    fixture.number(EMPTY).await;
    fixture.sql("INSERT INTO outbox.entries (id, type) OVERRIDING SYSTEM VALUE VALUES (5, 'drawn long ago')").await;
    fixture
        .sql("UPDATE outbox.leaves SET emptied_at = emptied_at - interval '2 hours' WHERE emptied_at IS NOT NULL")
        .await;
    assert_eq!(fixture.rows("SELECT outbox.drop_leaf() AS name").await, [r#"{"name":null}"#]);
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries WHERE id = 5").await, 1);
    assert_eq!(fixture.number(EMPTY).await, 1);
}
