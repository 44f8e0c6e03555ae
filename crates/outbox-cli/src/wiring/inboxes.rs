//! The databases that consumers have their inboxes in.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use outbox::inbox::InboxOperator;
use outbox_sql::{
    postgres::{ConnectOptions, PostgresInbox},
    sqlite::{InboxOptions, SqliteInbox},
};

use crate::exit::Failure;

/// A consumer's own database. Shown without a password.
pub(crate) enum ConsumerDatabase {
    /// A file.
    Sqlite(PathBuf),
    /// On a server.
    Postgres(Box<ConnectOptions>),
}

/// An inbox, of whichever kind.
pub(crate) enum Inbox {
    /// In a file.
    Sqlite(InboxOperator<SqliteInbox>),
    /// On a server.
    Postgres(InboxOperator<PostgresInbox>),
}

impl ConsumerDatabase {
    /// The one that `named` names, a file or a URL. A password that the URL leaves out is taken from the `environment`.
    ///
    /// # Errors
    /// [`Failure`] for a URL that cannot be read, and for a file that is not there.
    pub(crate) fn named(named: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let url = named.to_str().filter(|text| text.starts_with("postgres://") || text.starts_with("postgresql://"));
        let Some(url) = url else {
            if named.exists() {
                return Ok(Self::Sqlite(named.to_owned()));
            }
            return Err(Failure::not_found(format!("there is no database {}", named.display()))
                .help("name the consumer's database with --db"));
        };
        let options = ConnectOptions::parse(url).map_err(|error| Failure::usage(format!("--db: {error}")))?;
        // As for every program that talks to PostgreSQL.
        let password = environment("PGPASSWORD").filter(|_| !options.has_password());
        Ok(Self::Postgres(Box::new(match password {
            Some(password) => options.password(password),
            None => options,
        })))
    }

    /// The consumers that have an inbox in it.
    ///
    /// # Errors
    /// As the store gave it.
    pub(crate) async fn consumers(&self) -> Result<Vec<String>, Failure> {
        Ok(match self {
            Self::Sqlite(file) => SqliteInbox::consumers(file)?,
            Self::Postgres(options) => PostgresInbox::consumers(options).await?,
        })
    }

    /// Opens the inbox of `consumer`; makes none.
    ///
    /// # Errors
    /// As the store gave it.
    pub(crate) fn inbox(&self, consumer: &str) -> Result<Inbox, Failure> {
        Ok(match self {
            Self::Sqlite(file) => {
                Inbox::Sqlite(InboxOperator::new(SqliteInbox::open(file, InboxOptions::new(consumer).existing())?))
            }
            Self::Postgres(options) => {
                Inbox::Postgres(InboxOperator::new(PostgresInbox::open(ConnectOptions::clone(options), consumer)?))
            }
        })
    }
}

impl fmt::Display for ConsumerDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "{}", file.display()),
            Self::Postgres(options) => write!(f, "{options}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, password: Option<&str>) -> ConnectOptions {
        let environment = |name: &str| password.filter(|_| name == "PGPASSWORD").map(str::to_owned);
        match ConsumerDatabase::named(Path::new(url), environment) {
            Ok(ConsumerDatabase::Postgres(options)) => *options,
            Ok(ConsumerDatabase::Sqlite(file)) => panic!("{} is no file", file.display()),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    #[test]
    fn a_password_that_the_url_leaves_out_comes_from_the_environment() {
        assert!(!options("postgres://ledger@localhost/ledger", None).has_password());
        assert!(options("postgresql://ledger@localhost/ledger", Some("hush")).has_password());
        assert!(options("postgres://ledger:hush@localhost/ledger", None).has_password());
    }

    #[test]
    fn a_file_is_not_made_by_looking_for_an_inbox_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        assert!(ConsumerDatabase::named(&file, |_| None).is_err());
        assert!(!file.exists());
    }
}
