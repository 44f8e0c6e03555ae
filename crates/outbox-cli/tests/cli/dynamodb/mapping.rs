//! A table of the service's own, in the layout of the seed: `messageId, detailType, detail, ttl`.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TimeToLiveSpecification,
};
use outbox::{Clock as _, System};

use super::*;

/// The layout, as a service configures it.
const LAYOUT: &str = "layout = 'dynamo-outbox'";

struct Mapped(Service);

impl Mapped {
    /// A service whose table has a stream and expires by `ttl`, with this mapping; initialised.
    async fn new(mapping: &str) -> Self {
        let mapped = Self::made(mapping, Some(stream())).await;
        let ran = mapped.0.run(&["init"]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        mapped
    }

    async fn without_stream(mapping: &str) -> Self {
        Self::made(mapping, None).await
    }

    async fn made(mapping: &str, stream: Option<StreamSpecification>) -> Self {
        let mapped = Self(Service::new().await);
        let (table, client) = (mapped.table(), &mapped.0.client);
        let id = AttributeDefinition::builder().attribute_name("messageId").attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name("messageId").key_type(KeyType::Hash);
        let make = client.create_table().table_name(&table).billing_mode(BillingMode::PayPerRequest);
        let make = make.attribute_definitions(id.build().unwrap()).key_schema(key.build().unwrap());
        make.set_stream_specification(stream).send().await.unwrap();
        let expiry = TimeToLiveSpecification::builder().attribute_name("ttl").enabled(true).build().unwrap();
        client.update_time_to_live().table_name(&table).time_to_live_specification(expiry).send().await.unwrap();
        mapped.configure(mapping);
        mapped
    }

    fn table(&self) -> String {
        format!("{}-outbox", self.0.prefix)
    }

    fn configure(&self, mapping: &str) {
        let config = self.0.place.read("outbox.toml");
        let (store, rest) = config.split_once("[relay]").unwrap();
        let store = store.split("[store.mapping]").next().unwrap();
        let table = self.table();
        let text = format!("{store}[store.mapping]\ntable = '{table}'\n{mapping}\n[relay]{rest}");
        self.0.place.write("outbox.toml", &text);
    }

    async fn enable_stream(&self) {
        let update = self.0.client.update_table().table_name(self.table());
        update.stream_specification(stream()).send().await.unwrap();
    }

    /// Puts an item as the seed's service does.
    async fn put(&self, id: &str, detail: AttributeValue) {
        self.put_until(id, detail, System.wall().as_second() + 30 * 86_400).await;
    }

    async fn put_until(&self, id: &str, detail: AttributeValue, ttl: i64) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = self.0.client.put_item().table_name(self.table()).item("messageId", text(id));
        let put = put.item("detailType", text("cart.changed")).item("detail", detail);
        put.item("ttl", AttributeValue::N(ttl.to_string())).send().await.unwrap();
    }

    async fn put_text(&self, id: &str, detail: &str) {
        self.put(id, AttributeValue::S(detail.to_owned())).await;
    }

    fn event(&self, id: &str) -> Value {
        let lines = self.0.lines();
        let events = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.into_iter().find(|event| event["id"] == id).unwrap_or_else(|| panic!("{id} in {lines:?}"))
    }

    fn ids(&self) -> Vec<String> {
        let id = |line: &String| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        self.0.lines().iter().map(id).collect()
    }

    /// Of one key: between keys there is no order.
    fn ids_of(&self, key: &str) -> Vec<String> {
        self.ids().into_iter().filter(|id| self.event(id)["partitionkey"] == key).collect()
    }
}

fn stream() -> StreamSpecification {
    let on = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewImage);
    on.build().unwrap()
}

