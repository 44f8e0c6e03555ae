//! Webhooks: events posted to an HTTP target as CloudEvents, signed as Standard Webhooks.
//!
//! # Requests
//! Each call is one `POST` over HTTP/1.1 on a pooled connection, as [`Encoding`] says. It carries `webhook-id` and
//! `webhook-timestamp`, and, where secrets are configured, `webhook-signature` with a signature by each of them over
//! exactly the body sent ([`crate::signature`]). `webhook-id` is the event's id, percent-encoded where a header or a
//! signature does not allow a character (a full stop is `%2E`), with `;replay=…` behind it when the event is published
//! by a replay; for a batch it is derived from the ids of its first and last event. It is the same for every attempt.
//!
//! In binary encoding the event's attributes are headers, and the signature covers only the body, the id and the time
//! stamp, as its specification says. Where a receiver has to trust the attributes too (key, place, type), use structured
//! or batch encoding. An event whose content type cannot be a header, or would be taken for a CloudEvent's, is posted
//! structured.
//!
//! TLS certificates are always verified, against the machine's authorities and those configured. Redirects are not
//! followed: events go where the configuration says and nowhere else. For the same reason the environment's proxy
//! variables (`HTTPS_PROXY` and the like) are ignored; a proxy is part of the configuration.
//!
//! # Answers
//! What an answer's status means. *Refused* is said of the event and makes it a dead letter, but in a batch it is not
//! known which event is meant: the batch is split until the culprit stands alone.
//!
//! | status | whose | what happens |
//! |---|---|---|
//! | 200–206, 208–299 | – | accepted |
//! | 207 | – | an outcome for each event in the body (below); anything else in it counts as unknown, never as accepted |
//! | 300–399 | the sink's | backoff; redirects are refused: put the final address into `url` |
//! | 400, 413, 415, 422, 431 | the event's | refused for good: dead letter |
//! | 401, 403, 407 | the sink's | backoff; mend the credentials |
//! | 402, 404, 405, 406, 410, 411, 414, 421, 426, 428 | the sink's | backoff; mend `url` or the target |
//! | 408, 425, 429 | a throttle | the route waits as long as `Retry-After` says |
//! | 409, 412, 500–599, and every other one | unknown | backoff, at least as long as `Retry-After` says; events of other keys find out whose fault it is |
//! | not connected: name, connection, TLS | the sink's | backoff |
//! | no whole answer: time-out, reset, unreadable | unknown | as 500; the events may have been accepted and come again |
//!
//! `Retry-After` may be seconds or an HTTP date; more than an hour counts as an hour.
//!
//! A target that takes batches, as Outbox's own receiver, may answer `207` with content type
//! `application/vnd.outbox.outcomes+json` and
//! `{"outcomes":[{"status":202},{"status":422,"reason":"…"},{"status":429,"retry_after":5}]}`: one outcome for each
//! event, in the batch's order. There 408, 425, 429, and 503 with `retry_after`, throttle the event alone; every other
//! status that is neither acceptance nor the event's fault is a refusal that is tried again.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{
    Client, Method, Request, StatusCode, Url,
    header::{HeaderMap, HeaderValue},
};

mod answer;
mod failure;
mod request;
mod retry_after;
mod settings;
mod status;
mod target;

pub use answer::OUTCOMES_CONTENT_TYPE;
#[cfg(all(feature = "testing", feature = "receiver"))]
pub(crate) use answer::read as read_answer;
#[cfg(all(feature = "testing", feature = "receiver"))]
pub(crate) use retry_after::LONGEST as LONGEST_RETRY_AFTER;
pub use settings::{Encoding, SettingsError, WebhookSettings};
pub use target::Target;

use crate::{
    clock::Clock,
    event::Event,
    signature::Secret,
    sink::{Batch, Fault, Outcome, Sink, SinkError, SinkLimits},
};

/// Posts events to an HTTP target. See the [module](self) for requests and answers.
///
/// *Order*: in batch encoding the events of a call are an array in their order, which the target has to keep to; in the
/// others a call is one event.
pub struct WebhookSink {
    client: Client,
    url: Url,
    /// Scheme, host and port: all of the URL that messages may show, for path and query of a webhook can be secret.
    origin: String,
    /// Headers of every request.
    headers: HeaderMap,
    encoding: Encoding,
    secrets: Vec<Secret>,
    limits: SinkLimits,
    clock: Arc<dyn Clock>,
}

impl WebhookSink {
    /// Makes the sink that `settings` describe. Connects nowhere yet.
    ///
    /// # Errors
    /// [`SettingsError`] names the first setting that cannot be used, and the remedy.
    pub fn new(settings: WebhookSettings, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        settings.validate()?.build(clock)
    }

    fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    async fn send(&self, request: Request) -> Result<reqwest::Response, SinkError> {
        self.client.execute(request).await.map_err(|error| failure::of_call(error, &self.origin))
    }
}

impl fmt::Debug for WebhookSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSink")
            .field("target", &self.origin)
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn limits(&self) -> SinkLimits {
        self.limits
    }

    fn size(&self, event: &Event) -> usize {
        request::size(event, self.encoding)
    }

    /// Connects and asks for the target's options, with the configured headers. Any answer will do but one that says
    /// that the events would go nowhere: a redirect, 404, 407, 410, and a gateway's 502, 503 or 504.
    async fn check(&self) -> Result<(), SinkError> {
        let mut request = Request::new(Method::OPTIONS, self.url.clone());
        request.headers_mut().clone_from(&self.headers);
        let status = self.send(request).await?.status();
        let gone = matches!(
            status,
            StatusCode::NOT_FOUND
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::GONE
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        if gone || status.is_redirection() {
            let message = answer::describe(&self.origin, status);
            return Err(SinkError::new(Fault::Sink, message));
        }
        Ok(())
    }

    async fn publish(&self, batch: &Batch) -> Result<Vec<Outcome>, SinkError> {
        let request = self.request(batch)?;
        let response = self.send(request).await?;
        answer::read(response, &self.origin, batch.events.len(), self.now()).await
    }
}

/// A header value that stays out of logs.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests;
