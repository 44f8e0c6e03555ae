//! Whose fault an error of EventBridge or S3 is, by its code.
//!
//! Rule: `PutEventsResultEntry` and "Common error types" of EventBridge's API reference; "Error responses" of S3's.

/// What a code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The service asks for a pause.
    Throttle,
    /// The service is out of order, and says so.
    Down,
    /// This role may not, or its credentials are not what they should be.
    Denied,
    /// This role may not publish events with such attributes.
    DeniedForEvent,
    /// There is no such bus or bucket.
    NoTarget,
    /// The service does not want this event.
    Unwanted,
    /// Something went wrong inside, and the effect may have taken place.
    Internal,
    /// Nobody knows.
    Unknown,
}

impl Meaning {
    /// What `code` says; where it is none that is known, what the HTTP status alone says.
    pub(super) fn of(code: &str, status: u16) -> Self {
        match code {
            "ThrottlingException"
            | "Throttling"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "SlowDown" => Self::Throttle,
            "ServiceUnavailable" | "ServiceUnavailableException" => Self::Down,
            "AccessDeniedException"
            | "AccessDenied"
            | "InvalidAccountIdException"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "OptInRequired"
            | "NotAuthorized"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
            | "InvalidToken"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId" => Self::Denied,
            "NotAuthorizedForSourceException" | "NotAuthorizedForDetailTypeException" => Self::DeniedForEvent,
            "ResourceNotFoundException" | "NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
                Self::NoTarget
            }
            "ValidationException"
            | "InvalidArgument"
            | "MalformedDetail"
            | "RedactionFailure"
            | "EntityTooLarge"
            | "RequestEntityTooLarge"
            | "RequestEntityTooLargeException" => Self::Unwanted,
            "InternalFailure" | "InternalException" | "InternalServerError" | "InternalError" | "RequestTimeout" => {
                Self::Internal
            }
            _ => Self::of_status(status),
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            301 | 307 | 404 => Self::NoTarget,
            // A success that cannot be read as one may be one.
            200..=299 | 408 | 500 | 502 | 504 => Self::Internal,
            413 => Self::Unwanted,
            429 => Self::Throttle,
            503 => Self::Down,
            _ => Self::Unknown,
        }
    }

    /// What to do about it.
    pub(super) fn remedy(self, code: &str) -> &'static str {
        match self {
            Self::Denied => match code {
                "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
                    "the credentials have expired: renew them"
                }
                "AccessDenied" | "AccessDeniedException" | "NotAuthorized" => {
                    "grant this role the action on the bus, bucket or key: `outbox iam` prints the policy"
                }
                _ => "check the credentials, the account, and this machine's clock",
            },
            Self::DeniedForEvent => {
                "the policy of this role or of the bus does not allow events of this source or detail type: allow them, \
                 or filter them out in the route"
            }
            Self::NoTarget => "make it, or mend its name or the region",
            Self::Throttle => "ask for a higher quota if it lasts",
            Self::Unwanted | Self::Down | Self::Internal | Self::Unknown => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Meaning::{Denied, Down, Internal, NoTarget, Throttle, Unknown, Unwanted},
        *,
    };

    #[test]
    fn the_codes_of_entries_that_the_reference_names_are_told_apart() {
        for (code, meaning) in [
            ("InternalFailure", Meaning::Internal),
            ("ThrottlingException", Meaning::Throttle),
            ("AccessDeniedException", Meaning::Denied),
            ("InvalidAccountIdException", Meaning::Denied),
            ("InvalidArgument", Meaning::Unwanted),
            ("MalformedDetail", Meaning::Unwanted),
            ("RedactionFailure", Meaning::Unwanted),
            ("NotAuthorizedForSourceException", Meaning::DeniedForEvent),
            ("NotAuthorizedForDetailTypeException", Meaning::DeniedForEvent),
            ("NeverHeardOf", Meaning::Unknown),
        ] {
            assert_eq!(Meaning::of(code, 400), meaning, "{code}");
        }
    }

    #[test]
    fn a_code_that_nobody_knows_is_judged_by_its_status() {
        let meanings = [403, 404, 413, 429, 500, 503, 400].map(|status| Meaning::of("", status));
        assert_eq!(meanings, [Denied, NoTarget, Unwanted, Throttle, Internal, Down, Unknown]);
    }
}