/// Emulators round times to seconds, and a stream within one of its table counts as made with it.
async fn wait_for_another_second_but_one() {
    let made = System.wall();
    while System.wall().duration_since(made).as_secs() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_the_seed_s_layout_arrive_and_what_is_none_becomes_a_dead_letter() {
    let mapped = Mapped::new(&format!("{LAYOUT}\nkey = 'detail.cartId'\nrecovery = 'as-it-is'")).await;
    let service = &mapped.0;
    let first = AttributeValue::S(r#"{"cartId": "c1", "n": 1}"#.to_owned());
    mapped.put_until("m-1", first, System.wall().as_second()).await;
    let document = [("cartId", AttributeValue::S("c2".to_owned())), ("n", AttributeValue::N("2".to_owned()))];
    let document = document.map(|(name, value)| (name.to_owned(), value));
    mapped.put("m-2", AttributeValue::M(document.into())).await;
    mapped.put_text("m-3", "no json").await;
    // Deleted, for its time has come, and changed: neither is an event.
    mapped.put_text("m-4", r#"{"cartId": "c1", "n": 4}"#).await;
    let gone = service.client.delete_item().table_name(mapped.table());
    gone.key("messageId", AttributeValue::S("m-1".to_owned())).send().await.unwrap();
    mapped.put_text("m-4", r#"{"cartId": "c1", "n": 5}"#).await;
    service.publish(3, "cart.changed");
    assert_eq!(mapped.ids_of("c1"), ["m-1", "m-4"]);
    let (text, document) = (mapped.event("m-1"), mapped.event("m-2"));
    assert_eq!(
        (&text["type"], &text["partitionkey"], &text["data"]["n"]),
        (&"cart.changed".into(), &"c1".into(), &1.into())
    );
    assert_eq!((&document["partitionkey"], &document["data"]["n"]), (&"c2".into(), &2.into()));
    assert!(text.get("place").is_none() && text.get("gapless").is_none(), "an item of others has no place: {text:#}");
    let letters = service.json(&["dead-letters", "list"]);
    let letter = &letters["dead_letters"][0];
    assert!(letter.to_string().contains("`detail.cartId`") && letter.to_string().contains("m-3"), "{letters:#}");

    // It goes on where it was, and takes what is there for what it has read.
    mapped.put_text("m-5", r#"{"cartId": "c1"}"#).await;
    service.publish(4, "cart.changed");
    assert_eq!((mapped.ids_of("c1"), mapped.ids().len()), (vec!["m-1".into(), "m-4".into(), "m-5".into()], 4));
    let check = service.run(&["check"]);
    assert!(check.out.contains("as the mapping says") && check.out.contains("`once`"), "{}{}", check.out, check.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_item_is_an_event_where_the_mapping_says_so() {
    let mapped =
        Mapped::new("layout = 'dynamo-outbox'\nevent_id = 'version'\nchanges = true\nrecovery = 'as-it-is'").await;
    for version in ["v1", "v2", "v3"] {
        let put = mapped.0.client.put_item().table_name(mapped.table());
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = put.item("messageId", text("m-1")).item("detailType", text("cart.changed"));
        put.item("version", text(version)).item("detail", text("{}")).send().await.unwrap();
    }
    mapped.0.publish(3, "cart.changed");
    assert_eq!(mapped.ids(), ["v1", "v2", "v3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_there_was_a_stream_is_read_from_the_table() {
    let mapped = Mapped::without_stream(LAYOUT).await;
    let ids: Vec<String> = (0..30).map(|number| format!("m-{number:02}")).collect();
    for id in &ids {
        mapped.put_text(id, "{}").await;
    }
    let told = mapped.0.run(&["init"]);
    let told = format!("{}{}", told.out, told.err);
    assert!(told.contains("stream") && told.contains("NEW_IMAGE"), "{told}");
    wait_for_another_second_but_one().await;
    mapped.enable_stream().await;
    assert_eq!(mapped.0.run(&["init"]).code, 0);
    mapped.0.publish(30, "cart.changed");
    mapped.put_text("m-30", "{}").await;
    mapped.0.publish(31, "cart.changed");
    let mut found = mapped.ids();
    found.sort_unstable();
    found.dedup();
    let all: Vec<String> = ids.into_iter().chain(["m-30".to_owned()]).collect();
    assert_eq!(found, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_does_not_fit_or_cannot_be_kept_is_refused_with_the_remedy() {
    let mapped = Mapped::new(LAYOUT).await;
    let refused = |mapping: &str, code: i32, words: &[&str]| {
        mapped.configure(mapping);
        let ran = mapped.0.run(&["relay"]);
        let told = format!("{}{}", ran.out, ran.err).split_whitespace().collect::<Vec<_>>().join(" ");
        let all = ran.code == code && words.iter().all(|word| told.contains(word));
        assert!(all, "{mapping}: {} {told}", ran.code);
    };
    let table = mapped.table();
    refused(&format!("{LAYOUT}\nkey = 'detail.cartId'"), 2, &[&table, "in any order", "recovery = \"as-it-is\""]);
    refused(&format!("{LAYOUT}\nchanges = true"), 2, &["the last alone", "as-it-is"]);
    refused(&format!("{LAYOUT}\npartition = 'id'"), 1, &[&table, "`messageId`", "`partition`"]);
    refused(&format!("{LAYOUT}\nsort = 'at'"), 1, &[&table, "`sort`"]);
    refused(&format!("{LAYOUT}\nexpires = 'expiresAt'"), 1, &[&table, "`ttl`", "`expires`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_starts_now_needs_to_know_when_an_item_of_the_table_was_written() {
    let mapped = Mapped::without_stream(LAYOUT).await;
    let put = async |id: &str, age: i64| {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let at = AttributeValue::N((System.wall().as_second() - age).to_string());
        let put = mapped.0.client.put_item().table_name(mapped.table()).item("messageId", text(id)).item("at", at);
        put.item("detailType", text("cart.changed")).item("detail", text("{}")).send().await.unwrap();
    };
    put("old", 7_200).await;
    wait_for_another_second_but_one().await;
    mapped.enable_stream().await;
    let config = mapped.0.place.read("outbox.toml").replace("file = ", "start = 'now'\nfile = ");
    mapped.0.place.write("outbox.toml", &config);
    assert_eq!(mapped.0.run(&["init"]).code, 0);
    let refused = mapped.0.run(&["relay"]);
    let told = refused.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(refused.code == 1 && told.contains("name the attribute by `time`"), "{} {told}", refused.code);
    mapped.configure(&format!("{LAYOUT}\ntime = 'at'"));
    put("new", 0).await;
    mapped.0.publish(1, "cart.changed");
    // It stands in the table and in the stream: read from both, it may arrive from both.
    let mut found = mapped.ids();
    found.dedup();
    assert_eq!(found, ["new"]);
}
