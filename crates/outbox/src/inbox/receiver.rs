//! Receiving CloudEvents over HTTP, for an inbox.
//!
//! A request is believed (its signature and time stamp), bounded (its size, the time its body takes), decoded (binary,
//! structured or batch), screened, and handed to the inbox; it is answered 2xx only once what became of every event is
//! durable. A batch of which some events were not taken is answered `207` with an outcome for each.
//!
//! | answer | when |
//! |---|---|
//! | 204 | applied, or nothing to do |
//! | 202 | kept: parked, to be tried again, or a dead letter of this consumer |
//! | 207 | a batch of which some were not taken: `application/vnd.outbox.outcomes+json` |
//! | 400, 415, 422 | not decodable; not a `CloudEvent`; refused by the screen, or without the place that the mode needs |
//! | 401 | signature or time stamp missing or wrong |
//! | 403 | the route is not gapless, and the mode needs one that is |
//! | 405, 408, 413 | another method than POST; a body that came too slowly; one that is too large |
//! | 503 | the inbox's store did not take it, or not in time: send it again |

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::post,
};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, Service, ServiceExt};
use tracing::Instrument;

use super::{Applied, Incoming, RawMessage};
use crate::{
    cloudevents::{DecodeError, http as binding, json},
    error::StoreError,
    event::Event,
};

mod answer;
mod settings;

pub use settings::{ReceiverSettings, Screen, Undecodable};

use answer::{Refused, Verdict, problem};

/// An HTTP router that receives events at [`ReceiverSettings::path`] for `inbox`: an
/// [`InboxService`](super::InboxService), or one with more layers around it.
pub fn router<S>(inbox: S, settings: ReceiverSettings) -> Router
where
    S: Service<Vec<Incoming>, Response = Vec<Applied>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let path = settings.path.clone();
    let room = Arc::new(Semaphore::new(settings.max_requests));
    let receiver = Arc::new(Receiver { inbox, settings, room });
    let receive = move |request: Request| {
        let receiver = receiver.clone();
        async move { receiver.receive(request).await.unwrap_or_else(Refused::into_response) }
    };
    Router::new().route(&path, post(receive).fallback(wrong_method))
}

async fn wrong_method() -> Response {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "events are received by POST");
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
    response
}

struct Receiver<S> {
    inbox: S,
    settings: ReceiverSettings,
    room: Arc<Semaphore>,
}

