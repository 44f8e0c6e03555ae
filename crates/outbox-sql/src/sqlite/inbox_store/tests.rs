use outbox::{
    Event, Place, Placing,
    event::{Identity, NewEvent},
    inbox::{Applied, InboxLayer, InboxService, Incoming},
    testing::conformance::inbox::{
        InboxUnderTest, Script, in_order_applies_any_arrival_once_in_order, latest_ends_any_arrival_with_the_last,
    },
};
use proptest::prelude::*;
use tempfile::TempDir;
use tower::Layer;

use super::*;

mod culprit;
mod in_turn;

const EFFECTS: &str = "CREATE TABLE IF NOT EXISTS effects (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL)";

/// An inbox in a file of its own, with its effects in a table beside it.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("consumer.db")
    }
}

fn write_effect(tx: &SqliteTx<'_>, event: &Event) {
    let mut insert = tx.transaction().prepare_cached("INSERT INTO effects (id) VALUES (?1)").unwrap();
    insert.execute([Script::effect(event)]).unwrap();
}

struct Scripted(Script);

impl Handler<SqliteTx<'_>> for Scripted {
    async fn handle(&self, tx: &mut SqliteTx<'_>, event: &Event) -> Answer {
        write_effect(tx, event);
        self.0.answer(event)
    }
}

impl InboxUnderTest for Bench {
    type Store = SqliteInbox;
    type Handler = Scripted;

    fn open(&self) -> SqliteInbox {
        let options = InboxOptions::new("tests").tables(|connection| connection.execute_batch(EFFECTS));
        SqliteInbox::open(self.path(), options).unwrap()
    }

    fn handler(&self, script: Script) -> Scripted {
        Scripted(script)
    }

    fn effects(&self) -> Vec<String> {
        let connection = Connection::open(self.path()).unwrap();
        let mut select = connection.prepare("SELECT id FROM effects ORDER BY n").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

outbox::inbox_conformance!(Bench::new());

fn arrivals() -> impl Strategy<Value = Vec<Vec<(u8, u64)>>> {
    let each: Vec<(u8, u64)> = (0..3).flat_map(|key| (1..6).map(move |sequence| (key, sequence))).collect();
    let more = proptest::collection::vec(proptest::sample::select(each.clone()), 0..8);
    more.prop_map(move |more| [each.clone(), more].concat())
        .prop_shuffle()
        .prop_flat_map(|events| (Just(events), 1_usize..6))
        .prop_map(|(events, size)| events.chunks(size).map(<[_]>::to_vec).collect())
}

fn run(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_arrival_is_applied_once_in_order(arrivals in arrivals()) {
        run(in_order_applies_any_arrival_once_in_order(&Bench::new(), &arrivals));
    }

    #[test]
    fn latest_ends_with_the_last_of_any_arrival(arrivals in arrivals()) {
        run(latest_ends_any_arrival_with_the_last(&Bench::new(), &arrivals));
    }
}

fn event(id: &str) -> Event {
    let new = NewEvent::builder("sample").id(id).json("payload").build().unwrap();
    let identity = Identity { source: &"/orders".into(), placing: None, recorded: None, fallback_id: "" };
    Event::from_new(new, identity).unwrap()
}

async fn take(
    service: &InboxService<SqliteInbox, impl for<'t> Handler<SqliteTx<'t>>>,
    events: Vec<Event>,
) -> Result<Vec<Applied>, StoreError> {
    service.apply(events.into_iter().map(Incoming::Event).collect()).await
}

#[tokio::test]
async fn a_plain_function_writes_through_the_transaction() {
    let bench = Bench::new();
    let service = InboxLayer::once(bench.open()).layer(handler_fn(
        |tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
            tx.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()])?;
            Ok(())
        },
    ));
    assert_eq!(take(&service, vec![event("a"), event("b")]).await.unwrap(), [Applied::Applied, Applied::Applied]);
    assert_eq!(bench.effects(), ["a", "b"]);
}

