//! The suite that every sink passes, against a bus of the emulator's.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use aws_sdk_s3::types::CreateBucketConfiguration;
use outbox::{
    Sink,
    event::extension,
    testing::{Delivery, SinkUnderTest, conformance},
};
use outbox_aws::{
    eventbridge::{ClaimCheckSettings, EventBridgeSettings, EventBridgeSink},
    testing::proxy::{Call, Fault, Proxy},
};

use crate::scene::{aws, emulator, event_in, make_bus, sink_through, unused_name};

/// A bus, with a proxy before it.
struct Bus {
    sink: Arc<EventBridgeSink>,
    settings: EventBridgeSettings,
    proxy: Proxy,
    refused: Arc<Mutex<BTreeSet<String>>>,
    s3: aws_sdk_s3::Client,
}

impl Bus {
    async fn new(claim_check: bool) -> Self {
        let (name, config) = (unused_name(), aws(emulator().unwrap()).await);
        make_bus(&name).await;
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(s3);
        let mut settings = EventBridgeSettings::new(&name);
        if claim_check {
            let region = config.region().unwrap().to_string();
            let place = CreateBucketConfiguration::builder().location_constraint(region.as_str().into()).build();
            s3.create_bucket().bucket(&name).create_bucket_configuration(place).send().await.unwrap();
            let bucket = ClaimCheckSettings { prefix: "events/".to_owned(), ..ClaimCheckSettings::new(&name) };
            settings = EventBridgeSettings { max_entry_bytes: 16_384, claim_check: Some(bucket), ..settings };
        }
        let proxy = Proxy::before(emulator().unwrap()).await;
        let refused = Arc::<Mutex<BTreeSet<String>>>::default();
        proxy.rule("PutEvents", {
            let refused = refused.clone();
            move |call| refusing(call, &refused.lock().unwrap())
        });
        Self { sink: sink_through(&proxy, settings.clone()).await, settings, proxy, refused, s3 }
    }

    async fn object(&self, reference: &str) -> bytes::Bytes {
        let (bucket, key) = reference.strip_prefix("s3://").unwrap().split_once('/').unwrap();
        let object = self.s3.get_object().bucket(bucket).key(key).send().await.unwrap();
        object.body.collect().await.unwrap().into_bytes()
    }
}

/// Turns away the entries of these events.
fn refusing(call: &Call, refused: &BTreeSet<String>) -> Fault {
    let entries = call.body["Entries"].as_array().unwrap();
    let unwanted = entries.iter().enumerate().filter(|(_, entry)| refused.contains(event_in(entry).id()));
    let unwanted: Vec<_> = unwanted.map(|(position, _)| (position, "MalformedDetail")).collect();
    if unwanted.is_empty() { Fault::Pass } else { Fault::entries(unwanted) }
}

#[async_trait]
impl SinkUnderTest for Bus {
    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.clone()
    }

    async fn delivered(&self) -> Vec<Delivery> {
        let mut delivered = Vec::new();
        for entry in self.proxy.accepted() {
            let event = event_in(&entry);
            let data = match event.extension_text(extension::DATA_REF) {
                Some(reference) => Some(self.object(reference).await),
                None => event.data().cloned(),
            };
            delivered.push(Delivery { data, ..event.into() });
        }
        delivered
    }

    async fn open(&self) -> Option<Arc<dyn Sink>> {
        Some(sink_through(&self.proxy, self.settings.clone()).await)
    }

    async fn refuse(&self, id: &str) -> bool {
        self.refused.lock().unwrap().insert(id.to_owned());
        true
    }

    async fn take_away(&self) -> bool {
        self.proxy.down().await;
        true
    }

    async fn take_nothing(&self) -> bool {
        self.proxy.rule("PutEvents", |_| Fault::error("AccessDeniedException"));
        true
    }

    async fn cut_connections(&self) -> bool {
        self.proxy.cut();
        true
    }

    async fn lose_an_answer(&self) -> bool {
        self.proxy.script("PutEvents", [Fault::LoseAnswer]);
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms() {
    let Some(_) = emulator() else { return };
    conformance::sink::all(async || Bus::new(false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_conforms_with_a_claim_check() {
    let Some(_) = emulator() else { return };
    conformance::sink::all(async || Bus::new(true).await).await;
}
