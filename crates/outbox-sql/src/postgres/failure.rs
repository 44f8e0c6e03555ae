//! What PostgreSQL's errors mean for the caller.

use std::{error::Error, fmt};

use outbox::{ErrorKind, StoreError};
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::connection::ConnectOptions;

/// Turns an error of the driver into one that says what to do, with what was attempted in front. Uncertain if the
/// connection broke: then the statement may have taken effect.
pub(crate) fn store_error(attempted: &'static str) -> impl Fn(tokio_postgres::Error) -> StoreError {
    move |error| {
        let said = said(&error);
        let (kind, remedy) = meaning(error.as_db_error());
        let failure = StoreError::new(kind, format!("{attempted}: {said}{remedy}")).because(said);
        let certain = error.as_db_error().map_or_else(|| is_ours(&error), is_certain);
        if certain { failure } else { failure.uncertain() }
    }
}

/// What a failure to connect means.
pub(crate) fn connect_error(options: &ConnectOptions) -> impl Fn(tokio_postgres::Error) -> StoreError {
    move |error| {
        let said = said(&error);
        let (kind, remedy) = match error.as_db_error() {
            Some(answer) => meaning(Some(answer)),
            None => not_connected(&error),
        };
        StoreError::new(kind, format!("connecting to {options}: {said}{remedy}")).because(said)
    }
}

/// What was said, fit for a log: an error's detail may show a row, so only its code and message are kept.
#[derive(Clone, Debug)]
pub(crate) struct Said(String);

#[cfg(feature = "sqlx-postgres")]
impl Said {
    /// What another driver said, without the detail.
    pub(crate) fn new(said: String) -> Self {
        Self(said)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Said {}

/// What `error` says.
pub(crate) fn said(error: &tokio_postgres::Error) -> Said {
    if let Some(answer) = error.as_db_error() {
        return Said(format!("{} (SQLSTATE {})", answer.message(), answer.code().code()));
    }
    match error.source() {
        Some(cause) => Said(format!("{error}: {cause}")),
        None => Said(error.to_string()),
    }
}

/// Whether the statement surely had no effect: the server refused it, and did not end the session, which it, or a pooler
/// before it, may do when the commit has been done.
fn is_certain(answer: &DbError) -> bool {
    let is_refusal = matches!(answer.parsed_severity(), Some(Severity::Error));
    is_refusal && *answer.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
}

/// Whether the error was made on our side, before anything was sent or behind a complete answer.
fn is_ours(error: &tokio_postgres::Error) -> bool {
    let conversion = error.source().is_some_and(|cause| {
        cause.is::<tokio_postgres::types::WrongType>() || cause.is::<tokio_postgres::types::WasNull>()
    });
    conversion && !error.is_closed()
}

/// The kind of failure and, where it helps, the remedy. Without an answer of the server the connection broke.
pub(crate) fn meaning(answer: Option<&DbError>) -> (ErrorKind, &'static str) {
    let Some(answer) = answer else { return (ErrorKind::Unavailable, "") };
    of_state(answer.code().code())
}

/// What a SQLSTATE means. PostgreSQL 18, appendix A; a class stands for its codes that are not named.
pub(crate) fn of_state(state: &str) -> (ErrorKind, &'static str) {
    match state {
        "53100" => (ErrorKind::Full, ": make room on the server's disk"),
        "53300" => (ErrorKind::Unavailable, ": raise max_connections, or close other connections"),
        "57P04" => (ErrorKind::Invalid, ": the database was dropped"),
        "55000" => (ErrorKind::Invalid, ""),
        "25006" => (ErrorKind::NotPermitted, ": this server takes no writes, as a standby does not: name the primary"),
        "42501" => (
            ErrorKind::NotPermitted,
            ": grant this role its rights: `outbox init` with --writer or --relay prints them",
        ),
        "3D000" => (ErrorKind::Invalid, ": create the database, or name another in its URL"),
        "3F000" | "42P01" | "42883" | "42703" => {
            (ErrorKind::Incompatible, ": the outbox tables are missing, or are of another version: run `outbox init`")
        }
        "26000" => (
            ErrorKind::Invalid,
            ": the pooler gave the statement another connection: set it to pool transactions or sessions, not statements",
        ),
        "XX001" | "XX002" => {
            (ErrorKind::Incompatible, ": the database is damaged: restore a backup, then run `outbox adopt`")
        }
        _ => match state.get(..2) {
            Some("08" | "40" | "53" | "55" | "57" | "58" | "72") => (ErrorKind::Unavailable, ""),
            Some("28") => (ErrorKind::NotPermitted, ": check user, password, and the server's pg_hba.conf"),
            Some("0A") => (ErrorKind::Incompatible, ": Outbox needs PostgreSQL 15 or later"),
            Some(_) | None => (ErrorKind::Invalid, ""),
        },
    }
}

/// What it means that no connection came about, without an answer of the server.
fn not_connected(error: &tokio_postgres::Error) -> (ErrorKind, &'static str) {
    use tokio_rustls::rustls;
    let mut cause = error.source();
    while let Some(one) = cause {
        let inner = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if one.is::<rustls::Error>() || matches!(inner, Some(inner) if inner.is::<rustls::Error>()) {
            return (
                ErrorKind::Invalid,
                ": the server has to prove who it is: name the file with its authority's certificate as `sslrootcert` in the database's URL, and the host as the certificate does",
            );
        }
        cause = one.source();
    }
    let text = said(error).to_string();
    if text.contains("password missing") || text.contains("authentication error") {
        return (ErrorKind::NotPermitted, ": check user, password, and the server's pg_hba.conf");
    }
    if text.contains("TLS handshake") {
        return (
            ErrorKind::Invalid,
            ": the server offers no TLS: set it up, or write `sslmode=disable` if nobody can listen in",
        );
    }
    (ErrorKind::Unavailable, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_that_may_pass_can_be_tried_again_and_no_other_can() {
        let passing = [
            "08000", "08006", "40001", "40P01", "53000", "53100", "53200", "53300", "55006", "55P03", "57014", "57P01",
            "57P02", "57P03", "57P05", "58030", "72000",
        ];
        let lasting = [
            "0A000", "22P02", "23505", "25006", "26000", "28000", "28P01", "3D000", "3F000", "42501", "42601", "42703",
            "42883", "42P01", "54000", "55000", "57P04", "P0001", "OX001", "XX000", "XX001",
        ];
        for (states, retry) in [(&passing[..], true), (&lasting[..], false)] {
            for state in states {
                let (kind, _) = of_state(state);
                assert_eq!(kind.retry(), retry, "{state}: {kind:?}");
            }
        }
        assert_eq!(of_state("53100").0, ErrorKind::Full);
        assert_eq!(of_state("28P01").0, ErrorKind::NotPermitted);
        assert_eq!(of_state("42P01").0, ErrorKind::Incompatible);
    }
}
