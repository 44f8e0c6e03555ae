//! Tables: made, found, refused.

use std::time::Duration;

use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType, TimeToLiveSpecification};
use outbox::ErrorKind;
use outbox_aws::dynamodb::{InitOptions, Tables, schema};

use crate::{
    fixture::{PRODUCER, Store, make_table, unused_prefix},
    server,
};

#[tokio::test(flavor = "multi_thread")]
async fn made_tables_are_as_they_have_to_be() {
    let store = Store::new().await;
    let identity = schema::check(&store.client, &store.tables).await.unwrap();
    assert_eq!((identity.producer.as_str(), identity.incarnation, identity.layout), (PRODUCER, 1, schema::LAYOUT));
    assert_eq!(identity.retention, Duration::from_hours(30 * 24));
    let described = store.client.describe_table().table_name(store.tables.entries()).send().await.unwrap();
    let stream = described.table.unwrap().stream_specification.unwrap();
    assert_eq!(stream.stream_view_type, Some(StreamViewType::NewImage));
    let ttl = store.client.describe_time_to_live().table_name(store.tables.entries()).send().await.unwrap();
    assert_eq!(ttl.time_to_live_description.unwrap().attribute_name.as_deref(), Some("expires_at"));
}

#[tokio::test(flavor = "multi_thread")]
async fn making_them_again_changes_nothing() {
    let store = Store::new().await;
    let before = schema::check(&store.client, &store.tables).await.unwrap();
    let again = schema::init(&store.client, &store.tables, &InitOptions::new(PRODUCER)).await.unwrap();
    assert_eq!(again, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_producers_tables_are_refused() {
    let store = Store::new().await;
    let error = schema::init(&store.client, &store.tables, &InitOptions::new("/others")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`/carts`, not of `/others`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_tables_are_said_with_the_remedy() {
    let client = server::client().await;
    let error = schema::check(&client, &Tables::with_prefix(&unused_prefix())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("outbox init"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_another_key_is_refused() {
    let client = server::client().await;
    let tables = Tables::with_prefix(&unused_prefix());
    make_table(&client, tables.entries(), "id").await;
    let error = schema::init(&client, &tables, &InitOptions::new(PRODUCER)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("`id` of type S as its partition key, not `key`"), "{error}");
    server::drop_tables(vec![tables.entries().to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_shows_no_images_is_refused() {
    let store = Store::new().await;
    for (view, word) in [(None, "has no stream"), (Some(StreamViewType::KeysOnly), "view type KEYS_ONLY")] {
        let off = StreamSpecification::builder().stream_enabled(false).build().unwrap();
        let update = store.client.update_table().table_name(store.tables.entries());
        update.clone().stream_specification(off).send().await.unwrap();
        if let Some(view) = view {
            let on = StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build().unwrap();
            update.stream_specification(on).send().await.unwrap();
        }
        let error = schema::check(&store.client, &store.tables).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_by_another_attribute_or_none_is_refused() {
    let store = Store::new().await;
    let set = async |name: &str, enabled: bool| {
        let ttl = TimeToLiveSpecification::builder().attribute_name(name).enabled(enabled).build().unwrap();
        let update = store.client.update_time_to_live().table_name(store.tables.entries());
        update.time_to_live_specification(ttl).send().await.unwrap();
    };
    set("expires_at", false).await;
    let error = schema::check(&store.client, &store.tables).await.unwrap_err();
    assert!(error.to_string().contains("keeps items for ever"), "{error}");
    set("ttl", true).await;
    let error = schema::check(&store.client, &store.tables).await.unwrap_err();
    assert!(error.to_string().contains("by `ttl`, not by `expires_at`"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retention_shorter_than_a_day_is_refused() {
    let client = server::client().await;
    let options = InitOptions::new(PRODUCER).retention(Duration::from_hours(1));
    let error = schema::init(&client, &Tables::with_prefix(&unused_prefix()), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().starts_with("retention"), "{error}");
}
