//! How a receiver behaves.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::{Clock, System},
    event::Event,
    signature::Verifier,
};

/// A rule that may refuse an event by name, before anything is recorded: the sender then keeps it as its dead letter,
/// and redrives it once the rule is mended. The reason is shown to the sender.
pub type Screen = Arc<dyn Fn(&Event) -> Result<(), String> + Send + Sync>;

/// What becomes of a message that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undecodable {
    /// It is refused, and stays with its sender. For a receiver that strangers can reach: they could fill the database
    /// otherwise.
    #[default]
    Refuse,
    /// It is kept as a dead letter of this consumer, with its raw bytes, and acknowledged. For senders that are known
    /// (their requests are signed) and that would drop what is refused.
    DeadLetter,
}

/// How a receiver behaves.
#[derive(Clone)]
pub struct ReceiverSettings {
    /// Where events are received: `/events` unless set.
    pub path: String,
    /// The largest body, in bytes: 1 MiB unless set.
    pub max_body: usize,
    /// How long a body may take to arrive: 10 s unless set.
    pub body_within: Duration,
    /// How long the inbox may take before the answer is 503, and how long a request waits for its turn: 25 s unless
    /// set. What the inbox has begun it finishes, also if the sender hung up, and takes the repetition for a duplicate.
    pub answer_within: Duration,
    /// Requests at a time, those included whose sender is gone and that the inbox still works at; further ones wait
    /// before their body is read. With `max_body` this bounds the memory.
    pub max_requests: usize,
    /// Checks signatures and time stamps; without it every request is believed.
    pub verifier: Option<Verifier>,
    /// What becomes of what cannot be decoded.
    pub undecodable: Undecodable,
    /// A rule that may refuse events by name.
    pub screen: Option<Screen>,
    /// For the time stamps of signatures.
    pub clock: Arc<dyn Clock>,
}

impl Default for ReceiverSettings {
    fn default() -> Self {
        Self {
            path: "/events".to_owned(),
            max_body: 1 << 20,
            body_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(25),
            max_requests: 64,
            verifier: None,
            undecodable: Undecodable::default(),
            screen: None,
            clock: Arc::new(System),
        }
    }
}

impl ReceiverSettings {
    /// A receiver that believes only what `verifier` accepts, and that keeps what it cannot decode as a dead letter.
    pub fn signed(verifier: Verifier) -> Self {
        Self { verifier: Some(verifier), undecodable: Undecodable::DeadLetter, ..Self::default() }
    }

    /// Refuses events that `screen` refuses, with its reason.
    pub fn screen(mut self, screen: impl Fn(&Event) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.screen = Some(Arc::new(screen));
        self
    }
}
