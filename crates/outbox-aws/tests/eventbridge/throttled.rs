//! A service that asks for a pause for a long time: in paused time, without a socket, so that an hour is nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_eventbridge::config::{
    Credentials, HttpClient, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use outbox::{Outcome, Sink as _, bookkeeping::KeptCounts, memory::TokioClock};
use outbox_aws::eventbridge::{EventBridgeSettings, EventBridgeSink};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::scene::{Running, event, event_in, publish};

/// EventBridge in memory: throttles until its time has come, then takes everything.
#[derive(Clone, Debug)]
struct Service {
    until: Instant,
    puts: Arc<AtomicUsize>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn answer(&self, request: &HttpRequest) -> (u16, Value) {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if !target.ends_with("PutEvents") {
            return (200, json!({ "Name": "carts" }));
        }
        self.puts.fetch_add(1, Ordering::Relaxed);
        if Instant::now() < self.until {
            return (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }));
        }
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let entries = body["Entries"].as_array().unwrap();
        self.accepted.lock().unwrap().extend(entries.iter().map(|entry| event_in(entry).id().to_owned()));
        let answers: Vec<_> = entries.iter().map(|_| json!({ "EventId": "1" })).collect();
        (200, json!({ "FailedEntryCount": 0, "Entries": answers }))
    }
}

impl HttpConnector for Service {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (status, body) = self.answer(&request);
        let status = StatusCode::try_from(status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body.to_string()))))
    }
}

impl HttpClient for Service {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A service that throttles for so long, and a sink on it.
async fn throttled_for(time: Duration) -> (Service, Arc<EventBridgeSink>) {
    let until = Instant::now() + time;
    let service = Service { until, puts: Arc::default(), accepted: Arc::default() };
    let config = outbox_aws::Settings::default().load().await.to_builder();
    let config = config
        .http_client(SharedHttpClient::new(service.clone()))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "tests")))
        .region(aws_config::Region::new("eu-west-1"))
        .build();
    let settings = EventBridgeSettings::new("carts");
    let sink = EventBridgeSink::new(settings, &config, Arc::new(TokioClock::default())).unwrap();
    (service, Arc::new(sink))
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_throttling_blames_no_event_and_loses_and_reorders_none() {
    let hour = Duration::from_hours(1);
    let (service, sink) = throttled_for(hour).await;
    let relay = Running::start(sink, Arc::new(TokioClock::default()));
    let written: Vec<Vec<_>> =
        (0..20).map(|key| (0..3).map(|_| relay.write(&format!("cart/{key}"))).collect()).collect();
    sleep(Duration::from_secs(60 * 60 - 1)).await;
    let puts = service.puts.load(Ordering::Relaxed);
    assert_eq!(relay.kept().await, KeptCounts::default(), "nothing is kept, for nothing is the events' fault");
    assert!((60..600).contains(&puts), "it asks seldom, and not never: {puts} times");
    let status = format!("{:?}", relay.handle.status());
    assert!(status.contains("ThrottlingException"), "the status says why: {status}");
    while service.accepted.lock().unwrap().len() < 60 {
        sleep(Duration::from_secs(1)).await;
        assert!(Instant::now() < service.until + Duration::from_mins(10), "they go on within ten minutes");
    }
    relay.stop().await;
    let accepted = service.accepted.lock().unwrap().clone();
    for (key, ids) in written.iter().enumerate() {
        let of_key: Vec<_> = accepted.iter().filter(|id| id.starts_with(&format!("cart/{key}@"))).collect();
        assert_eq!(of_key, ids.iter().collect::<Vec<_>>(), "each once, in order");
    }
}

#[tokio::test(start_paused = true)]
async fn the_sink_asks_once_a_call_and_leaves_trying_again_to_the_relay() {
    let (service, sink) = throttled_for(Duration::from_mins(1)).await;
    sink.check().await.unwrap();
    assert_eq!(publish(&*sink, [event("a")]).await.unwrap_err().fault, outbox::Fault::Throttle);
    assert_eq!(service.puts.load(Ordering::Relaxed), 1);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(publish(&*sink, [event("a")]).await.unwrap(), [Outcome::Accepted]);
}