impl<S> Receiver<S>
where
    S: Service<Vec<Incoming>, Response = Vec<Applied>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn receive(&self, request: Request) -> Result<Response, Refused> {
        let settings = &self.settings;
        let turn = tokio::time::timeout(settings.answer_within, self.room.clone().acquire_owned());
        let Ok(Ok(turn)) = turn.await else {
            return Err(Refused::unavailable("too many requests at a time: send it again"));
        };
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        check_encoding(&headers)?;
        check_length(&headers, settings.max_body)?;
        let body = tokio::time::timeout(settings.body_within, read(body, settings.max_body))
            .await
            .map_err(|_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))??;
        self.verify(&headers, &body)?;
        let decoded =
            binding::decode(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), body.clone());
        match decoded {
            Ok(binding::Received::One(event)) => {
                let verdict = self.take(vec![self.screen(event)], turn).await?.pop();
                Ok(verdict.map_or_else(answer::nothing, Verdict::into_response))
            }
            Ok(binding::Received::Batch(events)) => {
                let events = self.screen_batch(events, &body);
                Ok(answer::batch(self.take(events, turn).await?))
            }
            Err(error) => self.undecodable(raw(&headers, body), &error, turn).await,
        }
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Refused> {
        let Some(verifier) = &self.settings.verifier else { return Ok(()) };
        let text = |name| {
            headers.get(name).and_then(|value| value.to_str().ok()).ok_or_else(|| {
                Refused::new(StatusCode::UNAUTHORIZED, &format!("the request is not signed: `{name}` is missing"))
            })
        };
        let (id, timestamp, signature) = (text("webhook-id")?, text("webhook-timestamp")?, text("webhook-signature")?);
        verifier.verify(id, timestamp, signature, body, self.settings.clock.wall()).map_err(|error| {
            tracing::warn!(%error, "a request was not believed");
            Refused::new(StatusCode::UNAUTHORIZED, &error.to_string())
        })
    }

    /// What is to be done with one event: applied, unless a rule refuses it.
    fn screen(&self, event: Event) -> Task {
        match self.settings.screen.as_ref().map(|screen| screen(&event)) {
            Some(Err(reason)) => Task::Answer(Verdict::refused(StatusCode::UNPROCESSABLE_ENTITY, &reason)),
            Some(Ok(())) | None => Task::Apply(Incoming::Event(event)),
        }
    }

    /// The same for a batch. What follows a refused event in its key is left with the sender, which keeps it behind
    /// that one: nothing overtakes.
    fn screen_batch(&self, events: Vec<Result<Event, DecodeError>>, body: &[u8]) -> Vec<Task> {
        let mut stopped = HashSet::new();
        let mut elements = None;
        let screened = events.into_iter().enumerate().map(|(index, decoded)| match decoded {
            Ok(event) => {
                let lane = event.key().map(|key| (event.source().to_owned(), key.clone()));
                if lane.as_ref().is_some_and(|lane| stopped.contains(lane)) {
                    return Task::Answer(Verdict::later("an earlier event of this key was refused"));
                }
                let task = self.screen(event);
                if matches!(task, Task::Answer(_)) {
                    stopped.extend(lane);
                }
                task
            }
            Err(error) => match self.settings.undecodable {
                Undecodable::Refuse => Task::Answer(Verdict::refused(StatusCode::BAD_REQUEST, &error.to_string())),
                Undecodable::DeadLetter => {
                    let element =
                        elements.get_or_insert_with(|| elements_of(body)).get(index).map_or("", |raw| raw.get());
                    let message = RawMessage::new(json::MEDIA_TYPE, element.to_owned());
                    Task::Apply(Incoming::Undecodable { message, reason: error.to_string() })
                }
            },
        });
        screened.collect()
    }

    /// Hands to the inbox what is to be applied, and gives the verdict on each task in order.
    async fn take(&self, tasks: Vec<Task>, turn: OwnedSemaphorePermit) -> Result<Vec<Verdict>, Refused> {
        let mut incoming = Vec::new();
        let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(tasks.len());
        for task in tasks {
            match task {
                Task::Apply(message) => {
                    incoming.push(message);
                    verdicts.push(None);
                }
                Task::Answer(verdict) => verdicts.push(Some(verdict)),
            }
        }
        let mut applied = if incoming.is_empty() { Vec::new() } else { self.apply(incoming, turn).await? }.into_iter();
        let missing = || Refused::unavailable("the inbox gave no outcome for an event: send it again");
        verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Some(verdict) => Ok(verdict),
                None => applied.next().map(Verdict::of).ok_or_else(missing),
            })
            .collect()
    }

    /// The inbox works in a task of its own, and finishes though the answer is late or the sender hung up: to drop it
    /// would cut it in two wherever it waits. The request's turn lasts until then, or senders that come again could
    /// begin without limit.
    async fn apply(&self, incoming: Vec<Incoming>, turn: OwnedSemaphorePermit) -> Result<Vec<Applied>, Refused> {
        let applying = self.inbox.clone().oneshot(incoming);
        let working = async move {
            let applied = applying.await.map_err(Into::<BoxError>::into);
            drop(turn);
            applied
        };
        let working = tokio::spawn(working.in_current_span());
        match tokio::time::timeout(self.settings.answer_within, working).await {
            Ok(Ok(Ok(applied))) => Ok(applied),
            Ok(Ok(Err(error))) => {
                let retry = error.downcast_ref::<StoreError>().is_none_or(|error| error.kind().retry());
                tracing::error!(error = %error, "the inbox could not take a request; nothing of it is acknowledged");
                let delay = Duration::from_secs(if retry { 2 } else { 30 });
                Err(Refused::unavailable("the inbox cannot record events now: send it again").retry_after(delay))
            }
            Ok(Err(ended)) => {
                tracing::error!(error = %ended, "the inbox ended without an answer; nothing of it is acknowledged");
                Err(Refused::unavailable("the inbox gave no answer: send it again"))
            }
            Err(_) => Err(Refused::unavailable("the inbox did not answer in time: send it again")),
        }
    }

    async fn undecodable(
        &self,
        message: RawMessage,
        error: &DecodeError,
        turn: OwnedSemaphorePermit,
    ) -> Result<Response, Refused> {
        let status = match error {
            DecodeError::NotACloudEvent | DecodeError::Format(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::BAD_REQUEST,
        };
        match self.settings.undecodable {
            Undecodable::Refuse => Err(Refused::new(status, &error.to_string())),
            Undecodable::DeadLetter => {
                let task = Task::Apply(Incoming::Undecodable { message, reason: error.to_string() });
                let verdict = self.take(vec![task], turn).await?.pop();
                Ok(verdict.map_or_else(answer::nothing, Verdict::into_response))
            }
        }
    }
}

/// What is to be done with one event of a request.
enum Task {
    Apply(Incoming),
    Answer(Verdict),
}

/// A body that is compressed is nothing that its signature or its limit could be checked against.
fn check_encoding(headers: &HeaderMap) -> Result<(), Refused> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body without `content-encoding`"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), Refused> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: usize) -> Refused {
    let message = format!("the body has more than {limit} bytes: send fewer or smaller events at a time");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, &message)
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Refused> {
    let mut stream = body.into_data_stream();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
        if read.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

/// The message as it came, with the headers that matter for its decoding.
fn raw(headers: &HeaderMap, body: Bytes) -> RawMessage {
    let matters = |name: &str| name == binding::CONTENT_TYPE || name.starts_with(binding::PREFIX);
    let headers = headers
        .iter()
        .filter(|(name, _)| matters(name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    RawMessage { headers, body }
}

/// The elements of a batch, byte for byte.
fn elements_of(body: &[u8]) -> Vec<&serde_json::value::RawValue> {
    serde_json::from_slice(body).unwrap_or_default()
}

#[cfg(test)]
mod tests;
