//! The carts of real customers, with functions in the relay's place: each purchase of the history is created, added to and
//! checked out by `examples/carts` while forwarders are killed, batches come twice, the bus fails, and the keeper works beside;
//! and then the exact comparison. A few customers; with `OUTBOX_TEST_LONG=1` in the environment, 2,000.

mod purchases;
mod table_stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use carts::{Carts, Change, NewCart};
use outbox_aws::testing::proxy::Fault;
use serde_json::Value;
use tokio::task::JoinSet;

use self::{
    purchases::{Purchase, history},
    table_stream::TableStream,
};
use crate::{
    chaos::Keeping,
    mapping::payload,
    runtime::{Outcome, Sandbox},
    world::World,
};

/// Customers who buy at the same time.
const AT_ONCE: usize = 8;
/// What is done to a cart.
const CHANGES: usize = 3;
/// A function's timeout.
const TIME: Duration = Duration::from_secs(20);
/// How long nothing may come of the stream.
const PATIENCE: Duration = Duration::from_mins(1);
/// The largest batch of the mapping: so small that there are ten at the least.
const BATCH: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn the_carts_of_real_customers_arrive_exactly_by_functions_that_are_killed() {
    let is_long = std::env::var("OUTBOX_TEST_LONG").is_ok_and(|value| !value.is_empty() && value != "0");
    let purchases = history(if is_long { 2_000 } else { 40 });
    let world = Arc::new(World::new().await);
    let names = carts::Names::with_prefix(&world.prefix);
    carts::make_tables(world.client(), &names).await.unwrap();
    let asked = a_bus_that_fails(&world);
    let keeping = Keeping::beside(&world);
    let shopping = tokio::spawn(buy(Carts::new(world.client(), names), purchases.clone()));
    let harm = hand_in(&world, &asked, CHANGES * purchases.len()).await;
    shopping.await.unwrap();
    keeping.end(&world).await;
    let again = assert_exact(&world, &purchases);
    assert!(harm.killed > 0 && harm.twice > 0, "{harm:?}");
    // What a batch that is handed in again brings again at the most, and ten events of each answer that was lost.
    let most = BATCH * harm.handed_in_again() + 10 * asked.lost.load(Ordering::Relaxed);
    println!("{} purchases, {again} events more than once of at most {most}: {harm:?}", purchases.len());
    assert!(again <= most, "{again} events came again, and {most} may: {harm:?}");
}

/// Calls of the bus so far.
#[derive(Default)]
struct Asked {
    calls: AtomicUsize,
    /// Those whose answer was lost.
    lost: AtomicUsize,
}

/// Entries fail, whole calls fail and answers are lost, one in some.
fn a_bus_that_fails(world: &World) -> Arc<Asked> {
    let asked = Arc::new(Asked::default());
    let counted = asked.clone();
    world.bus.rule("PutEvents", move |_| {
        let calls = counted.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match calls {
            _ if calls.is_multiple_of(17) => Fault::entries([(0, "InternalFailure"), (2, "ThrottlingException")]),
            _ if calls.is_multiple_of(41) => {
                counted.lost.fetch_add(1, Ordering::Relaxed);
                Fault::LoseAnswer
            }
            _ if calls.is_multiple_of(53) => Fault::error("InternalException"),
            100..115 => Fault::error("ServiceUnavailable"),
            _ => Fault::Pass,
        }
    });
    asked
}

/// Puts every purchase through a cart of its own, those of a customer one after the other.
async fn buy(carts: Carts, purchases: Vec<Purchase>) {
    let mut customers: BTreeMap<String, Vec<Purchase>> = BTreeMap::new();
    for purchase in purchases {
        customers.entry(purchase.customer.clone()).or_default().push(purchase);
    }
    let mut queue = customers.into_values();
    let mut shopping = JoinSet::new();
    loop {
        while shopping.len() < AT_ONCE
            && let Some(purchases) = queue.next()
        {
            let carts = carts.clone();
            shopping.spawn(async move {
                for purchase in purchases {
                    let new = NewCart { customer: purchase.customer.clone(), currency: "USD".to_owned() };
                    let cart = carts.create(new, None).await.unwrap().stored.cart;
                    for change in [Change::Add(purchase.items()), Change::CheckOut] {
                        carts.change(&cart.id, &change, None, None).await.unwrap();
                    }
                }
            });
        }
        match shopping.join_next().await {
            Some(customer) => customer.unwrap(),
            None => return,
        }
    }
}

