//! What it means that a call failed as a whole.

use std::error::Error;

use aws_sdk_eventbridge::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::put_events::PutEventsError,
};
use outbox::{Fault, Outcome, SinkError};

use super::meaning::Meaning;
use crate::said::{is_refused_connection, is_unsigned, said, shown};

/// A call for `count` entries failed. Alone, an entry that the service does not want is refused; of several, one is meant.
pub(super) fn of_put(
    error: &SdkError<PutEventsError, HttpResponse>,
    count: usize,
    bus: &str,
) -> Result<Vec<Outcome>, SinkError> {
    if let Some((Meaning::Unwanted, code)) = answered(error) {
        // The service's own words quote the request.
        if count == 1 {
            return Ok(vec![Outcome::Refused { permanent: true, reason: format!("the request was refused: {code}") }]);
        }
        return Err(SinkError::new(Fault::Event, format!("the event bus `{bus}` refused a call of {count}: {code}")));
    }
    Err(of_call(error, &format!("the event bus `{bus}`")))
}

/// A call failed that is about no event, as when it asks whether there is a bus.
pub(super) fn of_call<E>(error: &SdkError<E, HttpResponse>, whom: &str) -> SinkError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let code = answer.err().code().unwrap_or_default();
            of_answer(Meaning::of(code, status), code, answer.err().message(), status, whom)
        }
        SdkError::TimeoutError(_) => {
            SinkError::new(Fault::Unknown, format!("{whom} gave no answer in time")).uncertain()
        }
        SdkError::DispatchFailure(_) if is_unsigned(error) => {
            let remedy = "check the credentials: environment, profile, or the role of container or instance";
            SinkError::new(Fault::Sink, format!("{whom} was not asked: {}; {remedy}", said(error)))
        }
        SdkError::DispatchFailure(_) if is_refused_connection(error) => {
            SinkError::new(Fault::Sink, format!("{whom} cannot be reached: {}", said(error)))
        }
        SdkError::ConstructionFailure(_) => {
            SinkError::new(Fault::Sink, format!("{whom} was not asked: {}; check region and endpoint", said(error)))
        }
        // It may have been sent: an answer that is none, or a kind of failure that this version does not know.
        _ => SinkError::new(Fault::Unknown, format!("{whom} gave no whole answer: {}", said(error))).uncertain(),
    }
}

/// Meaning and code of an error that the service answered with.
pub(super) fn answered<E>(error: &SdkError<E, HttpResponse>) -> Option<(Meaning, String)>
where
    E: ProvideErrorMetadata,
{
    let SdkError::ServiceError(answer) = error else { return None };
    let (code, status) = (answer.err().code().unwrap_or_default(), answer.raw().status().as_u16());
    let shown = if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() };
    Some((Meaning::of(code, status), shown))
}

fn of_answer(meaning: Meaning, code: &str, message: Option<&str>, status: u16, whom: &str) -> SinkError {
    let fault = match meaning {
        Meaning::Throttle => Fault::Throttle,
        // What is not wanted of a call about no event is the configuration.
        Meaning::Down | Meaning::Denied | Meaning::DeniedForEvent | Meaning::NoTarget | Meaning::Unwanted => {
            Fault::Sink
        }
        Meaning::Internal | Meaning::Unknown => Fault::Unknown,
    };
    let code_shown = if code.is_empty() { format!("HTTP {status}") } else { code.to_owned() };
    let said = match (meaning, message) {
        // Who may not do what: neither payload nor secret.
        (Meaning::Denied | Meaning::DeniedForEvent | Meaning::NoTarget, Some(message)) => {
            format!("{code_shown}: {}", shown(message))
        }
        _ => code_shown,
    };
    let text = match meaning.remedy(code) {
        "" => format!("{whom} answered {said}"),
        remedy => format!("{whom} answered {said}; {remedy}"),
    };
    let error = SinkError::new(fault, text);
    if matches!(meaning, Meaning::Internal | Meaning::Down) { error.uncertain() } else { error }
}
