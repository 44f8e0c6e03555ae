//! Places every purchase as an order, through the service's HTTP API, as many customers at once as there are
//! connections, each customer's purchases one after the other.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orders::NewOrder;
use reqwest::StatusCode;
use tokio::{sync::watch, task::JoinSet};

use super::purchases::Purchase;

/// Customers that are served at the same time.
const CONNECTIONS: usize = 64;
/// Between two tries of an order that could not be placed.
const PAUSE: Duration = Duration::from_millis(20);

/// What the driver saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Driven {
    /// Orders that the service said it placed.
    pub placed: u64,
    /// Of these, orders that it said it had placed before: its answer had been lost.
    pub repeated: u64,
    /// Requests that failed and were sent again.
    pub failed: u64,
}

/// Places all `purchases`, by date. `placed` always holds how many are.
///
/// # Errors
/// What the service said about an order that it does not want; there should be none.
pub(crate) async fn place_all(
    client: reqwest::Client,
    url: String,
    purchases: Vec<Purchase>,
    placed: watch::Sender<u64>,
) -> Result<Driven, String> {
    let step = (purchases.len() as u64 / 500).max(1);
    let driver = Arc::new(Driver { client, url, placed, step, queue: Mutex::new(Queue::new(purchases)) });
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        workers.spawn(Arc::clone(&driver).work());
    }
    let mut sum = Driven::default();
    while let Some(worker) = workers.join_next().await {
        let part = worker.map_err(|error| format!("the driver failed: {error}"))??;
        sum.placed += part.placed;
        sum.repeated += part.repeated;
        sum.failed += part.failed;
    }
    driver.placed.send_replace(sum.placed);
    Ok(sum)
}

struct Driver {
    client: reqwest::Client,
    url: String,
    placed: watch::Sender<u64>,
    /// How many orders pass before those who watch are woken.
    step: u64,
    queue: Mutex<Queue>,
}

impl Driver {
    async fn work(self: Arc<Self>) -> Result<Driven, String> {
        let mut driven = Driven::default();
        let queue = || self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut purchase) = { queue().next() } {
            loop {
                self.place(&purchase, &mut driven).await?;
                self.placed.send_if_modified(|placed| {
                    *placed += 1;
                    placed.is_multiple_of(self.step)
                });
                let next = queue().next_of(&purchase.customer);
                match next {
                    Some(next) => purchase = next,
                    None => break,
                }
            }
        }
        Ok(driven)
    }

    /// Sends one order until the service says that it is placed. The same id each time: it is placed once.
    async fn place(&self, purchase: &Purchase, driven: &mut Driven) -> Result<(), String> {
        let order = NewOrder {
            order_id: purchase.order_id(),
            customer: purchase.customer.clone(),
            date: purchase.date.clone(),
            quantity: purchase.quantity,
            amount: purchase.amount.to_string(),
        };
        loop {
            match self.client.post(&self.url).json(&order).send().await.map(|answer| answer.status()) {
                Ok(StatusCode::CREATED) => break,
                Ok(StatusCode::OK) => {
                    driven.repeated += 1;
                    break;
                }
                Ok(status) if status.is_client_error() => {
                    return Err(format!("the orders service answered {status} to order {}", order.order_id));
                }
                // Killed, about to be, or not back yet.
                Ok(_) | Err(_) => {
                    driven.failed += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        driven.placed += 1;
        Ok(())
    }
}

/// Purchases by date. One whose customer is being served waits for that customer's worker, behind the earlier ones.
pub(crate) struct Queue {
    coming: std::vec::IntoIter<Purchase>,
    served: HashMap<String, VecDeque<Purchase>>,
}

impl Queue {
    pub(crate) fn new(mut purchases: Vec<Purchase>) -> Self {
        // Stable: a customer's purchases of one day stay in the order of the file.
        purchases.sort_by(|a, b| a.date.cmp(&b.date));
        Self { coming: purchases.into_iter(), served: HashMap::new() }
    }

    /// The next purchase of a customer that nobody serves.
    pub(crate) fn next(&mut self) -> Option<Purchase> {
        for purchase in self.coming.by_ref() {
            match self.served.entry(purchase.customer.clone()) {
                Entry::Occupied(mut served) => served.get_mut().push_back(purchase),
                Entry::Vacant(free) => {
                    free.insert(VecDeque::new());
                    return Some(purchase);
                }
            }
        }
        None
    }

    /// The next purchase of the customer that was just served, if it has one waiting; otherwise it is free.
    pub(crate) fn next_of(&mut self, customer: &str) -> Option<Purchase> {
        let next = self.served.get_mut(customer)?.pop_front();
        if next.is_none() {
            self.served.remove(customer);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orders::Cents;

    fn purchase(number: u32, customer: &str, date: &str) -> Purchase {
        Purchase { number, customer: customer.into(), date: date.into(), quantity: 1, amount: Cents(1) }
    }

    #[test]
    fn a_customer_who_is_being_served_is_not_served_twice_at_once() {
        let mut queue = Queue::new(vec![
            purchase(1, "a", "1997-01-01"),
            purchase(2, "a", "1997-01-02"),
            purchase(3, "b", "1997-01-03"),
        ]);
        assert_eq!(queue.next().unwrap().number, 1);
        assert_eq!(queue.next().unwrap().number, 3);
        assert_eq!(queue.next(), None);
        assert_eq!(queue.next_of("a").unwrap().number, 2);
        assert_eq!(queue.next_of("a"), None);
        assert_eq!(queue.next_of("b"), None);
    }

    #[test]
    fn purchases_come_by_date_and_those_of_a_customer_in_the_order_of_the_file() {
        let mut queue = Queue::new(vec![
            purchase(1, "a", "1997-02-01"),
            purchase(2, "a", "1997-02-01"),
            purchase(3, "b", "1997-01-01"),
        ]);
        assert_eq!(queue.next().unwrap().number, 3);
        assert_eq!(queue.next().unwrap().number, 1);
        assert_eq!(queue.next(), None, "the second of customer a waits for the first");
        assert_eq!(queue.next_of("a").unwrap().number, 2);
    }
}
