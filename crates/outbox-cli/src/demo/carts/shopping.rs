//! Puts every purchase through a cart, over the service's HTTP API: created, added to, checked out. As many customers at
//! once as there are connections, each customer's purchases one after the other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::purchases::{CURRENCY, items};
use crate::demo::{driver::Queue, purchases::Purchase};

/// Customers that are served at the same time: few, for the emulator answers one request after the other, and others wait.
const CONNECTIONS: usize = 8;
/// Between two tries of a request that was not answered.
const PAUSE: Duration = Duration::from_millis(20);
/// Changes of a cart: created, added to, checked out.
pub(crate) const CHANGES: u64 = 3;

/// What the shopping came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bought {
    /// Carts that were checked out.
    pub carts: u64,
    /// Requests that were answered as done before: their first answer had been lost.
    pub repeated: u64,
    /// Requests that failed and were sent again.
    pub failed: u64,
}

/// Buys all `purchases` from the service at `url`, by date. `changed` always holds how many changes were answered.
///
/// # Errors
/// What the service said about a request that it does not want; there should be none.
pub(crate) async fn buy_all(
    client: reqwest::Client,
    url: String,
    purchases: Vec<Purchase>,
    changed: watch::Sender<u64>,
) -> Result<Bought, String> {
    let shopping = Arc::new(Shopping { client, url, changed, queue: Mutex::new(Queue::new(purchases)) });
    let mut customers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        customers.spawn(Arc::clone(&shopping).go());
    }
    let mut sum = Bought::default();
    while let Some(customer) = customers.join_next().await {
        let part = customer.map_err(|error| format!("the driver failed: {error}"))??;
        sum.carts += part.carts;
        sum.repeated += part.repeated;
        sum.failed += part.failed;
    }
    Ok(sum)
}

struct Shopping {
    client: reqwest::Client,
    url: String,
    changed: watch::Sender<u64>,
    queue: Mutex<Queue>,
}

impl Shopping {
    async fn go(self: Arc<Self>) -> Result<Bought, String> {
        let mut bought = Bought::default();
        let queue = || self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut purchase) = { queue().next() } {
            loop {
                self.buy(&purchase, &mut bought).await?;
                let next = queue().next_of(&purchase.customer);
                match next {
                    Some(next) => purchase = next,
                    None => break,
                }
            }
        }
        Ok(bought)
    }

    async fn buy(&self, purchase: &Purchase, bought: &mut Bought) -> Result<(), String> {
        let order = purchase.order_id();
        let new = json!({ "customer": purchase.customer, "currency": CURRENCY });
        let cart = self.change(&format!("{order}-created"), Method::POST, "/cart", &new, bought).await?;
        let cart = cart["id"].as_str().ok_or("the service answered a cart without an id")?;
        let added = json!({ "items": items(purchase) });
        let at = format!("/cart/{cart}/add-items");
        self.change(&format!("{order}-added"), Method::PUT, &at, &added, bought).await?;
        let at = format!("/cart/{cart}/checkout");
        self.change(&format!("{order}-checked-out"), Method::PUT, &at, &json!({}), bought).await?;
        bought.carts += 1;
        Ok(())
    }

    /// Sends one request until it is answered: under the same key each time, so it is done once.
    async fn change(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: &Value,
        bought: &mut Bought,
    ) -> Result<Value, String> {
        loop {
            let request = self.client.request(method.clone(), format!("{}{path}", self.url));
            let answer = request.header("idempotency-key", key).json(body).send().await;
            // Killed, about to be, or not back yet, if there is none: the body may be cut off, too.
            if let Ok(answer) = answer {
                let (status, repeated) = (answer.status(), is_repeated(&answer));
                if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT {
                    let said = answer.text().await.unwrap_or_default();
                    return Err(format!("the carts answered {status} to {method} {path}: {said}"));
                }
                if let (true, Ok(cart)) = (status.is_success(), answer.json().await) {
                    bought.repeated += u64::from(repeated);
                    self.changed.send_modify(|changed| *changed += 1);
                    return Ok(cart);
                }
            }
            bought.failed += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_repeated(answer: &Response) -> bool {
    answer.headers().get("idempotency-replayed").is_some_and(|value| value == "true")
}
