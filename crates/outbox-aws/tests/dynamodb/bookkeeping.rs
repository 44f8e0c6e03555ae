//! The suites that every bookkeeping passes, and what is DynamoDB's own: events larger than an item, more than one
//! transaction takes, what is swept.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use jiff::{SignedDuration, Timestamp};
use outbox::{
    Bookkeeping, Clock as _, ErrorKind, Event, Key, Lane, NewEvent, Operator, PartitionId, Place, Placing, Position,
    RouteName, System,
    bookkeeping::{
        Checkpoint, Front, FrontState, Keep, KeepOutcome, KeptContent, Lease, Selector, SettleOutcome, Settlement,
    },
    event::Identity,
    testing::{BookkeepingUnderTest, conformance},
};
use outbox_aws::{
    dynamodb::{BookkeepingOptions, DynamoBookkeeping},
    iam::Role,
};

use crate::{
    fixture::{make_table, unused_prefix},
    proxy::{Fault, Proxy},
    rights::client_as,
    server,
};

/// A bookkeeping that nobody else uses.
pub(crate) struct Books {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl Books {
    pub(crate) async fn new() -> Self {
        let (client, table) = (server::client().await, format!("{}-books", unused_prefix()));
        DynamoBookkeeping::init(&client_as(Role::Init).await, &table, &BookkeepingOptions::default()).await.unwrap();
        Self { client, table }
    }

    pub(crate) async fn opened(&self) -> DynamoBookkeeping {
        self.opened_by(&client_as(Role::Relay).await).await
    }

    pub(crate) async fn opened_by(&self, client: &Client) -> DynamoBookkeeping {
        let options = BookkeepingOptions { patience: Duration::from_secs(20), ..BookkeepingOptions::default() };
        DynamoBookkeeping::open(client, &self.table, options).await.unwrap()
    }

