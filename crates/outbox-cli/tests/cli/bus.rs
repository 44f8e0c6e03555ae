//! What goes wrong at an event bus, and how `outbox status` shows it.

use std::process::Command;

use outbox_aws::testing::proxy::{Call, Fault, Proxy};
use serde_json::Value;

use crate::place::{Place, Running};

/// A relay of orders to a bus, which the proxy plays.
struct Publisher {
    bus: Proxy,
    place: Place,
}

impl Publisher {
    async fn new() -> Self {
        let (bus, place) = (Proxy::alone().await, Place::new());
        bus.rule("DescribeEventBus", |_| Fault::Answer(200, r#"{"Name":"carts"}"#.to_owned()));
        let sink = format!("{{ bus = 'carts', region = 'eu-west-1', endpoint = '{}' }}", bus.url());
        place.write(
            "outbox.toml",
            &format!(
                "[store]\nsqlite = 'orders.db'\nproducer = '/orders'\n[relay]\nfailover = '1s'\n\
                 [[route]]\nname = 'bus'\nretry = {{ max_delay = '1s' }}\neventbridge = {sink}\n"
            ),
        );
        assert_eq!(place.run(&["init"]).code, 0);
        Self { bus, place }
    }

    fn relay(&self) -> Running {
        let mut command: Command = self.place.command(&["relay"]);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        Running::start(command)
    }

    /// Waits until the route's status is as wanted.
    fn shows(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.place.wait_until(|status| wanted(&status["routes"][0]))["routes"][0].clone()
    }

    /// Waits until all is well, and everything was accepted once.
    fn flows(&self, events: usize) {
        self.shows(|route| route["state"] == "flowing" && route["backlog"] == 0 && route["retrying"] == 0);
        assert_eq!(self.bus.accepted().len(), events);
    }
}

fn says(route: &Value, word: &str) -> bool {
    route["reason"].as_str().is_some_and(|reason| reason.contains(word))
}

/// Turns the entries of a customer away, by this code.
fn turning_away(code: &'static str, customer: &'static str) -> impl FnMut(&Call) -> Fault + Send {
    let of_customer = move |entry: &Value| {
        let event: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        event["id"].as_str().unwrap().starts_with(&format!("{customer}@"))
    };
    move |call| {
        let entries = call.body["Entries"].as_array().unwrap().iter().enumerate();
        let positions: Vec<_> = entries.filter(|(_, entry)| of_customer(entry)).map(|(at, _)| (at, code)).collect();
        if positions.is_empty() { Fault::Pass } else { Fault::entries(positions) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_does_not_exist_or_throttles_is_shown_by_status_until_it_does_neither() {
    let publisher = Publisher::new().await;
    let there = Fault::Answer(200, r#"{"Name":"carts"}"#.to_owned());
    publisher.bus.rule("DescribeEventBus", |_| Fault::error("ResourceNotFoundException"));
    publisher.place.place_orders(20);
    let relay = publisher.relay();
    publisher.shows(|route| route["state"] == "backing_off" && says(route, "no event bus `carts`"));
    publisher.bus.rule("DescribeEventBus", move |_| there.clone());
    publisher.flows(20);
    publisher.bus.rule("PutEvents", |_| Fault::error("ThrottlingException"));
    publisher.place.place_orders(20);
    let route = publisher.shows(|route| route["state"] == "backing_off" && says(route, "Throttling"));
    assert_eq!((&route["dead"], &route["parked"]), (&0.into(), &0.into()), "no event is blamed: {route:#}");
    publisher.bus.rule("PutEvents", |_| Fault::Pass);
    publisher.flows(40);
    assert_eq!(relay.stop().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_fail_and_one_that_is_poison_are_shown_by_status_and_hold_up_no_other_key() {
    let publisher = Publisher::new().await;
    publisher.bus.rule("PutEvents", turning_away("InternalFailure", "customer/1"));
    publisher.place.place_orders(20);
    let relay = publisher.relay();
    // With all others accepted nobody can tell whose fault it is: the route waits, and says for what.
    let others = || publisher.bus.accepted().len() == 18;
    let route = publisher.shows(|route| route["state"] == "backing_off" && says(route, "InternalFailure") && others());
    assert_eq!(route["dead"], 0, "{route:#}");
    publisher.bus.rule("PutEvents", turning_away("MalformedDetail", "customer/1"));
    publisher.shows(|route| route["retrying"] == 0 && route["dead"] == 1 && route["parked"] == 1);
    assert_eq!(publisher.bus.accepted().len(), 18);
    publisher.bus.rule("PutEvents", |_| Fault::Pass);
    publisher.place.json(&["dead-letters", "redrive", "--all", "--route", "bus"]);
    publisher.shows(|route| route["dead"] == 0 && route["parked"] == 0);
    publisher.flows(20);
    assert_eq!(relay.stop().code, 0);
}
