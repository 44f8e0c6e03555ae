//! A service on DynamoDB: the same commands, on an emulator of it or on AWS.

use std::{
    collections::HashMap,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use outbox::{
    Event, NewEvent, Placing,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{Answer, InboxLayer, Incoming},
};
use outbox_aws::dynamodb::{DynamoInbox, Effect, InboxOptions, Tables, Writer, handler_fn};
use serde_json::Value;
use tower::Layer;

use crate::{
    aws,
    place::{Place, Ran},
};

mod forgotten;
mod functions;
mod mapping;

type Item = HashMap<String, AttributeValue>;

/// A service's tables, and a folder with a configuration for them.
struct Service {
    client: Client,
    prefix: String,
    place: Place,
}

impl Service {
    async fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("outbox-cli-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let service = Self { client: aws::client().await, prefix, place: Place::new() };
        service.place.write(
            "outbox.toml",
            &format!(
                "[store]\ndynamodb = '{}'\nproducer = '/carts'\n{}[relay]\nfailover = '1s'\n\
                 [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\n",
                service.prefix,
                aws::endpoint().map_or_else(String::new, |url| format!("endpoint = '{url}'\nregion = 'eu-west-1'\n"))
            ),
        );
        service
    }

    async fn initialised() -> Self {
        let service = Self::new().await;
        let ran = service.run(&["init"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        service
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        if let Some(endpoint) = aws::endpoint() {
            command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "eu-west-1");
            command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: ran.status.code().unwrap_or(-1), out: text(ran.stdout), err: text(ran.stderr) }
    }

    fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[&["--json"], args].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }

    fn tables(&self) -> Tables {
        Tables::with_prefix(&self.prefix)
    }

    /// Commits `count` entries of one cart.
    async fn write(&self, count: u32) {
        let writer = Writer::new(&self.client, self.tables());
        for _ in 0..count {
            let mut transaction = writer.transaction();
            transaction.write([NewEvent::builder("cart.changed").key("cart/1").json(&1).build().unwrap()]);
            transaction.commit().await.unwrap();
        }
    }

    fn lines(&self) -> Vec<String> {
        self.place.read("ledger.jsonl").lines().map(str::to_owned).collect()
    }

    /// Runs a relay until so many lines hold `word`.
    fn publish(&self, count: usize, word: &str) {
        let relay = crate::place::Running::start(self.command(&["relay"]));
        let there = || self.lines().iter().filter(|line| line.contains(word)).count();
        self.place.until(&format!("{count} lines with {word}"), |_| (there() >= count).then_some(()));
        let ran = relay.stop();
        assert_eq!(ran.code, 0, "{}", ran.err);
    }

    async fn items(&self, table: &str) -> Vec<Item> {
        let scan = self.client.scan().table_name(table).consistent_read(true);
        scan.send().await.unwrap().items.unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        aws::drop_tables_of(&self.prefix);
    }
}

fn places(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_to_dynamodb_is_published_in_order_once() {
    let service = Service::initialised().await;
    service.write(20).await;
    service.publish(20, "cart/1");
    service.write(20).await;
    service.publish(40, "cart/1");
    let expected: Vec<_> = (1..=40).map(|number| format!("cart/1@1.{number}.0")).collect();
    assert_eq!(places(&service.lines()), expected);
    let status = service.json(&["status"]);
    assert_eq!(
        (&status["store"]["producer"], &status["routes"][0]["dead"]),
        (&"/carts".into(), &0.into()),
        "{status:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_there_and_what_is_not() {
    let service = Service::new().await;
    let before = service.run(&["check"]);
    assert!(before.code != 0 && before.out.contains("outbox init"), "{}{}", before.out, before.err);
    assert_eq!(service.run(&["init"]).code, 0);
    let after = service.run(&["check"]);
    assert_eq!(after.code, 0, "{}{}", after.out, after.err);
    assert!(after.out.contains("expiry and rights") && after.out.contains("30 days"), "{}", after.out);
    let again = service.run(&["init"]);
    assert!(again.code == 0 && again.out.contains("already"), "{}{}", again.out, again.err);
    let entries = service.tables().entries().to_owned();
    let off = aws_sdk_dynamodb::types::StreamSpecification::builder().stream_enabled(false).build().unwrap();
    service.client.update_table().table_name(&entries).stream_specification(off).send().await.unwrap();
    let broken = service.run(&["check"]);
    assert!(broken.code != 0 && format!("{}{}", broken.out, broken.err).contains("stream"), "{}", broken.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_table_stops_the_relay_and_adopt_puts_things_right() {
    let service = Service::initialised().await;
    service.write(3).await;
    service.publish(3, "cart/1");
    let (entries, heads) = (service.tables().entries().to_owned(), service.tables().heads().to_owned());
    let copy = service.items(&entries).await;
    let head: Vec<_> =
        service.items(&heads).await.into_iter().filter(|item| item["id"].as_s().unwrap() == "k:cart/1").collect();
    service.write(2).await;
    service.publish(5, "cart/1");

    // As a restored table is: the former entries, and a stream made anew.
    service.client.delete_table().table_name(&entries).send().await.unwrap();
    assert_eq!(service.run(&["init"]).code, 0);
    for (table, items) in [(&entries, copy), (&heads, head)] {
        for item in items {
            service.client.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
        }
    }
    for command in ["relay", "check"] {
        let ran = service.run(&[command]);
        let told = format!("{}{}", ran.out, ran.err);
        assert!(ran.code == 4 && told.contains("outbox adopt"), "{command}: {} {told}", ran.code);
    }
    let done = service.json(&["adopt", "--yes", "--entries", "keep"]);
    assert_eq!(done["done"], true, "{done:#}");
    service.write(2).await;
    service.publish(2, "\"place\":\"2.");
    assert_eq!(service.run(&["check"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_can_be_accepted_where_entries_expire_alone() {
    let place = Place::initialised();
    let ran = place.run(&["relay", "--accept-loss"]);
    assert!(ran.code == 2 && ran.err.contains("--accept-loss"), "{}", ran.err);
    let service = Service::initialised().await;
    let ran = service.run(&["purge", "--keep", "1", "--yes"]);
    assert!(ran.code == 2 && ran.err.contains("DynamoDB"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_the_service_is_never_taken_for_a_bookkeeping() {
    use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};

    // A relay that is called as one of the service's tables is: by default its bookkeeping is another one.
    let service = Service::new().await;
    let mut config = service.place.read("outbox.toml");
    config = config.replace("[relay]\n", "[relay]\nname = 'carts'\n");
    service.place.write("outbox.toml", &config);
    let (own, books) = (format!("{}-carts", service.prefix), format!("{}-carts-bookkeeping", service.prefix));
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
    let make = service.client.create_table().table_name(&own).billing_mode(BillingMode::PayPerRequest);
    make.attribute_definitions(id.unwrap()).key_schema(key.unwrap()).send().await.unwrap();
    assert_eq!(service.run(&["init"]).code, 0);
    assert!(!service.items(&books).await.is_empty(), "the bookkeeping is in a table of its own");
    assert_eq!(service.run(&["check"]).code, 0);

    // One that is named is refused, by its name and with the remedy.
    service
        .place
        .write("outbox.toml", &config.replace("[relay]\n", &format!("[relay]\nbookkeeping = 'dynamodb:{own}'\n")));
    for command in ["init", "check", "relay", "status"] {
        let ran = service.run(&[command]);
        let told = format!("{}{}", ran.out, ran.err).split_whitespace().collect::<Vec<_>>().join(" ");
        let is_told = told.contains(&format!("`{own}`")) && told.contains("`bookkeeping` in `[relay]`");
        assert!(ran.code != 0 && is_told, "{command}: {} {told}", ran.code);
    }
    assert!(service.items(&own).await.is_empty(), "nothing was written into it");
}

/// Order `sequence` of a customer.
fn order(customer: u32, sequence: u64) -> Event {
    let after = if sequence > 1 { outbox::Place::new(1, sequence - 1, 0) } else { outbox::Place::ORIGIN };
    let placing = Some(Placing { place: outbox::Place::new(1, sequence, 0), count: 1, after });
    let placed = NewEvent::builder("order.placed").key(format!("customer/{customer}"));
    let placed = placed.json(&serde_json::json!({ "number": sequence })).build().unwrap();
    let identity = Identity { source: &"/orders".into(), placing, recorded: None, fallback_id: "" };
    let event = Event::from_new(placed, identity).unwrap();
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_in_a_table_is_looked_at_and_mended() {
    let service = Service::new().await;
    let (table, options) = (format!("{}-inbox", service.prefix), InboxOptions::default());
    DynamoInbox::init(&service.client, &table, "ledger", &options).await.unwrap();
    let inbox = InboxLayer::in_order(DynamoInbox::open(&service.client, &table, "ledger", options).unwrap());
    let handler = handler_fn(async |_: &mut Effect, event: &Event| {
        if event.key().is_some_and(|key| key.as_str() == "customer/3") {
            return Answer::give_up("customer 3 is not known");
        }
        Answer::Done
    });
    let events = (1..=4).flat_map(|customer| (1..=3).map(move |sequence| order(customer, sequence)));
    inbox.layer(handler).apply(events.map(Incoming::Event).collect()).await.unwrap();

    let url = format!("dynamodb:{table}");
    let inbox = |command: &[&str]| -> Value { service.json(&[&["inbox"], command, &["--db", &url]].concat()) };
    let status = inbox(&["status"]);
    assert_eq!((&status["counts"]["applied"], &status["dead"], &status["parked"]), (&9.into(), &1.into(), &2.into()));
    let list = inbox(&["dead-letters", "list"]);
    let letter = &list["dead_letters"][0];
    assert_eq!((&letter["key"], &letter["parked"]), (&"customer/3".into(), &2.into()));
    let id = letter["id"].to_string();
    assert_eq!(inbox(&["dead-letters", "redrive", &id])["redriven"], 1);
    let rewound = inbox(&["rewind", "--producer", "/orders", "--key", "customer/1", "--to", "1.1.0"]);
    assert_eq!(rewound["mark"], "1.1.0");
    assert_eq!(inbox(&["rewind", "--producer", "/orders", "--yes"])["forgotten"], 3, "customer 3 had no mark yet");
}