/// What was done to forwarders, and what became of batches.
#[derive(Debug, Default)]
struct Harm {
    killed: usize,
    twice: usize,
    failed: usize,
    in_part: usize,
}

impl Harm {
    fn handed_in_again(&self) -> usize {
        self.killed + self.twice + self.failed + self.in_part
    }
}

/// Hands in what the table's stream holds as it comes, batch by batch, until that is all of `entries`.
async fn hand_in(world: &World, asked: &Asked, entries: usize) -> Harm {
    let mut stream = TableStream::of(&world.prefix).await;
    let environment = world.environment();
    let (mut sandbox, mut harm) = (World::forwarder(&environment).await, Harm::default());
    let (mut waiting, mut done, mut batches): (Vec<Value>, usize, usize) = (Vec::new(), 0, 0);
    while done < entries {
        let came = tokio::time::timeout(PATIENCE, stream.wait_for_records(&mut waiting, BATCH)).await;
        assert!(came.is_ok(), "nothing came for {PATIENCE:?}, at {done} of {entries}");
        batches += 1;
        let batch = waiting[..BATCH.min(waiting.len())].to_vec();
        // Each is tried until one is killed: one that is small may be done before.
        let is_doomed = batches % 9 == 3 || batches > 3 && harm.killed == 0;
        let outcome = if is_doomed {
            killed_in_the_middle(asked, &mut sandbox, &batch).await
        } else {
            sandbox.invoke(payload(&batch), TIME).await
        };
        let moved = outcome.failed_from(&batch).unwrap_or(batch.len());
        match outcome {
            Outcome::Died => {
                harm.killed += 1;
                sandbox = World::forwarder(&environment).await;
            }
            Outcome::Failed(_) => harm.failed += 1,
            Outcome::Answered(_) => harm.in_part += usize::from(moved < batch.len()),
        }
        if batches % 11 == 5 {
            // The service took no notice of the answer.
            harm.twice += 1;
            continue;
        }
        done += moved;
        waiting.drain(..moved);
    }
    harm
}

/// Its process dies once the bus was called for the batch, unless it is done before.
async fn killed_in_the_middle(asked: &Asked, sandbox: &mut Sandbox, batch: &[Value]) -> Outcome {
    let (killer, calls) = (sandbox.killer(), asked.calls.load(Ordering::Relaxed));
    let kill = async {
        while asked.calls.load(Ordering::Relaxed) == calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        killer.kill().await;
        std::future::pending::<Outcome>().await
    };
    tokio::select! {
        biased;
        outcome = sandbox.invoke(payload(batch), TIME) => outcome,
        never = kill => never,
    }
}

/// Checks that every purchase is on the bus as three events of one cart in their order, with what was bought to the cent, and
/// nothing else. Gives how many events came more than once.
fn assert_exact(world: &World, purchases: &[Purchase]) -> usize {
    let (mut seen, mut again) = (BTreeSet::new(), 0);
    let mut carts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in world.bus.accepted() {
        let event: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        if seen.insert(event["id"].as_str().unwrap().to_owned()) {
            carts.entry(event["subject"].as_str().unwrap().to_owned()).or_default().push(event);
        } else {
            again += 1;
        }
    }
    let mut bought: Vec<(String, u64, u64)> = Vec::new();
    for (id, events) in &carts {
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["cart.created", "cart.items-added", "cart.checked-out"], "of cart {id}");
        let cart = &events[2]["data"]["cart"];
        let number = |name: &str| cart[name].as_u64().unwrap();
        bought.push((cart["customer"].as_str().unwrap().to_owned(), number("units"), number("total")));
    }
    let mut wanted: Vec<(String, u64, u64)> =
        purchases.iter().map(|purchase| (purchase.customer.clone(), purchase.units, purchase.cents)).collect();
    bought.sort();
    wanted.sort();
    assert_eq!(bought.len(), wanted.len(), "purchases");
    assert!(bought == wanted, "the purchases on the bus are not those that were made");
    again
}
