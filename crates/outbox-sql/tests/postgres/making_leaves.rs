//! Leaves are made while others write, and no write fails for it.

use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;

use crate::fixture::Fixture;

/// Beyond the ids that anybody draws by counting.
const LEAP: i64 = 1 << 40;

impl Fixture {
    /// So many sessions write at once, each to a key of its own.
    async fn begin_writing(&self, name: &str, writers: u32) -> JoinSet<Result<(), tokio_postgres::Error>> {
        let mut all = JoinSet::new();
        for number in 0..writers {
            let client = self.database.session().await;
            let sql = format!("SELECT outbox.write('{name}{number}', 't')");
            all.spawn(async move { client.batch_execute(&sql).await });
        }
        all
    }

    /// Makes a leaf of the usual size, and gives its name.
    async fn make_leaf(&self) -> Option<String> {
        self.client.query_one("SELECT outbox.make_leaf()", &[]).await.unwrap().get(0)
    }
}

async fn succeeded(writers: JoinSet<Result<(), tokio_postgres::Error>>) {
    for written in writers.join_all().await {
        written.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drew_an_id_and_waits_while_a_leaf_is_made_is_not_refused() {
    let fixture = Fixture::of_small_leaves().await;
    fixture.write(15).await;
    let maker = fixture.database.session().await;
    maker.batch_execute("BEGIN; LOCK TABLE ONLY outbox.entries IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    let before = fixture.begin_writing("before", 8).await;
    fixture.until_waiting(8).await;
    maker.batch_execute("SELECT outbox.make_leaf('0', 1000, 1000)").await.unwrap();
    let after = fixture.begin_writing("after", 8).await;
    fixture.until_waiting(16).await;
    maker.batch_execute("COMMIT").await.unwrap();
    succeeded(before).await;
    succeeded(after).await;
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, 15 + 16);
    assert_eq!(fixture.number("SELECT min(low) FROM outbox.leaves WHERE low > 1").await, 15 + 8 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_fails_whenever_leaves_are_made() {
    const WRITERS: i64 = 6;
    const WRITES: i64 = 3_000;
    let fixture = Fixture::of_small_leaves().await;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let client = fixture.database.session().await;
        writers.spawn(async move {
            for written in (0..WRITES).step_by(20) {
                let key = format!("k{number}.{}", written % 3);
                let sql =
                    format!("SELECT outbox.write('{key}', 't'), outbox.write(NULL, 't') FROM generate_series(1, 5)");
                // So that a leaf may be wanted between two statements of one transaction.
                client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
                client.batch_execute(&format!("{sql}; COMMIT")).await.unwrap();
            }
        });
    }
    let mut made = 0;
    while !writers.is_empty() {
        while let Some(ended) = writers.try_join_next() {
            ended.unwrap();
        }
        match fixture.client.query_one("SELECT outbox.make_leaf('0', 5000, 5000)", &[]).await {
            Ok(one) => made += usize::from(one.get::<_, Option<&str>>(0).is_some()),
            // A writer may be in the middle for longer than the lock is waited for.
            Err(error) => assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error}"),
        }
    }
    assert!(made > 2, "{made}");
    assert_eq!(fixture.number("SELECT count(*) FROM outbox.entries").await, WRITERS * WRITES);
    let by_leaf = "SELECT count(DISTINCT tableoid) FROM outbox.entries";
    assert!(fixture.number(by_leaf).await > 2, "the first leaf, and those above it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_is_made_without_a_look_through_a_large_default_one_and_ids_leap_to_it() {
    let fixture = Fixture::of_small_leaves().await;
    fixture
        .sql("INSERT INTO outbox.entries (type, data) SELECT 't', repeat(md5(n::text), 32) FROM generate_series(1, 12000) AS n")
        .await;
    let looked_at = async || {
        fixture.sql("SELECT pg_stat_force_next_flush()").await;
        let rows = "SELECT seq_tup_read FROM pg_stat_all_tables WHERE relid = 'outbox.entries_default'::regclass";
        fixture.number(rows).await
    };
    let proven = "SELECT count(*) FROM pg_constraint WHERE conname = 'below_the_leap' AND convalidated";
    assert_eq!(fixture.make_leaf().await, None, "nothing is proven yet");
    assert_eq!(fixture.number(proven).await, 0);
    // The look through it waits for nobody who writes, and keeps nobody from it.
    let open = fixture.database.session().await;
    open.batch_execute("BEGIN; SELECT outbox.write('open', 't')").await.unwrap();
    assert_eq!(fixture.make_leaf().await, None, "it is proven only now");
    assert_eq!(fixture.number(proven).await, 1);
    open.batch_execute("SELECT outbox.write('open', 't'); COMMIT").await.unwrap();
    let before = looked_at().await;
    assert!(before >= 11_990, "the proof was a look through it: {before}");
    assert_eq!(fixture.make_leaf().await, Some(format!("entries_{LEAP}")));
    assert_eq!(looked_at().await, before);
    assert_eq!(fixture.number("SELECT count(*) FROM pg_constraint WHERE conname = 'below_the_leap'").await, 0);
    for id in LEAP..LEAP + 3 {
        assert_eq!(fixture.make_leaf().await, None, "one is enough");
        fixture.write(1).await;
        assert_eq!(fixture.number("SELECT max(id) FROM outbox.entries").await, id, "no id is drawn twice");
    }
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM outbox.entries_{LEAP}")).await, 3);
    assert_eq!(fixture.number("SELECT sequence FROM outbox.heads WHERE key = 'k'").await, 3);
}

#[tokio::test]
async fn ids_do_not_leap_before_whoever_wrote_when_the_leaf_was_made_has_ended() {
    let fixture = Fixture::of_small_leaves().await;
    fixture
        .sql("INSERT INTO outbox.entries (type, data) SELECT 't', repeat(md5(n::text), 32) FROM generate_series(1, 12000) AS n")
        .await;
    let step = async || fixture.sql("SELECT outbox.make_leaf('0', 10, 10)").await;
    for _ in 0..4 {
        step().await;
    }
    // One that has written to the leaf alone keeps nobody from the default one.
    fixture.write(8).await;
    let open = fixture.database.session().await;
    let write = "SELECT outbox.write('open', 't')";
    open.batch_execute("BEGIN").await.unwrap();
    open.batch_execute(write).await.unwrap();
    assert_eq!(fixture.number("SELECT max(high) FROM outbox.leaves").await, LEAP + 10);
    for _ in 0..5 {
        step().await;
    }
    assert_eq!(fixture.number("SELECT max(low) FROM outbox.leaves").await, 2 * LEAP, "it is there");
    for _ in 0..3 {
        open.batch_execute(write).await.unwrap();
    }
    assert_eq!(fixture.number("SELECT last_value FROM outbox.entry_ids").await, LEAP + 11);
    open.batch_execute("COMMIT").await.unwrap();
    step().await;
    fixture.write(1).await;
    assert_eq!(fixture.number("SELECT max(id) FROM outbox.entries").await, 2 * LEAP);
}

#[tokio::test]
async fn the_more_a_default_leaf_holds_that_is_left_by_a_leap_the_longer_the_next_leaf_lasts() {
    let fixture = Fixture::of_small_leaves().await;
    fixture
        .sql("INSERT INTO outbox.entries (type, data) SELECT 't', repeat(md5(n::text), 32) FROM generate_series(1, 12000) AS n")
        .await;
    let kilobytes = fixture.number("SELECT pg_relation_size('outbox.entries_default') / 1024").await;
    for _ in 0..3 {
        fixture.sql("SELECT outbox.make_leaf('0', 10, 1000000)").await;
    }
    let size = "SELECT high - low FROM outbox.leaves ORDER BY low DESC LIMIT 1";
    assert_eq!(fixture.number(size).await, kilobytes, "so that it is looked through seldom");
}

#[tokio::test]
async fn ids_leap_again_while_the_default_leaf_is_large() {
    let fixture = Fixture::of_small_leaves().await;
    fixture
        .sql("INSERT INTO outbox.entries (type, data) SELECT 't', repeat(md5(n::text), 32) FROM generate_series(1, 12000) AS n")
        .await;
    for leap in 1..=3 {
        let low = leap * LEAP;
        assert_eq!((fixture.make_leaf().await, fixture.make_leaf().await), (None, None));
        assert_eq!(fixture.make_leaf().await, Some(format!("entries_{low}")));
        fixture.sql("UPDATE outbox.leaves SET made_at = made_at - interval '1 day'").await;
        assert_eq!(fixture.make_leaf().await, None, "ids leap to it");
        fixture.write(1).await;
        assert_eq!(fixture.number("SELECT max(id) FROM outbox.entries").await, low);
        // As if nearly all ids of this leaf had been drawn.
        fixture.sql("SELECT setval('outbox.entry_ids', max(high) - 10) FROM outbox.leaves").await;
    }
}
