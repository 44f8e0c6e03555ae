//! What becomes of a call.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::Notify;

/// How long a test waits for a call that it holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is answered by the service.
    Pass,
    /// It is answered with this status and this body, and never gets there.
    Answer(u16, String),
    /// It is refused with this status and this code, as the call's protocol writes errors, and never gets there.
    Refuse(u16, String),
    /// The connection ends before it gets there.
    LoseCall,
    /// It gets there, and the connection ends in place of its answer.
    LoseAnswer,
    /// It gets there, and its answer comes so much later.
    Slow(Duration),
    /// It waits on its way until it is released.
    Hold(Held),
    /// It gets there, and its answer waits until it is released.
    HoldAnswer(Held),
    /// These entries of a `PutEvents`, by position, are turned away with these codes and never get there; the others do.
    Entries(Vec<(usize, String)>),
}

impl Fault {
    /// An error of the service's, with the status that the code usually comes with.
    pub fn error(code: &str) -> Self {
        let status = match code {
            code if code.contains("Internal") => 500,
            code if code.contains("Unavailable") || code == "SlowDown" => 503,
            "AccessDenied" => 403,
            "NoSuchBucket" | "NoSuchKey" | "NotFound" => 404,
            _ => 400,
        };
        Self::Refuse(status, code.to_owned())
    }

    /// A DynamoDB transaction cancelled for these reasons, by position; `None` for an action that was fine.
    pub fn cancelled(codes: &[&str]) -> Self {
        let reasons: Vec<_> = codes.iter().map(|code| json!({ "Code": code, "Message": "as scripted" })).collect();
        let body = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "message": "cancelled",
            "CancellationReasons": reasons,
        });
        Self::Answer(400, body.to_string())
    }

    /// These entries of a `PutEvents` are turned away, by position.
    pub fn entries<'c>(codes: impl IntoIterator<Item = (usize, &'c str)>) -> Self {
        Self::Entries(codes.into_iter().map(|(position, code)| (position, code.to_owned())).collect())
    }
}

/// A call on its way, or its answer. A second one made of it is the same.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<[Notify; 3]>);

impl Held {
    /// Waits until the call is there.
    ///
    /// # Panics
    /// If it does not come within half a minute.
    pub async fn arrived(&self) {
        let arrived = tokio::time::timeout(PATIENCE, self.0[0].notified()).await;
        assert!(arrived.is_ok(), "the call that was to be held was not made within {PATIENCE:?}");
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.0[1].notify_one();
    }

    /// Waits until the service has done with it, though nobody may be left who waits for its answer.
    ///
    /// # Panics
    /// If that takes longer than half a minute.
    pub async fn answered(&self) {
        let answered = tokio::time::timeout(PATIENCE, self.0[2].notified()).await;
        assert!(answered.is_ok(), "the call that was held was not answered within {PATIENCE:?}");
    }

    /// Waits to be released.
    pub(super) async fn wait(&self) {
        self.0[0].notify_one();
        self.0[1].notified().await;
    }

    /// The service has answered.
    pub(super) fn is_answered(&self) {
        self.0[2].notify_one();
    }
}
