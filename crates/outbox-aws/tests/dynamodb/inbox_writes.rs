//! The inbox, where it is DynamoDB's own: what one transaction takes, whose condition failed, lost answers, expiry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, TransactWriteItem, Update},
};
use outbox::{
    Clock as _, ErrorKind, Event, Key, NewEvent, Place, Placing, StoreError, System,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{Answer, Applied, Chosen, InboxLayer, InboxService, Incoming},
};
use outbox_aws::{
    dynamodb::{DynamoInbox, Effect, HandlerFn, InboxOptions, handler_fn},
    testing::proxy::{Fault, Proxy},
};
use tower::Layer;

use crate::{
    inbox_store::{Bench, wait},
    server,
};

fn made(new: NewEvent, placing: Option<Placing>) -> Event {
    let identity = Identity { source: &"/orders".into(), placing, recorded: None, fallback_id: "fallback" };
    let event = Event::from_new(new, identity).unwrap();
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
}

fn keyless(id: &str) -> Event {
    made(NewEvent::builder("sample").id(id).json("x").build().unwrap(), None)
}

fn order(key: &str, sequence: u64) -> Event {
    sized(key, sequence, 1)
}

fn sized(key: &str, sequence: u64, bytes: usize) -> Event {
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    let placing = Placing { place: Place::new(1, sequence, 0), count: 1, after };
    let new = NewEvent::builder("order.placed").key(key).bytes("text/plain", vec![b'x'; bytes]);
    made(new.build().unwrap(), Some(placing))
}

fn incoming(events: impl IntoIterator<Item = Event>) -> Vec<Incoming> {
    events.into_iter().map(Incoming::Event).collect()
}

/// Adds one to a counter of the effects' table.
fn add_one(table: &str, counter: &str) -> TransactWriteItem {
    add_one_if(table, counter, None)
}

/// The same, on a condition that never holds.
fn add_one_never(table: &str, counter: &str) -> TransactWriteItem {
    add_one_if(table, counter, Some("attribute_exists(nothing)"))
}

fn add_one_if(table: &str, counter: &str, condition: Option<&str>) -> TransactWriteItem {
    let update = Update::builder().table_name(table).key("id", AttributeValue::S(counter.to_owned()));
    let update = update.update_expression("ADD applied :one").set_condition_expression(condition.map(str::to_owned));
    let update = update.expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
    TransactWriteItem::builder().update(update.build().unwrap()).build()
}

async fn counted(bench: &Bench, counter: &str) -> u32 {
    let get = bench.client.get_item().table_name(&bench.effects).key("id", AttributeValue::S(counter.to_owned()));
    let item = get.consistent_read(true).send().await.unwrap().item;
    item.map_or(0, |item| item["applied"].as_n().unwrap().parse().unwrap())
}

fn opened(bench: &Bench, client: &Client) -> DynamoInbox {
    DynamoInbox::open(client, &bench.inboxes, "tests", InboxOptions::default()).unwrap()
}

/// An inbox whose handler does what `acts` says.
fn service<A: Into<Answer> + 'static>(
    layer: &InboxLayer<DynamoInbox>,
    acts: impl Fn(&mut Effect, &Event) -> A + Send + Sync + 'static,
) -> InboxService<DynamoInbox, HandlerFn<impl AsyncFn(&mut Effect, &Event) -> A + Send + Sync + 'static>> {
    layer.layer(handler_fn(async move |effect: &mut Effect, event: &Event| acts(effect, event)))
}