#[tokio::test]
async fn an_error_of_the_database_in_a_handler_asks_for_another_attempt() {
    let bench = Bench::new();
    let service =
        InboxLayer::once(bench.open()).layer(handler_fn(|tx: &Transaction<'_>, _: &Event| -> rusqlite::Result<()> {
            tx.execute("INSERT INTO no_such_table VALUES (1)", [])?;
            Ok(())
        }));
    let applied = take(&service, vec![event("a")]).await.unwrap();
    assert!(
        matches!(&applied[..], [Applied::Retrying { reason, .. }] if reason.contains("no_such_table")),
        "{applied:?}"
    );
}

#[tokio::test]
async fn a_handler_that_waits_is_refused_and_nothing_is_recorded() {
    struct Waits;
    impl Handler<SqliteTx<'_>> for Waits {
        async fn handle(&self, tx: &mut SqliteTx<'_>, event: &Event) -> Answer {
            write_effect(tx, event);
            tokio::task::yield_now().await;
            Answer::Done
        }
    }
    let bench = Bench::new();
    let service = InboxLayer::once(bench.open()).layer(Waits);
    let error = take(&service, vec![event("a")]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("ClaimHandler"), "{error}");
    assert!(bench.effects().is_empty());
    assert_eq!(service.operator().totals().await.unwrap().ids, 0);
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_is_noticed() {
    let bench = Bench::new();
    let service = InboxLayer::once(bench.open())
        .layer(handler_fn(|tx: &Transaction<'_>, _: &Event| -> rusqlite::Result<()> { tx.execute_batch("ROLLBACK") }));
    let error = take(&service, vec![event("a")]).await.unwrap_err();
    assert!(error.to_string().contains("handler ended it"), "{error}");
}

#[tokio::test]
async fn a_job_that_fails_does_not_take_others_of_its_transaction_with_it() {
    struct WaitsForOne;
    impl Handler<SqliteTx<'_>> for WaitsForOne {
        async fn handle(&self, tx: &mut SqliteTx<'_>, event: &Event) -> Answer {
            write_effect(tx, event);
            if event.id() == "bad" {
                tokio::task::yield_now().await;
            }
            Answer::Done
        }
    }
    let bench = Bench::new();
    let service = InboxLayer::once(bench.open()).layer(WaitsForOne);
    take(&service, vec![event("first")]).await.unwrap();
    let calls = ["a", "bad", "b", "c"].map(|id| take(&service, vec![event(id)]));
    let [a, bad, b, c] = calls;
    let (a, bad, b, c) = tokio::join!(a, bad, b, c);
    assert!(a.is_ok() && bad.is_err() && b.is_ok() && c.is_ok());
    assert_eq!(bench.effects(), ["first", "a", "b", "c"]);
}

#[tokio::test]
async fn a_kept_event_that_ends_its_transaction_holds_back_no_other() {
    let (bench, clock) = (Bench::new(), Arc::new(outbox::memory::ManualClock::default()));
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let fails = first.clone();
    let handler = handler_fn(move |tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
        if fails.load(std::sync::atomic::Ordering::Relaxed) {
            return tx.execute_batch("SELECT 1 FROM no_such_table");
        }
        tx.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()])?;
        if event.id() == "bad" { tx.execute_batch("ROLLBACK") } else { Ok(()) }
    });
    let service = InboxLayer::once(bench.open()).clock(clock.clone()).layer(handler);
    take(&service, vec![event("bad"), event("good")]).await.unwrap();
    first.store(false, std::sync::atomic::Ordering::Relaxed);
    clock.advance(std::time::Duration::from_secs(60));
    service.sweep().await.unwrap();
    assert_eq!(bench.effects(), ["good"]);
    assert_eq!(service.operator().totals().await.unwrap().retrying, 1);
}

#[tokio::test]
async fn ids_not_done_with_keep_no_other_from_being_forgotten() {
    let (bench, clock) = (Bench::new(), Arc::new(outbox::memory::ManualClock::default()));
    let store = bench.open();
    Connection::open(bench.path())
        .unwrap()
        .execute_batch(
            "INSERT INTO outbox_inbox_ids (producer, id, expires, done) \
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 6000) SELECT 0, n, 0, 0 FROM n",
        )
        .unwrap();
    let service = InboxLayer::once(store).clock(clock.clone()).layer(Scripted(Script::default()));
    take(&service, vec![event("a")]).await.unwrap();
    assert_eq!(service.operator().totals().await.unwrap().ids, 1);
    clock.advance(std::time::Duration::from_secs(10 * 365 * 24 * 3600));
    service.sweep().await.unwrap();
    assert_eq!(service.operator().totals().await.unwrap().ids, 0);
}

