//! The same consumer behind a bus: a rule puts every event into a queue of SQS, which is read here.
//!
//! Neither bus nor queue keeps an order, and both may deliver twice; the inbox puts that right. A message is deleted once
//! what became of its event is durable. All others come again, until the queue's own redrive policy moves them away.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, Message},
};
use outbox::{
    Event,
    cloudevents::json,
    inbox::{Applied, Incoming, RawMessage},
};
use outbox_aws::Settings;
use serde::Deserialize;
use serde_json::value::RawValue;
use tower::Service as _;

use super::Consumer;

/// How long the queue is waited for while nothing comes: below what the client waits for an answer.
const WAIT_SECONDS: i32 = 4;
/// Messages of a call. Rule: `MaxNumberOfMessages` of `ReceiveMessage` in the API reference.
const MESSAGES: i32 = 10;
/// Before a call that failed is made again.
const PAUSE: Duration = Duration::from_millis(500);

/// A queue that a bus puts events into.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    url: String,
}

/// What a rule puts into a queue. Rule: "Events" of EventBridge's user guide.
#[derive(Deserialize)]
struct BusEvent<'a> {
    #[serde(borrow)]
    detail: &'a RawValue,
}

/// A client of SQS as `settings` say. No request is made.
pub async fn client(settings: &Settings) -> Client {
    Client::new(&settings.load().await)
}

impl Queue {
    /// The queue of this URL.
    pub fn new(client: &Client, url: impl Into<String>) -> Self {
        Self { client: client.clone(), url: url.into() }
    }

    /// Gives what comes to `consumer`, until `end`. What it could not take, and what cannot be read from the queue, is told
    /// as a warning and tried again.
    pub async fn run(&self, mut consumer: Consumer, end: impl Future<Output = ()> + Send) {
        let read = async {
            loop {
                match self.receive().await {
                    Ok(messages) if messages.is_empty() => {}
                    Ok(messages) => self.hand_over(&mut consumer, messages).await,
                    Err(why) => {
                        tracing::warn!(%why, "the queue cannot be read: it is tried again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = end => {}
        }
    }

    /// What comes next, in the queue's order; nothing, after some seconds in which nothing came.
    ///
    /// # Errors
    /// What the service said.
    pub async fn receive(&self) -> Result<Vec<Message>, String> {
        let receive = self.client.receive_message().queue_url(&self.url).max_number_of_messages(MESSAGES);
        let received = receive.wait_time_seconds(WAIT_SECONDS).send().await;
        Ok(received.map_err(|error| said(&error))?.messages.unwrap_or_default())
    }

    /// Deletes messages: they are done with.
    ///
    /// # Errors
    /// What the service said. Then they come again, which does no harm.
    pub async fn delete(&self, messages: impl Iterator<Item = &Message>) -> Result<(), String> {
        let entry = |(number, message): (usize, &Message)| {
            let handle = message.receipt_handle.clone().unwrap_or_default();
            DeleteMessageBatchRequestEntry::builder().id(number.to_string()).receipt_handle(handle).build()
        };
        let entries = messages.enumerate().map(entry).collect::<Result<Vec<_>, _>>().map_err(|error| said(&error))?;
        if entries.is_empty() {
            return Ok(());
        }
        let delete = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let deleted = delete.send().await.map_err(|error| said(&error))?;
        match deleted.failed.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} messages were not deleted ({})", deleted.failed.len(), first.code)),
        }
    }

    async fn hand_over(&self, consumer: &mut Consumer, messages: Vec<Message>) {
        let applied = match consumer.call(messages.iter().map(incoming).collect()).await {
            Ok(applied) => applied,
            Err(error) => {
                tracing::warn!(%error, "events could not be applied: they come again");
                return tokio::time::sleep(PAUSE).await;
            }
        };
        for refused in applied.iter().filter(|applied| !applied.may_be_acknowledged()) {
            if let Applied::Refused { reason } | Applied::Stopped { reason } = refused {
                tracing::warn!(%reason, "an event is not taken: it stays in the queue");
            }
        }
        let done = messages.iter().zip(&applied).filter(|(_, applied)| applied.may_be_acknowledged());
        if let Err(why) = self.delete(done.map(|(message, _)| message)).await {
            tracing::warn!(%why, "what is done comes again, and is known then");
        }
    }
}

/// The event in a message.
///
/// # Errors
/// What is wrong with it.
pub fn event(message: &Message) -> Result<Event, String> {
    let body = message.body().unwrap_or_default();
    let bus_event: BusEvent<'_> = serde_json::from_str(body).map_err(|error| format!("no event of a bus: {error}"))?;
    json::decode(bus_event.detail.get().as_bytes()).map_err(|error| error.to_string())
}

fn incoming(message: &Message) -> Incoming {
    match event(message) {
        Ok(event) => Incoming::Event(event),
        Err(reason) => {
            let body = message.body().unwrap_or_default().as_bytes().to_vec();
            Incoming::Undecodable { message: RawMessage::new("application/json", body), reason }
        }
    }
}

fn said(error: &(impl std::error::Error + 'static)) -> String {
    aws_sdk_sqs::error::DisplayErrorContext(error).to_string()
}