async fn proxied() -> (Proxy, Client) {
    let proxy = Proxy::before(server::emulator().unwrap()).await;
    let client = server::client_at(Some(proxy.url())).await;
    (proxy, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_events_that_change_one_item_are_applied_one_after_the_other() {
    let bench = Bench::new();
    let table = bench.effects.clone();
    let inbox = InboxLayer::in_order(opened(&bench, &bench.client));
    let inbox = service(&inbox, move |effect, _| effect.action(add_one(&table, "all")));
    let applied = inbox.apply(incoming((1..=7).map(|sequence| order("a", sequence)))).await.unwrap();
    assert_eq!(applied, vec![Applied::Applied; 7]);
    assert_eq!(counted(&bench, "all").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_events_that_change_one_item_are_drained_one_after_the_other() {
    let bench = Bench::new();
    let table = bench.effects.clone();
    let inbox = InboxLayer::in_order(opened(&bench, &bench.client));
    let inbox = service(&inbox, move |effect, _| effect.action(add_one(&table, "all")));
    inbox.apply(incoming((2..=6).map(|sequence| order("a", sequence)))).await.unwrap();
    inbox.apply(incoming([order("a", 1)])).await.unwrap();
    inbox.sweep().await.unwrap();
    assert_eq!(counted(&bench, "all").await, 6);
    assert_eq!(inbox.operator().totals().await.unwrap().lanes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_more_than_a_transaction_takes_is_applied_in_parts() {
    let Some(_) = server::emulator() else { return };
    let (bench, (proxy, client)) = (Bench::new(), proxied().await);
    let table = bench.effects.clone();
    let inbox = InboxLayer::once(opened(&bench, &client));
    let inbox = service(&inbox, move |effect, event| effect.action(add_one(&table, event.id())));
    let ids: Vec<_> = (0..120).map(|number| format!("event-{number}")).collect();
    let applied = inbox.apply(incoming(ids.iter().map(|id| keyless(id)))).await.unwrap();
    assert_eq!(applied, vec![Applied::Applied; 120]);
    for id in &ids {
        assert_eq!(counted(&bench, id).await, 1, "{id}");
    }
    let sizes: Vec<_> = proxy
        .calls("TransactWriteItems")
        .iter()
        .map(|call| call.body["TransactItems"].as_array().unwrap().len())
        .collect();
    assert!(sizes.iter().all(|size| *size <= 100) && sizes.iter().any(|size| *size > 50), "{sizes:?}");
    assert_eq!(inbox.operator().totals().await.unwrap().counts.applied, 120);
}

/// Of one batch all but `bad` are applied, which is tried again later, for a reason that holds `word`.
async fn only_the_bad_one_fails(word: &str, act: impl Fn(&str, &mut Effect) + Send + Sync + 'static) {
    let bench = Bench::new();
    let table = bench.effects.clone();
    let inbox = InboxLayer::once(opened(&bench, &bench.client));
    let inbox = service(&inbox, move |effect, event| match event.id() {
        "bad" => act(&table, effect),
        id => effect.action(add_one(&table, id)),
    });
    let applied = inbox.apply(incoming(["a", "bad", "b"].map(keyless))).await.unwrap();
    let Applied::Retrying { reason, attempts: 1, .. } = &applied[1] else { panic!("{applied:?}") };
    assert!(reason.contains(word), "{reason}");
    assert_eq!((&applied[0], &applied[2]), (&Applied::Applied, &Applied::Applied));
    assert_eq!((counted(&bench, "a").await, counted(&bench, "bad").await, counted(&bench, "b").await), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_does_more_than_a_transaction_takes_is_tried_later() {
    only_the_bad_one_fails("DynamoDB takes 100", |table, effect| {
        (0..100).for_each(|number| effect.action(add_one(table, &format!("bad-{number}"))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handlers_condition_never_holds_is_tried_later() {
    only_the_bad_one_fails("condition", |table, effect| effect.action(add_one_never(table, "bad"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handlers_action_makes_no_sense_is_tried_later() {
    let Some(_) = server::emulator() else { return };
    let (bench, (proxy, client)) = (Bench::new(), proxied().await);
    // DynamoDB refuses the transaction as a whole, and does not say for whose sake.
    proxy.rule("TransactWriteItems", |call| {
        if call.body.to_string().contains("nonsense") { Fault::error("ValidationException") } else { Fault::Pass }
    });
    let table = bench.effects.clone();
    let inbox = InboxLayer::once(opened(&bench, &client));
    let inbox = service(&inbox, move |effect, event| match event.id() {
        "bad" => effect.action(add_one(&table, "nonsense")),
        id => effect.action(add_one(&table, id)),
    });
    let applied = inbox.apply(incoming(["a", "bad", "b"].map(keyless))).await.unwrap();
    let Applied::Retrying { reason, attempts: 1, .. } = &applied[1] else { panic!("{applied:?}") };
    assert!(reason.contains("ValidationException"), "{reason}");
    assert_eq!((&applied[0], &applied[2]), (&Applied::Applied, &Applied::Applied));
    assert_eq!((counted(&bench, "a").await, counted(&bench, "b").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_writes_to_a_missing_table_condemns_no_event() {
    let bench = Bench::new();
    let inbox = InboxLayer::once(opened(&bench, &bench.client));
    let inbox = service(&inbox, |effect, event| effect.action(add_one("outbox-test-nowhere", event.id())));
    let error = inbox.apply(incoming([keyless("a")])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert_eq!(inbox.operator().totals().await.unwrap().lanes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_puts_too_large_an_item_is_tried_later() {
    only_the_bad_one_fails("of an item", |table, effect| {
        let put = aws_sdk_dynamodb::types::Put::builder().table_name(table);
        let put = put.item("id", AttributeValue::S("bad".to_owned()));
        let put = put.item("data", AttributeValue::S("x".repeat(410 * 1024))).build().unwrap();
        effect.action(TransactWriteItem::builder().put(put).build());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_condition_failed_is_asked_anew() {
    let bench = Bench::new();
    let (table, asked) = (bench.effects.clone(), Arc::new(AtomicU32::new(0)));
    let inbox = InboxLayer::in_order(opened(&bench, &bench.client));
    let asks = asked.clone();
    let inbox = service(&inbox, move |effect, _| {
        let first = asks.fetch_add(1, Ordering::SeqCst) == 0;
        effect.action(if first { add_one_never(&table, "a") } else { add_one(&table, "a") });
    });
    assert_eq!(inbox.apply(incoming([order("a", 1)])).await.unwrap(), [Applied::Applied]);
    assert_eq!((asked.load(Ordering::SeqCst), counted(&bench, "a").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    let Some(_) = server::emulator() else { return };
    let (bench, (proxy, client)) = (Bench::new(), proxied().await);
    let table = bench.effects.clone();
    let inbox = InboxLayer::in_order(opened(&bench, &client));
    let inbox = service(&inbox, move |effect, _| effect.action(add_one(&table, "a")));
    inbox.apply(incoming([order("a", 1)])).await.unwrap();
    proxy.script("TransactWriteItems", [Fault::LoseAnswer, Fault::error("InternalServerError")]);
    assert_eq!(inbox.apply(incoming([order("a", 2)])).await.unwrap(), [Applied::Applied]);
    assert_eq!(counted(&bench, "a").await, 2);
    assert_eq!(inbox.operator().totals().await.unwrap().counts.applied, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_meets_another_is_made_again() {
    let Some(_) = server::emulator() else { return };
    let (bench, (proxy, client)) = (Bench::new(), proxied().await);
    let table = bench.effects.clone();
    let inbox = InboxLayer::in_order(opened(&bench, &client));
    let inbox = service(&inbox, move |effect, _| effect.action(add_one(&table, "a")));
    inbox.apply(incoming([order("a", 1)])).await.unwrap();
    let before = proxy.calls("TransactWriteItems").len();
    proxy.script(
        "TransactWriteItems",
        [Fault::cancelled(&["None", "TransactionConflict"]), Fault::error("ThrottlingException")],
    );
    assert_eq!(inbox.apply(incoming([order("a", 2)])).await.unwrap(), [Applied::Applied]);
    assert_eq!(proxy.calls("TransactWriteItems").len(), before + 3);
    assert_eq!(counted(&bench, "a").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_not_stranded_by_a_cause_without_a_key_that_is_done_with_while_it_begins_to_wait() {
    let Some(_) = server::emulator() else { return };
    let bench = Bench::new();
    let (proxy, client) = proxied().await;
    let (fails, clock) = (Arc::new(AtomicBool::new(true)), Arc::new(outbox::memory::ManualClock::default()));
    let layers = [&bench.client, &client].map(|client| {
        InboxLayer::after_cause(opened(&bench, client), ["/orders"], Duration::from_mins(1)).clock(clock.clone())
    });
    let [causes, effects] = layers.each_ref().map(|layer| {
        let (table, fails) = (bench.effects.clone(), fails.clone());
        service(layer, move |effect, event| {
            effect.action(add_one(&table, event.id()));
            let fails = event.id() == "failed" && fails.load(Ordering::SeqCst);
            if fails { Answer::retry("not now") } else { Answer::Done }
        })
    });
    // One that is kept, and one that was never seen.
    causes.apply(incoming([keyless("failed")])).await.unwrap();
    effects.apply(incoming([keyless("first")])).await.unwrap();
    for cause in ["failed", "unseen"] {
        let effect = NewEvent::builder("sample").id(format!("of {cause}")).caused_by(&keyless(cause)).build().unwrap();
        let effect = made(effect, None);
        let held = proxy.hold("TransactWriteItems");
        let ((), applied) = tokio::join!(
            async {
                held.arrived().await;
                fails.store(false, Ordering::SeqCst);
                clock.advance(Duration::from_hours(1));
                causes.apply(incoming([keyless(cause)])).await.unwrap();
                causes.sweep().await.unwrap();
                held.release();
            },
            effects.apply(incoming([effect]))
        );
        assert_eq!(applied.unwrap(), [Applied::Applied], "it looked again, and saw `{cause}`");
        assert_eq!((counted(&bench, cause).await, counted(&bench, &format!("of {cause}")).await), (1, 1));
    }
    assert_eq!(effects.operator().totals().await.unwrap().lanes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_table_acknowledges_nothing() {
    let Some(_) = server::emulator() else { return };
    let (bench, (proxy, client)) = (Bench::new(), proxied().await);
    let options = InboxOptions { patience: std::time::Duration::from_millis(300), ..InboxOptions::default() };
    let inbox = DynamoInbox::open(&client, &bench.inboxes, "tests", options).unwrap();
    let inbox = service(&InboxLayer::once(inbox), |_, _| ());
    inbox.apply(incoming([keyless("a")])).await.unwrap();
    proxy.script("TransactWriteItems", (0..50).map(|_| Fault::error("InternalServerError")));
    let error = inbox.apply(incoming([keyless("b")])).await.unwrap_err();
    assert!(error.kind().retry() && error.is_uncertain(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_event_larger_than_an_item_comes_back_whole() {
    let bench = Bench::new();
    let willing = Arc::new(AtomicBool::new(false));
    let wills = willing.clone();
    let inbox = InboxLayer::in_order(opened(&bench, &bench.client));
    let inbox = service(&inbox, move |_, event| {
        if !wills.load(Ordering::SeqCst) {
            return Answer::give_up("not yet");
        }
        assert_eq!(event.data().map(bytes::Bytes::len), Some(1_000_000));
        Answer::Done
    });
    let applied = inbox.apply(incoming([sized("a", 1, 1_000_000)])).await.unwrap();
    assert!(matches!(applied[..], [Applied::DeadLetter { .. }]), "{applied:?}");
    let operator = inbox.operator();
    let letter = operator.dead_letters(&Chosen::default(), 10).await.unwrap().remove(0);
    let shown = operator.show(letter.first.id).await.unwrap().unwrap();
    assert_eq!(shown, letter);
    assert_eq!(operator.redrive(&Chosen::default()).await.unwrap(), 1);
    willing.store(true, Ordering::SeqCst);
    inbox.sweep().await.unwrap();
    let totals = operator.totals().await.unwrap();
    assert_eq!((totals.lanes, totals.marks, totals.counts.applied), (0, 1, 1));
    let left = bench.client.scan().table_name(&bench.inboxes).consistent_read(true).send().await.unwrap();
    let parts =
        |prefix: &str| left.items().iter().filter(|item| item["part"].as_s().unwrap().starts_with(prefix)).count();
    assert_eq!((parts("kept/"), parts("rest/")), (0, 0), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_more_kept_events_than_a_transaction_takes_is_erased() {
    let bench = Bench::new();
    let inbox = service(&InboxLayer::in_order(opened(&bench, &bench.client)), |_, _| ());
    inbox.apply(incoming((2..=150).map(|sequence| order("a", sequence)))).await.unwrap();
    let operator = inbox.operator();
    assert_eq!(operator.totals().await.unwrap().parked, 149);
    assert_eq!(operator.erase(None, &Key::new("a").unwrap()).await.unwrap(), 1);
    let totals = operator.totals().await.unwrap();
    assert_eq!((totals.lanes, totals.parked, totals.counts.applied), (0, 0, 0));
    assert_eq!(inbox.apply(incoming([order("a", 151)])).await.unwrap(), [Applied::Applied], "its mark moved past them");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_expires_in_seconds_and_only_once_its_event_is_done_with() {
    let bench = Bench::new();
    let inbox = service(&InboxLayer::once(opened(&bench, &bench.client)), |_, event: &Event| match event.id() {
        "bad" => Answer::give_up("never"),
        _ => Answer::Done,
    });
    inbox.apply(incoming(["good", "bad"].map(keyless))).await.unwrap();
    let items = bench.client.scan().table_name(&bench.inboxes).consistent_read(true).send().await.unwrap();
    let item = |id: &str| {
        let name = format!("tests/event//orders {id}");
        items.items().iter().find(|item| item["id"].as_s().unwrap() == &name).unwrap().clone()
    };
    let expires: i64 = item("good")["expires_at"].as_n().unwrap().parse().unwrap();
    let days = (expires - System.wall().as_second()) / 86_400;
    assert!((1..=400).contains(&days), "{expires} is no time in seconds some days ahead");
    assert!(!item("bad").contains_key("expires_at"), "a dead letter's id does not expire");
    let ttl = bench.client.describe_time_to_live().table_name(&bench.inboxes).send().await.unwrap();
    assert_eq!(ttl.time_to_live_description.unwrap().attribute_name.as_deref(), Some("expires_at"));
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_taken_for_granted_cost_no_read_and_lose_no_order() {
    let Some(_) = server::emulator() else { return };
    let (bench, (proxy, client)) = (Bench::new(), proxied().await);
    let table = bench.effects.clone();
    let options = InboxOptions { takes_marks_for_granted: true, ..InboxOptions::default() };
    let inbox = DynamoInbox::open(&client, &bench.inboxes, "tests", options).unwrap();
    let inbox = service(&InboxLayer::in_order(inbox), move |effect, event| effect.action(add_one(&table, event.id())));
    inbox.apply(incoming([order("a", 1)])).await.unwrap();
    let reads = || proxy.calls("GetItem").len() + proxy.calls("BatchGetItem").len() + proxy.calls("Query").len();
    let before = reads();
    assert_eq!(
        inbox.apply(incoming([order("a", 2), order("b", 1)])).await.unwrap(),
        [Applied::Applied, Applied::Applied]
    );
    assert_eq!(reads(), before);
    let applied = inbox.apply(incoming([order("a", 2), order("a", 4)])).await.unwrap();
    assert!(matches!(applied[..], [Applied::Duplicate, Applied::Parked(_)]), "{applied:?}");
    assert_eq!(inbox.apply(incoming([order("a", 3)])).await.unwrap(), [Applied::Applied]);
    for sequence in 1..=4 {
        assert_eq!(counted(&bench, &format!("a@1.{sequence}.0")).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inboxes_of_one_table_are_apart() {
    let bench = Bench::new();
    let options = InboxOptions::default();
    DynamoInbox::init(&bench.client, &bench.inboxes, "mails", &options).await.unwrap();
    assert_eq!(DynamoInbox::consumers(&bench.client, &bench.inboxes, &options).await.unwrap(), ["mails", "tests"]);
    for consumer in ["tests", "mails"] {
        let inbox = DynamoInbox::open(&bench.client, &bench.inboxes, consumer, options.clone()).unwrap();
        let inbox = service(&InboxLayer::in_order(inbox), |_, _| ());
        assert_eq!(inbox.apply(incoming([order("a", 1)])).await.unwrap(), [Applied::Applied], "{consumer}");
        assert_eq!(inbox.operator().totals().await.unwrap().marks, 1, "{consumer}");
    }
}

fn kind_and_text(error: &StoreError) -> (ErrorKind, String) {
    (error.kind(), error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_not_there_is_said_with_the_remedy() {
    let bench = Bench::new();
    let options = InboxOptions::default();
    let inbox = DynamoInbox::open(&bench.client, &bench.inboxes, "others", options.clone()).unwrap();
    let error = service(&InboxLayer::once(inbox), |_, _| ()).apply(incoming([keyless("a")])).await.unwrap_err();
    let (kind, text) = kind_and_text(&error);
    assert!(kind == ErrorKind::Invalid && text.contains("`others`") && text.contains("init"), "{text}");
    let inbox = DynamoInbox::open(&bench.client, "outbox-test-nowhere", "tests", options.clone()).unwrap();
    let error = service(&InboxLayer::once(inbox), |_, _| ()).apply(incoming([keyless("a")])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    let Err(error) = DynamoInbox::open(&bench.client, &bench.inboxes, "a/b", options) else { panic!("opened") };
    let (kind, text) = kind_and_text(&error);
    assert!(kind == ErrorKind::Invalid && text.starts_with("consumer:"), "{text}");
}

#[test]
fn an_inbox_ends_with_its_last_handle_and_begins_again() {
    let bench = Bench::new();
    for sequence in 1..=3 {
        let (inboxes, event) = (bench.inboxes.clone(), order("a", sequence));
        // Each on a runtime that ends: nothing of it is used by the next.
        let applied = wait(async move {
            let client = server::client().await;
            let inbox = DynamoInbox::open(&client, &inboxes, "tests", InboxOptions::default()).unwrap();
            service(&InboxLayer::in_order(inbox), |_, _| ()).apply(incoming([event])).await.unwrap()
        });
        assert_eq!(applied, [Applied::Applied]);
    }
}