#[tokio::test]
async fn ids_that_expired_are_forgotten_behind_any_number_that_have_not() {
    let bench = Bench::new();
    let store = bench.open();
    Connection::open(bench.path())
        .unwrap()
        .execute_batch(
            "INSERT INTO outbox_inbox_producers (id, consumer, producer) VALUES (7, 'tests', '/orders');
             INSERT INTO outbox_inbox_ids (producer, id, expires, done) \
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40000) \
             SELECT 7, n, CASE WHEN n <= 30000 THEN 9000000000000000 ELSE 0 END, 1 FROM n",
        )
        .unwrap();
    let service = InboxLayer::once(store).layer(Scripted(Script::default()));
    // One sweep looks at some of them only; the next goes on.
    service.sweep().await.unwrap();
    assert!(service.operator().totals().await.unwrap().ids > 30_000);
    service.sweep().await.unwrap();
    assert_eq!(service.operator().totals().await.unwrap().ids, 30_000);
}

#[tokio::test]
async fn several_inboxes_share_a_file_and_nothing_else() {
    let bench = Bench::new();
    let open = |name: &str| {
        SqliteInbox::open(bench.path(), InboxOptions::new(name).tables(|file| file.execute_batch(EFFECTS))).unwrap()
    };
    for name in ["ledger", "mails"] {
        let service = InboxLayer::once(open(name)).layer(Scripted(Script::default()));
        assert_eq!(take(&service, vec![event("a")]).await.unwrap(), [Applied::Applied]);
        assert_eq!(service.operator().totals().await.unwrap().counts.applied, 1);
    }
    assert_eq!(bench.effects(), ["a", "a"]);
    assert_eq!(SqliteInbox::consumers(bench.path()).unwrap(), ["ledger", "mails"]);
}

#[tokio::test]
async fn an_operator_in_another_process_sees_and_redrives() {
    let bench = Bench::new();
    // Fails until somebody mends the table that it looks into.
    let fail = |tx: &Transaction<'_>, _: &Event| {
        let mended: bool = tx.query_row("SELECT count(*) FROM effects", [], |row| row.get(0)).unwrap();
        if mended { Answer::Done } else { Answer::give_up("bad") }
    };
    let consumer = InboxLayer::once(bench.open()).layer(handler_fn(fail));
    assert!(matches!(take(&consumer, vec![event("a")]).await.unwrap()[..], [Applied::DeadLetter { .. }]));
    let elsewhere = SqliteInbox::open(bench.path(), InboxOptions::new("tests").existing()).unwrap();
    let operator = outbox::inbox::InboxOperator::new(elsewhere);
    assert_eq!(operator.redrive(&outbox::inbox::Chosen::default()).await.unwrap(), 1);
    Connection::open(bench.path()).unwrap().execute("INSERT INTO effects (id) VALUES ('mended')", []).unwrap();
    consumer.sweep().await.unwrap();
    assert_eq!(operator.totals().await.unwrap().dead, 0);
}

#[test]
fn an_operator_makes_nothing() {
    let bench = Bench::new();
    let missing = SqliteInbox::open(bench.path(), InboxOptions::new("ledger").existing()).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotPermitted);
    assert!(!bench.path().exists());
    Connection::open(bench.path()).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    let no_inbox = SqliteInbox::open(bench.path(), InboxOptions::new("ledger").existing()).err().unwrap();
    assert!(no_inbox.to_string().contains("no inbox"), "{no_inbox}");
    drop(bench.open());
    let other = SqliteInbox::open(bench.path(), InboxOptions::new("ledger").existing()).err().unwrap();
    assert!(other.kind() == ErrorKind::Invalid && other.to_string().contains("`tests`"), "{other}");
}

#[test]
fn tables_of_a_newer_version_are_refused() {
    let bench = Bench::new();
    drop(bench.open());
    Connection::open(bench.path()).unwrap().execute("UPDATE outbox_inbox_meta SET layout = 2", []).unwrap();
    let error = SqliteInbox::open(bench.path(), InboxOptions::new("tests")).err().unwrap();
    assert!(error.kind() == ErrorKind::Incompatible && error.to_string().contains("upgrade"), "{error}");
}

