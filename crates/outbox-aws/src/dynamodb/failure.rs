//! What DynamoDB's errors mean for the caller.
//!
//! Rule: the errors of each operation in the service's model (API version 2012-08-10), and "Error handling with DynamoDB"
//! in the developer guide.

use std::{error::Error, fmt};

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use outbox::{ErrorKind, StoreError};

use crate::said::{is_refused_connection, is_unsigned, is_without_credentials, said, shown};

/// A call that gave no result, in the terms of what the caller can do.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// Whether the effect may have taken place nevertheless.
    pub(super) uncertain: bool,
    /// The service's code, if the service answered.
    pub(super) code: Option<String>,
    said: String,
    remedy: &'static str,
}

impl Failure {
    /// What `error` means.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                Self::answered(answer.err().code(), answer.err().message(), status)
            }
            SdkError::TimeoutError(_) => Self::unanswered("no answer in time".to_owned(), true),
            SdkError::DispatchFailure(_) if is_without_credentials(error) => Self {
                kind: ErrorKind::NotPermitted,
                uncertain: false,
                code: None,
                said: said(error),
                remedy: "; check the credentials: environment, profile, or the role of container or instance",
            },
            SdkError::DispatchFailure(_) => {
                Self::unanswered(said(error), !is_refused_connection(error) && !is_unsigned(error))
            }
            SdkError::ConstructionFailure(_) => Self {
                kind: ErrorKind::Invalid,
                uncertain: false,
                code: None,
                said: said(error),
                remedy: "; check region, endpoint and the request",
            },
            // An answer that is none, or a kind of failure that this version does not know: it may have been sent.
            _ => Self::unanswered(said(error), true),
        }
    }

    /// Neither yes nor no.
    pub(super) fn unanswered(said: String, uncertain: bool) -> Self {
        Self { kind: ErrorKind::Unavailable, uncertain, code: None, said, remedy: "" }
    }

    /// The service answered with `code`.
    fn answered(code: Option<&str>, message: Option<&str>, status: u16) -> Self {
        let (kind, uncertain, remedy) = meaning(code.unwrap_or_default(), status);
        let code = code.unwrap_or("an error without a code");
        let said = match message {
            Some(message) => format!("{code}: {}", shown(message)),
            None => format!("{code} (HTTP {status})"),
        };
        Self { kind, uncertain, code: Some(code.to_owned()), said, remedy }
    }

    /// A transaction was cancelled for this reason of one of its actions.
    ///
    /// Rule: the codes of `CancellationReason`. Nothing was written.
    pub(super) fn cancelled(code: &str, message: Option<&str>) -> Self {
        let (kind, remedy) = match code {
            "TransactionConflict" | "ProvisionedThroughputExceeded" | "ThrottlingError" | "DuplicateTransaction" => {
                (ErrorKind::Unavailable, "")
            }
            "ItemCollectionSizeLimitExceeded" => {
                (ErrorKind::Invalid, "; an item collection beside a local secondary index has reached 10 GB")
            }
            "AccessDenied" => (ErrorKind::NotPermitted, "; grant this role the action on the table"),
            _ => (ErrorKind::Invalid, ""),
        };
        let said = message.map_or_else(|| code.to_owned(), |message| format!("{code}: {}", shown(message)));
        Self { kind, uncertain: false, code: Some(code.to_owned()), said, remedy }
    }

    /// Whether the same call may succeed later.
    pub(super) fn retry(&self) -> bool {
        self.kind.retry()
    }

    /// The same, of a call that only reads: it has no effect that could have taken place.
    pub(super) fn of_reading(mut self) -> Self {
        self.uncertain = false;
        self
    }

    /// The same, but that an attempt before it may have had its effect.
    pub(super) fn after_uncertain(mut self, uncertain: bool) -> Self {
        self.uncertain |= uncertain;
        self
    }

    /// As the error of a store, with what was attempted in front.
    pub(super) fn store_error(self, attempted: &str) -> StoreError {
        let error = StoreError::new(self.kind, format!("{attempted}: {}{}", self.said, self.remedy));
        if self.uncertain { error.uncertain() } else { error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.said, self.remedy)
    }
}

impl Error for Failure {}

/// Kind, whether the effect may have taken place, and the remedy.
pub(super) fn meaning(code: &str, status: u16) -> (ErrorKind, bool, &'static str) {
    use ErrorKind::{Full, Incompatible, Invalid, NotPermitted, Unavailable};
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "LimitExceededException"
        | "ResourceInUseException"
        | "TableInUseException" => (Unavailable, false, ""),
        // The first request with this token is still at work.
        "TransactionInProgressException" => (Unavailable, true, ""),
        "InternalServerError" | "InternalFailure" | "ServiceUnavailable" | "ServiceUnavailableException" => {
            (Unavailable, true, "")
        }
        "ItemCollectionSizeLimitExceededException" => {
            (Full, false, "; an item collection beside a local secondary index has reached 10 GB")
        }
        "ResourceNotFoundException" | "TableNotFoundException" => {
            (Incompatible, false, "; check the table's name and the region, or make the tables with `outbox init`")
        }
        "AccessDeniedException" | "AccessDenied" => {
            (NotPermitted, false, "; grant this role the action on the table: `outbox iam` prints the policy")
        }
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            (NotPermitted, false, "; the credentials have expired: renew them")
        }
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "OptInRequired" => (NotPermitted, false, "; check the credentials, and this machine's clock"),
        "ValidationException"
        | "SerializationException"
        | "IdempotentParameterMismatchException"
        | "DuplicateItemException"
        | "ConditionalCheckFailedException"
        | "UnknownOperationException" => (Invalid, false, ""),
        _ => unnamed(status),
    }
}

/// What the HTTP status alone tells, for codes that the model does not name.
fn unnamed(status: u16) -> (ErrorKind, bool, &'static str) {
    match status {
        401 | 403 => (ErrorKind::NotPermitted, false, "; check the credentials and the role's policy"),
        408 | 500..=599 => (ErrorKind::Unavailable, true, ""),
        429 => (ErrorKind::Unavailable, false, ""),
        _ => (ErrorKind::Invalid, false, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_is_tried_again_and_had_no_effect() {
        for code in ["ThrottlingException", "ProvisionedThroughputExceededException", "TransactionConflictException"] {
            let (kind, uncertain, _) = meaning(code, 400);
            assert!(kind.retry() && !uncertain, "{code}");
        }
    }

    #[test]
    fn an_internal_error_may_have_had_its_effect() {
        assert!(meaning("InternalServerError", 500).1);
        assert!(meaning("NeverHeardOf", 503).1);
    }

    #[test]
    fn missing_rights_and_tables_stop_and_name_the_remedy() {
        for (code, word) in [("AccessDeniedException", "grant"), ("ResourceNotFoundException", "outbox init")] {
            let (kind, _, remedy) = meaning(code, 400);
            assert!(!kind.retry() && remedy.contains(word), "{code}");
        }
    }

    #[test]
    fn a_code_that_the_model_does_not_name_is_judged_by_its_status() {
        assert_eq!(meaning("", 400).0, ErrorKind::Invalid);
        assert_eq!(meaning("", 403).0, ErrorKind::NotPermitted);
        assert_eq!(meaning("", 429).0, ErrorKind::Unavailable);
    }
}
