//! What an SDK's error says, whatever the service.

use std::{error::Error, fmt::Write as _};

use aws_credential_types::provider::error::CredentialsError;

/// The error and what caused it, for what the SDK says by itself is seldom more than "dispatch failure".
pub(crate) fn said(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for link in chain(error) {
        let told = link.to_string();
        if !text.contains(&told) {
            let _ = write!(text, "{}{told}", if text.is_empty() { "" } else { ": " });
        }
    }
    shown(&text)
}

/// The links of a chain of causes, the error itself first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether a request could not be signed, for want of credentials, and so was not sent.
#[cfg(any(feature = "dynamodb", feature = "eventbridge"))]
pub(crate) fn is_unsigned(error: &(dyn Error + 'static)) -> bool {
    credentials_errors(error).next().is_some()
}

/// The same, and nobody will have any: there is nowhere to take them from, or what says where is wrong. Whoever is there and
/// gave none, as a role that could not be assumed just now, may do so later.
#[cfg(any(feature = "dynamodb", feature = "lambda"))]
pub(crate) fn is_without_credentials(error: &(dyn Error + 'static)) -> bool {
    use CredentialsError::{CredentialsNotLoaded, InvalidConfiguration};
    credentials_errors(error).any(|error| matches!(error, CredentialsNotLoaded(_) | InvalidConfiguration(_)))
}

fn credentials_errors<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a CredentialsError> {
    chain(error).filter_map(|link| link.downcast_ref())
}

/// Whether nobody was there to take the request.
#[cfg(any(feature = "dynamodb", feature = "eventbridge"))]
pub(crate) fn is_refused_connection(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .filter_map(|link| link.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Fit for a log: one line, of bounded length. The services' messages name attributes, and no values but in requests that
/// were malformed.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(512).collect()
}