#[tokio::test]
async fn a_locked_database_is_unavailable_and_nothing_is_recorded() {
    let bench = Bench::new();
    let options = InboxOptions::new("tests")
        .busy_timeout(Duration::from_millis(1))
        .tables(|connection| connection.execute_batch(EFFECTS));
    let service =
        InboxLayer::once(SqliteInbox::open(bench.path(), options).unwrap()).layer(Scripted(Script::default()));
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = take(&service, vec![event("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(take(&service, vec![event("a")]).await.unwrap(), [Applied::Applied]);
}

#[tokio::test]
async fn a_full_database_takes_nothing_and_goes_on_once_there_is_room() {
    let bench = Bench::new();
    let options = InboxOptions::new("tests").tables(|connection| {
        connection.execute_batch(EFFECTS)?;
        // A limit on the file's pages stands for a full disk: SQLite says the same.
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        connection.pragma_update(None, "max_page_count", pages)
    });
    let store = SqliteInbox::open(bench.path(), options).unwrap();
    let service =
        InboxLayer::once(store).layer(handler_fn(|tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
            let bulk = if event.id() == "big" { "x".repeat(100_000) } else { event.id().to_owned() };
            tx.execute("INSERT INTO effects (id) VALUES (?1)", [bulk])?;
            Ok(())
        }));
    let error = take(&service, vec![event("big")]).await.err();
    assert!(error.is_none_or(|error| error.kind().retry()));
    assert!(bench.effects().is_empty());
    assert_eq!(take(&service, vec![event("a")]).await.unwrap(), [Applied::Applied]);
}

#[tokio::test]
async fn a_kept_row_that_somebody_broke_is_in_nobodys_way() {
    let bench = Bench::new();
    let service = InboxLayer::in_order(bench.open()).layer(Scripted(Script::default()));
    let placed = |key: &str, sequence: u64| {
        let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
        let placing = Placing { place: Place::new(1, sequence, 0), count: 1, after };
        let new = NewEvent::builder("t").key(key).build().unwrap();
        let identity = Identity { source: &"/orders".into(), placing: Some(placing), recorded: None, fallback_id: "" };
        let event = Event::from_new(new, identity).unwrap();
        let envelope = outbox::cloudevents::Envelope { gapless: true, replay: None };
        outbox::cloudevents::json::decode(&outbox::cloudevents::json::encode(&event, envelope)).unwrap()
    };
    take(&service, vec![placed("a", 2), placed("b", 2)]).await.unwrap();
    let file = Connection::open(bench.path()).unwrap();
    file.execute("UPDATE outbox_inbox_kept SET message = x'00ff' WHERE lane = 'k:a'", []).unwrap();
    take(&service, vec![placed("a", 1), placed("b", 1)]).await.unwrap();
    service.sweep().await.unwrap();
    assert_eq!(bench.effects(), ["a@1.1.0", "b@1.1.0", "b@1.2.0"]);
    assert_eq!(service.operator().totals().await.unwrap().parked, 1);
}

#[tokio::test]
async fn what_was_committed_survives_the_loss_of_the_process() {
    // The file as a crash leaves it: copied, WAL and all, while the consumer still has it open.
    let (bench, crashed) = (Bench::new(), Bench::new());
    let service = InboxLayer::once(bench.open()).layer(Scripted(Script::default()));
    take(&service, vec![event("a")]).await.unwrap();
    for name in ["consumer.db", "consumer.db-wal"] {
        std::fs::copy(bench.0.path().join(name), crashed.0.path().join(name)).unwrap();
    }
    let again = InboxLayer::once(crashed.open()).layer(Scripted(Script::default()));
    assert_eq!(take(&again, vec![event("a")]).await.unwrap(), [Applied::Duplicate]);
    assert_eq!(crashed.effects(), ["a"]);
}

#[test]
fn a_handle_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    let bench = Bench::new();
    shared(&bench.open());
    shared(&InboxLayer::once(bench.open()).layer(Scripted(Script::default())));
}
