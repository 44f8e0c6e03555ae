//! Calls without an answer.

use std::error::Error;

use crate::sink::{Fault, SinkError};

/// Whose fault it is that no answer came.
///
/// Not connected is the sink's, and surely without effect. Once the request was under way nobody knows whether it
/// arrived: such a failure is uncertain.
pub(super) fn of_call(error: reqwest::Error, origin: &str) -> SinkError {
    // The message names the origin; the URL may hold secrets.
    let error = error.without_url();
    let cause = root_cause(&error);
    let failure = if error.is_builder() {
        SinkError::new(Fault::Sink, format!("cannot make a request to {origin}: {cause}; mend `url` and `headers`"))
    } else if error.is_connect() {
        SinkError::new(Fault::Sink, format!("cannot connect to {origin}: {cause}; {}", remedy(&error, &cause)))
    } else if error.is_timeout() {
        let message = format!("{origin} did not answer in time; if it needs longer, raise `timeout`");
        SinkError::new(Fault::Unknown, message).uncertain()
    } else {
        let message = format!("no whole answer from {origin}: {cause}; look at the target's log");
        SinkError::new(Fault::Unknown, message).uncertain()
    };
    failure.because(error)
}

fn remedy(error: &reqwest::Error, cause: &str) -> &'static str {
    if error.is_dns() {
        "mend the host in `url`, or the machine's name resolution"
    } else if cause.contains("certificate") {
        "if an authority of your own signed the target's certificate, give it as `root_certificates`"
    } else if error.is_timeout() {
        "see that the target runs and that no firewall is between, or raise `connect_timeout`"
    } else {
        "see that the target runs and that `url` has the right host and port"
    }
}

/// The innermost error's text, which says what really happened.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    super::answer::shorten(&innermost.to_string())
}
