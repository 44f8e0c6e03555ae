//! A kept event whose attempt ends the transaction, met by events that arrive.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{in_turn::placed, *};

/// An inbox in which `a@1.1.0` failed once and is due, and from then on ends every transaction that tries it.
async fn with_a_due_culprit(bench: &Bench) -> InboxService<SqliteInbox, impl for<'t> Handler<SqliteTx<'t>> + use<>> {
    let clock = Arc::new(outbox::memory::ManualClock::default());
    let first = Arc::new(AtomicBool::new(true));
    let fails = first.clone();
    let handler = handler_fn(move |tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
        let culprit = event.id() == "a@1.1.0";
        if culprit && fails.load(Ordering::Relaxed) {
            return tx.execute_batch("SELECT 1 FROM no_such_table");
        }
        tx.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()])?;
        if culprit { tx.execute_batch("ROLLBACK") } else { Ok(()) }
    });
    let service = InboxLayer::in_order(bench.open()).clock(clock.clone()).layer(handler);
    take(&service, vec![placed("a", 1)]).await.unwrap();
    first.store(false, Ordering::Relaxed);
    clock.advance(Duration::from_secs(60));
    service
}

#[tokio::test]
async fn an_event_of_a_due_culprits_key_does_not_overtake_it_and_takes_no_other_with_it() {
    let bench = Bench::new();
    let service = with_a_due_culprit(&bench).await;
    let applied = take(&service, vec![placed("a", 2), placed("b", 1)]).await.unwrap();
    let outcomes: Vec<_> = applied.iter().map(Applied::name).collect();
    assert_eq!(outcomes, ["parked", "applied"]);
    assert_eq!(bench.effects(), ["b@1.1.0"]);
}

#[tokio::test]
async fn a_culprit_that_its_predecessor_makes_ready_takes_no_arrival_with_it() {
    let bench = Bench::new();
    let handler = handler_fn(|tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
        tx.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()])?;
        if event.id() == "a@1.2.0" { tx.execute_batch("ROLLBACK") } else { Ok(()) }
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    assert_eq!(take(&service, vec![placed("a", 2)]).await.unwrap()[0].name(), "parked");
    assert_eq!(take(&service, vec![placed("a", 1), placed("b", 1)]).await.unwrap(), [const { Applied::Applied }; 2]);
    service.sweep().await.unwrap();
    assert_eq!(bench.effects(), ["a@1.1.0", "b@1.1.0"]);
    assert_eq!(service.operator().totals().await.unwrap().retrying, 1);
}

#[tokio::test]
async fn what_follows_a_handler_that_ended_the_transaction_is_not_written_by_itself() {
    let bench = Bench::new();
    let handler = handler_fn(|tx: &Transaction<'_>, event: &Event| -> rusqlite::Result<()> {
        tx.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()])?;
        if event.id() == "a@1.1.0" { tx.execute_batch("ROLLBACK") } else { Ok(()) }
    });
    let service = InboxLayer::in_order(bench.open()).layer(handler);
    take(&service, vec![placed("a", 1), placed("b", 1)]).await.unwrap_err();
    assert!(bench.effects().is_empty());
}
