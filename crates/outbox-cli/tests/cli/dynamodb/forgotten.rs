//! A stream that does not hold everything, as each does a day after it was made: what the command makes of that.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableStatus, TimeToLiveSpecification,
};

use super::{functions::one_line, *};

impl Service {
    /// Enables a stream, or disables it, which tells a route that begins with it no less than 24 hours do.
    async fn set_stream(&self, enabled: bool) {
        let stream = StreamSpecification::builder().stream_enabled(enabled);
        let stream = if enabled { stream.stream_view_type(StreamViewType::NewImage) } else { stream };
        let update = self.client.update_table().table_name(self.tables().entries());
        update.stream_specification(stream.build().unwrap()).send().await.unwrap();
        self.until_active().await;
    }

    async fn until_active(&self) {
        let active = async {
            loop {
                let described = self.client.describe_table().table_name(self.tables().entries()).send().await.unwrap();
                if described.table.unwrap().table_status == Some(TableStatus::Active) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), active).await.expect("the table is there within a minute");
    }

    /// Puts another stream in the place of the one that there is.
    async fn renew_stream(&self) {
        self.set_stream(false).await;
        // No table that is real has its stream changed within a second; this one has.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        self.set_stream(true).await;
    }

    /// Puts a table without a stream in the place of the entries.
    async fn remake_entries(&self) {
        let entries = self.tables().entries().to_owned();
        self.client.delete_table().table_name(&entries).send().await.unwrap();
        let attribute = |name: &str, kind| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        let make = self.client.create_table().table_name(&entries).billing_mode(BillingMode::PayPerRequest);
        let make = make.attribute_definitions(attribute("key", ScalarAttributeType::S));
        let make = make.attribute_definitions(attribute("sequence", ScalarAttributeType::N));
        let make = make.key_schema(key("key", KeyType::Hash)).key_schema(key("sequence", KeyType::Range));
        make.send().await.unwrap();
        self.until_active().await;
        let expiry = TimeToLiveSpecification::builder().attribute_name("expires_at").enabled(true).build().unwrap();
        let update = self.client.update_time_to_live().table_name(&entries);
        update.time_to_live_specification(expiry).send().await.unwrap();
    }

    async fn put_all(&self, table: &str, items: Vec<Item>) {
        for item in items {
            self.client.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
        }
    }

    fn unconfigured(&self) {
        let text = self.place.read("outbox.toml");
        self.place.write("outbox.toml", &text.replace("name = 'ledger'", "name = 'audit'"));
    }
}

/// Of the lines with this word the places, each once.
fn distinct(lines: &[String], word: &str) -> Vec<String> {
    let lines: Vec<_> = lines.iter().filter(|line| line.contains(word)).cloned().collect();
    let mut seen = std::collections::BTreeSet::new();
    places(&lines).into_iter().filter(|place| seen.insert((*place).to_owned())).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_the_stream_does_not_remember_is_read_from_the_table() {
    let service = Service::initialised().await;
    service.write(3).await;
    service.publish(3, "cart/1");
    service.renew_stream().await;
    service.write(2).await;
    // Those before are read again.
    service.publish(8, "cart/1");
    let dry = service.json(&["replay", "--route", "ledger"]);
    let found = &dry["routes"][0];
    assert_eq!((&found["events"], &found["table"]), (&5.into(), &true.into()), "{dry:#}");
    let asked = service.json(&["replay", "--route", "ledger", "--yes", "--no-wait"]);
    assert!(asked["routes"][0]["replay"].is_string(), "{asked:#}");
    let status = service.json(&["status"]);
    assert_eq!(status["replays"][0]["route"], "ledger", "{status:#}");
    let relay = crate::place::Running::start(service.command(&["relay"]));
    service.place.until("the replay is done", |_| {
        let list = service.json(&["replay", "list"]);
        list["replays"].as_array().unwrap().is_empty().then_some(())
    });
    assert_eq!(relay.stop().code, 0);
    let expected: Vec<_> = (1..=5).map(|number| format!("cart/1@1.{number}.0")).collect();
    assert_eq!(distinct(&service.lines(), "\"replayid\""), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_lacks_that_the_stream_does_not_remember_is_told_by_every_command() {
    let service = Service::initialised().await;
    service.write(3).await;
    service.publish(3, "cart/1");
    service.renew_stream().await;
    service.write(2).await;
    let status = service.json(&["status"]);
    let route = &status["routes"][0];
    assert_eq!((&route["state"], &route["backlog_exact"]), (&"recovering".into(), &false.into()), "{status:#}");
    assert!(route["backlog"].as_u64().unwrap() > 0 && route["reason"].as_str().unwrap().contains("table"), "{route:#}");
    let check = service.run(&["check"]);
    assert!(check.code == 0 && one_line(&check.out).contains("reads the table again"), "{}{}", check.out, check.err);
    service.unconfigured();
    let retire = service.run(&["route", "retire", "ledger"]);
    assert!(retire.code == 2 && one_line(&retire.err).contains("has yet to publish"), "{}{}", retire.out, retire.err);
    assert_eq!(service.json(&["route", "retire", "ledger", "--yes"])["retired"], "ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_bookkeeping_that_were_put_back_together_are_adopted_with_a_new_stream() {
    let service = Service::initialised().await;
    service.write(3).await;
    service.publish(3, "cart/1");
    let entries = service.tables().entries().to_owned();
    let (heads, books) = (service.tables().heads().to_owned(), format!("{}-relay-bookkeeping", service.prefix));
    let copies = [service.items(&entries).await, service.items(&heads).await, service.items(&books).await];
    service.write(2).await;
    service.publish(5, "cart/1");

    // As a restored table is: without a stream, until somebody enables one.
    service.remake_entries().await;
    for (table, partition, sort) in [(&heads, "id", None), (&books, "kind", Some("name"))] {
        for mut item in service.items(table).await {
            item.retain(|name, _| name == partition || Some(name.as_str()) == sort);
            service.client.delete_item().table_name(table).set_key(Some(item)).send().await.unwrap();
        }
    }
    for (table, items) in [&entries, &heads, &books].into_iter().zip(copies) {
        service.put_all(table, items).await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    service.set_stream(true).await;
    // Written under numbers that consumers know, before anybody thought of it.
    service.write(1).await;

    let asked = service.json(&["adopt", "--restored"]);
    assert!(asked["undecided"].as_array().is_some_and(|list| list.len() == 1), "{asked:#}");
    let done = service.json(&["adopt", "--restored", "--yes", "--entries", "renumber"]);
    assert_eq!(done["done"], true, "{done:#}");
    service.write(2).await;
    service.publish(3, "cart/1@2.");
    let expected: Vec<_> = (4..=6).map(|number| format!("cart/1@2.{number}.0")).collect();
    assert_eq!(distinct(&service.lines(), "cart/1@2."), expected);
    assert_eq!(service.run(&["check"]).code, 0);
}
