//! Keys whose events come in turn, which are moved on without being loaded.

use outbox::{
    Key, Lane,
    inbox::Kinds,
    inbox_store::{Abort, InboxTx, Isolation, LaneId, LaneStep},
};

use super::*;

fn place(sequence: u64) -> Place {
    Place::new(1, sequence, 0)
}

/// The only event of entry `sequence` of a key, from a gapless route.
fn made(kind: &str, source: &str, key: &str, sequence: u64) -> Event {
    let after = if sequence > 1 { place(sequence - 1) } else { Place::ORIGIN };
    let placing = Placing { place: place(sequence), count: 1, after };
    let new = NewEvent::builder(kind).key(key).build().unwrap();
    let identity = Identity { source: &source.into(), placing: Some(placing), recorded: None, fallback_id: "" };
    let event = Event::from_new(new, identity).unwrap();
    let envelope = outbox::cloudevents::Envelope { gapless: true, replay: None };
    outbox::cloudevents::json::decode(&outbox::cloudevents::json::encode(&event, envelope)).unwrap()
}

pub(super) fn placed(key: &str, sequence: u64) -> Event {
    made("t", "/orders", key, sequence)
}

/// Asks the store to move lanes of `/orders` on.
struct Advance(Vec<(&'static str, Place, Place)>);

impl Job<SqliteTx<'_>> for Advance {
    type Output = Vec<bool>;

    async fn run(&mut self, tx: &mut SqliteTx<'_>, _: Isolation) -> Result<Vec<bool>, Abort> {
        let lane = |key| LaneId { producer: "/orders".into(), lane: Lane::Key(Key::new(key).unwrap()) };
        let lanes: Vec<_> = self.0.iter().map(|(key, ..)| lane(*key)).collect();
        let steps: Vec<_> =
            lanes.iter().zip(&self.0).map(|(lane, &(_, from, to))| LaneStep { lane, from, to }).collect();
        Ok(tx.advance(&steps).await?)
    }
}

#[tokio::test]
async fn only_a_key_that_stands_before_its_step_and_keeps_nothing_moves() {
    let bench = Bench::new();
    let (store, script) = (bench.open(), Script::default());
    let service = InboxLayer::in_order(store.clone()).layer(Scripted(script));
    // `a` stands at 1; `b` at 1, and keeps 3.
    take(&service, vec![placed("a", 1), placed("b", 1), placed("b", 3)]).await.unwrap();
    let steps = vec![
        ("a", Place::ORIGIN, place(1)),
        ("a", place(2), place(3)),
        ("a", place(1), place(2)),
        ("b", place(1), place(2)),
        ("new", Place::ORIGIN, place(1)),
    ];
    assert_eq!(store.transact(Advance(steps)).await.unwrap(), [false, false, true, false, true]);
    let again = vec![placed("a", 2), placed("a", 3), placed("new", 1), placed("new", 2)];
    let expected = [Applied::Duplicate, Applied::Applied, Applied::Duplicate, Applied::Applied];
    assert_eq!(take(&service, again).await.unwrap(), expected);
}

#[tokio::test]
async fn a_failure_takes_back_what_its_batch_moved_on() {
    let bench = Bench::new();
    let failing = handler_fn(|tx: &Transaction<'_>, event: &Event| {
        tx.execute("INSERT INTO effects (id) VALUES (?1)", [event.id()]).unwrap();
        if event.id() == "b@1.2.0" { Answer::give_up("no") } else { Answer::Done }
    });
    let service = InboxLayer::in_order(bench.open()).layer(failing);
    take(&service, vec![placed("a", 1), placed("b", 1), placed("c", 1)]).await.unwrap();
    let second = vec![placed("a", 2), placed("a", 3), placed("b", 2), placed("b", 3), placed("c", 2)];
    let outcomes: Vec<_> = take(&service, second).await.unwrap().iter().map(Applied::name).collect();
    assert_eq!(outcomes, ["applied", "applied", "dead_letter", "parked", "applied"]);
    assert_eq!(bench.effects()[3..], ["a@1.2.0", "a@1.3.0", "c@1.2.0"]);
    let totals = service.operator().totals().await.unwrap();
    assert_eq!((totals.counts.applied, totals.dead, totals.parked), (6, 1, 1));
}

#[tokio::test]
async fn two_producers_of_one_key_have_a_mark_each_in_one_batch() {
    let bench = Bench::new();
    let service = InboxLayer::in_order(bench.open()).layer(Scripted(Script::default()));
    let of = |source: &'static str| move |sequence| made("t", source, "a", sequence);
    take(&service, vec![of("/orders")(1), of("/bills")(1)]).await.unwrap();
    let mixed = (2..5).flat_map(|sequence| [of("/orders")(sequence), of("/bills")(sequence)]).collect();
    assert_eq!(take(&service, mixed).await.unwrap(), [const { Applied::Applied }; 6]);
    for source in ["/orders", "/bills"] {
        assert_eq!(take(&service, vec![of(source)(4), of(source)(5)]).await.unwrap()[0], Applied::Duplicate);
    }
}

#[tokio::test]
async fn a_change_after_a_removal_is_ignored_in_its_turn() {
    let bench = Bench::new();
    let kinds =
        Kinds { change: ["change".to_owned()].into(), remove: ["remove".to_owned()].into(), ..Kinds::default() };
    let service = InboxLayer::in_order(bench.open()).kinds(kinds).layer(Scripted(Script::default()));
    let event = |kind, sequence| made(kind, "/orders", "a", sequence);
    take(&service, vec![event("t", 1), event("remove", 2)]).await.unwrap();
    let applied = take(&service, vec![event("t", 3), event("change", 4)]).await.unwrap();
    assert_eq!(applied, [Applied::Applied, Applied::Ignored]);
    assert_eq!(take(&service, vec![event("t", 5)]).await.unwrap(), [Applied::Applied]);
    assert_eq!(take(&service, vec![event("change", 6)]).await.unwrap(), [Applied::Ignored]);
}

#[tokio::test]
async fn a_mark_with_a_life_that_is_none_is_an_error_that_names_the_column() {
    let bench = Bench::new();
    let service = InboxLayer::in_order(bench.open()).layer(Scripted(Script::default()));
    take(&service, vec![placed("a", 1)]).await.unwrap();
    Connection::open(bench.path()).unwrap().execute("UPDATE outbox_inbox_marks SET life = 7", []).unwrap();
    let error = take(&service, vec![placed("a", 3)]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("`life`"), "{error}");
}
