//! Why a cart was not changed, or not found.

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use outbox::{AttributeError, WriteError};
use outbox_aws::dynamodb::CommitError;

use super::Version;
use crate::cart::Refused;

/// Why a cart was not changed, or not found.
#[derive(Debug, thiserror::Error)]
pub enum CartsError {
    /// There is none.
    #[error("there is no cart with this id: the id is what `POST /cart` answered")]
    NotFound,
    /// The cart is at another version than the client takes.
    #[error("the cart has changed: it is at {} now; read it by `GET /cart/{{id}}`, and decide again", .current.etag())]
    OtherVersion {
        /// Where it is.
        current: Version,
    },
    /// The cart does not change like that.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The key belongs to another request.
    #[error("this `Idempotency-Key` was used for another request: use a new key for each new request")]
    Reused,
    /// The cart, or its event, is larger than the store or the routes take.
    #[error("the cart was not changed, it would become too large: {0}")]
    TooLarge(String),
    /// The database is busy, or other requests were faster each time.
    #[error("nothing was changed: {0}; send the request again")]
    Busy(String),
    /// The answer of the database was lost.
    #[error(
        "it is not known whether the cart was changed: {0}; send the request again with the same `Idempotency-Key`, or read the cart"
    )]
    Unsettled(String),
    /// The database failed, or holds what cannot be read.
    #[error("the database failed: {0}")]
    Store(String),
}

impl From<CommitError> for CartsError {
    fn from(error: CommitError) -> Self {
        let message = error.to_string();
        match error {
            CommitError::Write(WriteError::RetryTransaction { .. } | WriteError::Conflict { .. }) => {
                Self::Busy(message)
            }
            CommitError::Write(WriteError::TooLarge { .. } | WriteError::EntryTooLarge { .. })
            | CommitError::ItemTooLarge { .. }
            | CommitError::TooLargeTogether { .. } => Self::TooLarge(message),
            CommitError::Unsettled { message, .. } => Self::Unsettled(message),
            // Both enums may grow: what is not told apart here is for the log.
            _ => Self::Store(message),
        }
    }
}

/// Others were faster, each time.
pub(super) fn outrun() -> CartsError {
    CartsError::Busy("other requests changed the cart at the same time".to_owned())
}

/// The event could not be made.
pub(super) fn of_event(error: &AttributeError) -> CartsError {
    CartsError::Store(format!("the event about a cart is not one: {error}"))
}

/// A call that read something.
pub(super) fn of_call<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> CartsError {
    let said = error.code().map_or_else(|| "no answer".to_owned(), str::to_owned);
    let passes = match error {
        SdkError::ServiceError(refused) => {
            let throttled = ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"];
            refused.raw().status().is_server_error() || throttled.contains(&said.as_str())
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => true,
        _ => false,
    };
    if passes {
        CartsError::Busy(format!("the database is not to be reached ({said})"))
    } else {
        CartsError::Store(format!("a reading failed ({said})"))
    }
}
