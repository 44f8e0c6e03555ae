//! The sinks that come with the library pass the suite, against what they really publish to.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outbox::{
    Sink,
    cloudevents::json,
    sinks::FileSink,
    testing::{Delivery, SinkUnderTest, conformance},
};
use tempfile::TempDir;

/// A file in a directory of its own.
struct Lines(TempDir, Mutex<Option<FileSink>>);

impl Lines {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sink = Self::open_in(&directory);
        Self(directory, Mutex::new(Some(sink)))
    }

    fn open_in(directory: &TempDir) -> FileSink {
        FileSink::open(directory.path().join("events.jsonl")).unwrap()
    }
}

#[async_trait]
impl SinkUnderTest for Lines {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.1.lock().unwrap().clone().unwrap())
    }

    async fn delivered(&self) -> Vec<Delivery> {
        let text = std::fs::read_to_string(self.0.path().join("events.jsonl")).unwrap();
        text.lines().map(|line| json::decode(line.as_bytes()).unwrap().into()).collect()
    }

    async fn open(&self) -> Option<Arc<dyn Sink>> {
        // Its file is locked for as long as it is open.
        drop(self.1.lock().unwrap().take());
        *self.1.lock().unwrap() = Some(Self::open_in(&self.0));
        Some(self.sink())
    }

    async fn take_away(&self) -> bool {
        std::fs::remove_dir_all(self.0.path()).unwrap();
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_sink_conforms() {
    conformance::sink::all(async || Lines::new()).await;
}

#[cfg(all(feature = "webhook", feature = "receiver"))]
mod webhook {
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicBool, Ordering},
    };

    use axum::{
        Router,
        body::Bytes,
        extract::{DefaultBodyLimit, State},
        http::{HeaderMap, StatusCode},
        routing::post,
    };
    use outbox::{
        System,
        cloudevents::http::{self, Received as Decoded},
        sinks::{Encoding, WebhookSettings, WebhookSink},
    };
    use tokio::{net::TcpListener, task::JoinHandle};

    use super::*;

    #[derive(Default)]
    struct Received {
        deliveries: Mutex<Vec<Delivery>>,
        refused: Mutex<BTreeSet<String>>,
        loses_an_answer: AtomicBool,
        takes_nothing: AtomicBool,
    }

    /// A server that takes events in each encoding, a call whole or not at all.
    struct Target {
        sink: Arc<WebhookSink>,
        settings: WebhookSettings,
        received: Arc<Received>,
        serving: JoinHandle<()>,
    }

    async fn take(State(received): State<Arc<Received>>, headers: HeaderMap, body: Bytes) -> StatusCode {
        if received.takes_nothing.load(Ordering::SeqCst) {
            return StatusCode::UNAUTHORIZED;
        }
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let events: Vec<_> = match http::decode(headers, body).unwrap() {
            Decoded::One(event) => vec![event],
            Decoded::Batch(events) => events.into_iter().map(Result::unwrap).collect(),
        };
        if events.iter().any(|event| received.refused.lock().unwrap().contains(event.id())) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        received.deliveries.lock().unwrap().extend(events.into_iter().map(Delivery::from));
        // A panic ends the connection without an answer.
        assert!(!received.loses_an_answer.swap(false, Ordering::SeqCst), "the answer is lost, as asked for");
        StatusCode::NO_CONTENT
    }

    impl Target {
        async fn start(encoding: Encoding) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/events", listener.local_addr().unwrap());
            let received = Arc::new(Received::default());
            let router = Router::new().route("/events", post(take)).layer(DefaultBodyLimit::disable());
            let router = router.with_state(received.clone());
            let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            let settings = WebhookSettings { encoding, ..WebhookSettings::new(url) };
            let sink = WebhookSink::new(settings.clone(), Arc::new(System)).unwrap();
            Self { sink: Arc::new(sink), settings, received, serving }
        }
    }

    impl Drop for Target {
        fn drop(&mut self) {
            self.serving.abort();
        }
    }

    #[async_trait]
    impl SinkUnderTest for Target {
        fn sink(&self) -> Arc<dyn Sink> {
            self.sink.clone()
        }

        async fn delivered(&self) -> Vec<Delivery> {
            self.received.deliveries.lock().unwrap().clone()
        }

        async fn open(&self) -> Option<Arc<dyn Sink>> {
            Some(Arc::new(WebhookSink::new(self.settings.clone(), Arc::new(System)).unwrap()))
        }

        async fn refuse(&self, id: &str) -> bool {
            self.received.refused.lock().unwrap().insert(id.to_owned());
            true
        }

        async fn take_away(&self) -> bool {
            // No connection is open yet, and none will be.
            self.serving.abort();
            while !self.serving.is_finished() {
                tokio::task::yield_now().await;
            }
            true
        }

        async fn take_nothing(&self) -> bool {
            self.received.takes_nothing.store(true, Ordering::SeqCst);
            true
        }

        async fn lose_an_answer(&self) -> bool {
            self.received.loses_an_answer.store(true, Ordering::SeqCst);
            true
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_webhook_sink_conforms() {
        conformance::sink::all(async || Target::start(Encoding::Structured).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_webhook_sink_conforms_with_attributes_as_headers() {
        conformance::sink::all(async || Target::start(Encoding::Binary).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_webhook_sink_conforms_with_batches() {
        conformance::sink::all(async || Target::start(Encoding::Batch).await).await;
    }
}