    /// How many rows of a kind there are, a kind's beginning included.
    pub(crate) async fn rows(&self, kind: &str) -> usize {
        let (mut found, mut from) = (0, None);
        loop {
            let scan = self.client.scan().table_name(&self.table).consistent_read(true);
            let page = scan.set_exclusive_start_key(from).send().await.unwrap();
            found += page.items().iter().filter(|row| row["kind"].as_s().unwrap().starts_with(kind)).count();
            from = page.last_evaluated_key;
            if from.is_none() {
                return found;
            }
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        server::drop_tables(vec![self.table.clone()]);
    }
}

#[async_trait]
impl BookkeepingUnderTest for Books {
    async fn open(&self) -> Arc<dyn Operator> {
        Arc::new(self.opened().await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms() {
    conformance::bookkeeping::all(Books::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bookkeeping_conforms_for_operators() {
    conformance::operator::all(Books::new).await;
}

/// Two who share nothing but the table, at the same key: one releases it while the other parks behind it. Functions do it as
/// processes, in their own suite.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_release_and_park_at_once_strand_nothing() {
    let fresh = Books::new().await;
    let (one, other) = (fresh.opened().await, fresh.opened().await);
    let lease = take(&one).await;
    for round in 0..25 {
        let generation = keep_it(&one, &lease, &keep(2 * round + 1..=2 * round + 1, 10)).await;
        let done = settlement(&one, generation, 1).await;
        let park = Keep { front: None, ..keep(2 * round + 2..=2 * round + 2, 10) };
        let (at_route, at_partition) = (route(), partition());
        let (settled, kept) =
            tokio::join!(one.settle(&lease, &at_route, &done), other.keep(&lease, &at_route, &at_partition, &park));
        let left = contents(&one).await;
        match (settled.unwrap(), kept.unwrap()) {
            (SettleOutcome::Left(1), KeepOutcome::Stored { generation }) => {
                assert_eq!(left, expected(&park));
                let rest = settlement(&other, generation, 1).await;
                assert_eq!(other.settle(&lease, &route(), &rest).await.unwrap(), SettleOutcome::Released);
            }
            (SettleOutcome::Released, KeepOutcome::KeyFree) => assert_eq!(left, []),
            both => panic!("{both:?} contradict each other"),
        }
    }
}

/// An operator who read a lane before it was released and came into trouble again changes nothing of the later trouble.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_late_change_does_not_touch_the_next_trouble() {
    let Some(endpoint) = server::emulator() else { return };
    let fresh = Books::new().await;
    let proxy = Proxy::before(endpoint).await;
    let (relay, operator) = (fresh.opened().await, fresh.opened_by(&server::client_at(Some(proxy.url())).await).await);
    let lease = take(&relay).await;
    let generation = keep_it(&relay, &lease, &keep(1..=1, 10)).await;
    // What the operator read is held back on its way until the relay has done all of this.
    let held = proxy.hold("TransactWriteItems");
    let late = tokio::spawn(async move { operator.discard(&route(), &Selector::default(), "no longer wanted").await });
    held.arrived().await;
    let done = settlement(&relay, generation, 1).await;
    assert_eq!(relay.settle(&lease, &route(), &done).await.unwrap(), SettleOutcome::Released);
    let second = Keep { front: Some(front(FrontState::Retrying { due: Timestamp::UNIX_EPOCH })), ..keep(2..=2, 10) };
    keep_it(&relay, &lease, &second).await;
    held.release();
    assert_eq!(late.await.unwrap().unwrap(), 0);
    let trouble = relay.trouble(&route(), &lane()).await.unwrap().unwrap();
    assert!(matches!(trouble.front.state, FrontState::Retrying { .. }), "{trouble:?}");
    assert_eq!(contents(&relay).await, expected(&second));
}

/// A handle that remembers what a route was called does not write to it under its former name, and one that has stored a
/// checkpoint reads nothing before the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_was_renamed_meanwhile_begins_anew() {
    let Some(endpoint) = server::emulator() else { return };
    let fresh = Books::new().await;
    let proxy = Proxy::before(endpoint).await;
    let relay = fresh.opened_by(&server::client_at(Some(proxy.url())).await).await;
    let lease = take(&relay).await;
    let at = |number: u64| Checkpoint {
        partition: partition(),
        position: Position::new(number.to_string()),
        finished: false,
    };
    relay.checkpoint(&lease, &route(), &at(1), None).await.unwrap();
    let reads = proxy.calls("GetItem").len();
    relay.checkpoint(&lease, &route(), &at(2), None).await.unwrap();
    assert_eq!(proxy.calls("GetItem").len(), reads);
    let renamed = RouteName::new("books").unwrap();
    fresh.opened().await.rename_route(&route(), &renamed).await.unwrap();
    relay.checkpoint(&lease, &route(), &at(3), None).await.unwrap();
    assert_eq!(relay.checkpoints(&renamed).await.unwrap(), [at(2)]);
    assert_eq!(relay.checkpoints(&route()).await.unwrap(), [at(3)]);
}

pub(crate) fn route() -> RouteName {
    RouteName::new("ledger").unwrap()
}

pub(crate) fn lane() -> Lane {
    Lane::Key(Key::new("cart/1").unwrap())
}

pub(crate) fn partition() -> PartitionId {
    PartitionId::new("shard")
}

pub(crate) async fn take(books: &DynamoBookkeeping) -> Lease {
    let seen = books.lease("relay").await.unwrap();
    books.take("relay", &seen, "host", Duration::from_secs(10)).await.unwrap().unwrap()
}

/// Event `sequence` of a cart, with a payload of so many bytes, none of which is text.
fn event(sequence: u64, size: usize) -> Event {
    let payload: Vec<u8> = (0..size).map(|at| 0x80 | u8::try_from((at as u64 + sequence) % 128).unwrap()).collect();
    let new = NewEvent::builder("t").key("cart/1").bytes("application/octet-stream", payload).build().unwrap();
    let after = if sequence == 1 { Place::ORIGIN } else { Place::new(1, sequence - 1, 0) };
    let placing = Some(Placing { place: Place::new(1, sequence, 0), count: 1, after });
    let identity =
        Identity { source: &"/carts".into(), placing, recorded: Some(Timestamp::UNIX_EPOCH), fallback_id: "" };
    Event::from_new(new, identity).unwrap()
}

fn front(state: FrontState) -> Front {
    Front { state, attempts: 1, failed_since: Timestamp::UNIX_EPOCH, reason: "said no".to_owned() }
}

pub(crate) fn keep(sequences: std::ops::RangeInclusive<u64>, size: usize) -> Keep {
    let content = |sequence| (KeptContent::Event(event(sequence, size)), Position::new(format!("{sequence}")));
    Keep { lane: lane(), front: Some(front(FrontState::Dead)), events: sequences.map(content).collect() }
}

pub(crate) async fn keep_it(books: &DynamoBookkeeping, lease: &Lease, keep: &Keep) -> u64 {
    match books.keep(lease, &route(), &partition(), keep).await.unwrap() {
        KeepOutcome::Stored { generation } => generation,
        KeepOutcome::KeyFree => panic!("it opens a trouble"),
    }
}

pub(crate) async fn contents(books: &DynamoBookkeeping) -> Vec<KeptContent> {
    books.kept(&route(), &lane(), usize::MAX).await.unwrap().into_iter().map(|kept| kept.content).collect()
}

pub(crate) fn expected(keep: &Keep) -> Vec<KeptContent> {
    keep.events.iter().map(|(content, _)| content.clone()).collect()
}

pub(crate) async fn settlement(books: &DynamoBookkeeping, generation: u64, count: usize) -> Settlement {
    let kept = books.kept(&route(), &lane(), count).await.unwrap();
    let remove = kept.into_iter().map(|kept| kept.id).collect();
    Settlement { lane: lane(), generation, remove, apart: None, discarded: false, front: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_larger_than_an_item_are_kept_whole() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    // As JSON they are a third larger: one of two chunks, one of many, and a small one between.
    let mut large = keep(1..=1, 350_000);
    large.events.extend(keep(2..=2, 10).events);
    large.events.extend(keep(3..=3, 2_000_000).events);
    let generation = keep_it(&books, &lease, &large).await;
    assert_eq!(contents(&books).await, expected(&large));
    let first = settlement(&books, generation, 1).await;
    assert_eq!(books.settle(&lease, &route(), &first).await.unwrap(), SettleOutcome::Left(2));
    assert_eq!(contents(&books).await, expected(&large)[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_transaction_takes_is_kept_at_once_and_once() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    // 300 events are more than 100 actions, 6 MB more than 4.
    let many = keep(1..=300, 20_000);
    let generation = keep_it(&books, &lease, &many).await;
    assert_eq!(fresh.rows("staged").await, 0, "what was staged is kept");
    assert_eq!(keep_it(&books, &lease, &many).await, generation, "and again");
    assert_eq!(contents(&books).await, expected(&many));
    let some = settlement(&books, generation, 299).await;
    assert_eq!(books.settle(&lease, &route(), &some).await.unwrap(), SettleOutcome::Left(1));
    assert_eq!(contents(&books).await, expected(&many)[299..]);
    let rest = settlement(&books, generation, 1).await;
    assert_eq!(books.settle(&lease, &route(), &rest).await.unwrap(), SettleOutcome::Released);
    let left = (fresh.rows("kept").await, fresh.rows("content").await, fresh.rows("trouble").await);
    assert_eq!(left, (0, 0, 0), "nothing is left of it");
}

/// A bookkeeping with one kept event, and the contents of a batch that was never kept.
async fn staged_in_vain(fresh: &Books, batch: &Keep) -> (DynamoBookkeeping, Lease) {
    let proxy = Proxy::before(server::emulator().unwrap()).await;
    let books = fresh.opened_by(&server::client_at(Some(proxy.url())).await).await;
    let lease = take(&books).await;
    keep_it(&books, &lease, &keep(1..=1, 10)).await;
    // The contents are written, then the transaction is refused, and they cannot be deleted.
    proxy.rule("DeleteItem", |_| Fault::error("AccessDeniedException"));
    proxy.script("TransactWriteItems", [Fault::error("AccessDeniedException")]);
    let refused = books.keep(&lease, &route(), &partition(), batch).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotPermitted);
    assert_eq!(contents(&books).await.len(), 1, "nothing of it is seen");
    assert_eq!(fresh.rows("staged").await, 1, "(it was staged)");
    let staged = fresh.rows("content").await;
    assert!(staged > 10, "(in chunks: {staged})");
    (fresh.opened().await, lease)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_owner_staged_is_never_seen_and_swept_by_the_next() {
    let Some(_) = server::emulator() else { return };
    let (fresh, large) = (Books::new().await, keep(2..=30, 200_000));
    let (books, _) = staged_in_vain(&fresh, &large).await;
    let next = take(&books).await;
    assert_eq!((fresh.rows("staged").await, fresh.rows("content").await), (0, 1), "its next owner swept it");
    keep_it(&books, &next, &large).await;
    assert_eq!(contents(&books).await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_staged_of_those_who_share_a_lease_is_swept_once_it_is_old() {
    let Some(_) = server::emulator() else { return };
    let (fresh, large) = (Books::new().await, keep(2..=30, 200_000));
    let (books, lease) = staged_in_vain(&fresh, &large).await;
    let hour = SignedDuration::from_hours(1);
    books.sweep_staged(&lease.name, System.wall() - hour).await.unwrap();
    books.sweep_staged("another", System.wall() + hour).await.unwrap();
    assert_eq!(fresh.rows("staged").await, 1, "whoever staged it may be about to keep it");
    books.sweep_staged(&lease.name, System.wall() + hour).await.unwrap();
    assert_eq!((fresh.rows("staged").await, fresh.rows("content").await), (0, 1));
    keep_it(&books, &lease, &large).await;
    assert_eq!(contents(&books).await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_discarded_events_leave_a_tombstone_each() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    let generation = keep_it(&books, &lease, &keep(1..=130, 10)).await;
    let all = Settlement { discarded: true, ..settlement(&books, generation, 120).await };
    assert_eq!(books.settle(&lease, &route(), &all).await.unwrap(), SettleOutcome::Left(10));
    assert_eq!(books.tombstones(&route()).await.unwrap().len(), 120);
    assert_eq!(books.erase(&Key::new("cart/1").unwrap()).await.unwrap(), 10);
    let passed = books.tombstones(&route()).await.unwrap();
    assert_eq!(passed.len(), 130);
    books.forget_tombstones(&lease, &route(), &passed).await.unwrap();
    assert_eq!(books.tombstones(&route()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_dead_letters_are_redriven() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    for number in 0..101 {
        let lane = Lane::Event(format!("e{number}").into());
        let one = Keep { lane, ..keep(1..=1, 10) };
        books.keep(&lease, &route(), &partition(), &one).await.unwrap();
    }
    let redriven = books.redrive(&route(), &Selector::default(), Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(redriven, 101);
    let counts = books.kept_counts(&route()).await.unwrap();
    assert_eq!((counts.retrying, counts.dead, counts.lanes), (101, 0, 101));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_as_long_as_they_may_be_fit_a_row() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    for last in ["a", "b"] {
        let lane = Lane::Event(format!("{}{last}", "x".repeat(1023)).into());
        let one = Keep { lane: lane.clone(), ..keep(1..=1, 10) };
        books.keep(&lease, &route(), &partition(), &one).await.unwrap();
        assert_eq!(books.trouble(&route(), &lane).await.unwrap().unwrap().kept, 1);
    }
    assert_eq!(books.troubles(&route(), None, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_route_leaves_no_row() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    keep_it(&books, &lease, &keep(1..=3, 400_000)).await;
    books.forget_route(&route()).await.unwrap();
    let left = [fresh.rows("kept").await, fresh.rows("content").await, fresh.rows("trouble").await];
    assert_eq!(left, [0, 0, 0]);
    assert_eq!((fresh.rows("route").await, fresh.rows("forgotten").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_answer_was_lost_is_held() {
    let Some(endpoint) = server::emulator() else { return };
    let fresh = Books::new().await;
    let proxy = Proxy::before(endpoint).await;
    let books = fresh.opened_by(&server::client_at(Some(proxy.url())).await).await;
    proxy.script("UpdateItem", [Fault::LoseAnswer]);
    let lease = take(&books).await;
    assert_eq!(lease.epoch, 1);
    books.renew(&lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_and_lost_answers_of_a_fenced_write_are_tried_again() {
    let Some(endpoint) = server::emulator() else { return };
    let fresh = Books::new().await;
    let proxy = Proxy::before(endpoint).await;
    let books = fresh.opened_by(&server::client_at(Some(proxy.url())).await).await;
    let lease = take(&books).await;
    // The first names the route.
    let faults = [
        Fault::Pass,
        Fault::cancelled(&["TransactionConflict", "None", "None", "None"]),
        Fault::LoseAnswer,
        Fault::error("ThrottlingException"),
    ];
    proxy.script("TransactWriteItems", faults);
    keep_it(&books, &lease, &keep(1..=2, 10)).await;
    assert_eq!(contents(&books).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bookkeeping_is_said_with_the_remedy() {
    let client = server::client().await;
    let options = BookkeepingOptions::default;
    let missing = DynamoBookkeeping::open(&client, &format!("{}-books", unused_prefix()), options()).await;
    let error = missing.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("outbox init"), "{error}");
    let other = format!("{}-other", unused_prefix());
    make_table(&client, &other, "id").await;
    let error = DynamoBookkeeping::init(&client, &other, &options()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    server::drop_tables(vec![other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookkeeping_of_another_layout_is_refused() {
    let fresh = Books::new().await;
    let text = |value: &str| aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
    let update =
        fresh.client.update_item().table_name(&fresh.table).key("kind", text("meta")).key("name", text("identity"));
    let newer = aws_sdk_dynamodb::types::AttributeValue::N("2".to_owned());
    let update = update.update_expression("SET layout = :layout").expression_attribute_values(":layout", newer);
    update.send().await.unwrap();
    let error =
        DynamoBookkeeping::open(&fresh.client, &fresh.table, BookkeepingOptions::default()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("layout 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn making_it_again_keeps_its_id() {
    let fresh = Books::new().await;
    let id = fresh.opened().await.id().await.unwrap();
    DynamoBookkeeping::init(&fresh.client, &fresh.table, &BookkeepingOptions::default()).await.unwrap();
    assert_eq!(fresh.opened().await.id().await.unwrap(), id);
}
