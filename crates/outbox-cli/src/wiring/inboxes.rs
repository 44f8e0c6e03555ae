//! The databases that consumers have their inboxes in.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use outbox::inbox::InboxOperator;
#[cfg(feature = "aws")]
use outbox_aws::{
    Settings,
    dynamodb::{self, DynamoInbox},
};
use outbox_sql::{
    postgres::{ConnectOptions, PostgresInbox},
    sqlite::{InboxOptions, SqliteInbox},
};

use crate::{exit::Failure, rds};

/// A consumer's own database. Shown without a password.
pub(crate) enum ConsumerDatabase {
    /// A file.
    Sqlite(PathBuf),
    /// On a server.
    Postgres(Box<ConnectOptions>),
    /// A table of DynamoDB, by its name. Region, endpoint and credentials come from the SDK's default chain.
    #[cfg(feature = "aws")]
    Dynamo(String),
}

/// An inbox, of whichever kind.
pub(crate) enum Inbox {
    /// In a file.
    Sqlite(InboxOperator<SqliteInbox>),
    /// On a server.
    Postgres(InboxOperator<PostgresInbox>),
    /// In a table of DynamoDB.
    #[cfg(feature = "aws")]
    Dynamo(InboxOperator<DynamoInbox>),
}

impl ConsumerDatabase {
    /// The one that `named` names: a file, a URL, or a table as `dynamodb:ledger-inbox`. A password that the URL leaves out is
    /// a token of RDS, if its Region is given, or taken from the `environment`.
    ///
    /// # Errors
    /// [`Failure`] for a URL that cannot be read, for a file that is not there, and for a Region of what is not on RDS.
    pub(crate) fn named(
        named: &Path,
        rds_iam: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let url = named.to_str().filter(|text| text.starts_with("postgres://") || text.starts_with("postgresql://"));
        if rds_iam.is_some() && url.is_none() {
            return Err(Failure::usage("--rds-iam: only a PostgreSQL server takes tokens of RDS")
                .help("name one with --db, as postgres://ledger@host/ledger, or leave the option out"));
        }
        #[cfg(feature = "aws")]
        if let Some(table) = named.to_str().and_then(|text| text.strip_prefix("dynamodb:")) {
            return Ok(Self::Dynamo(table.to_owned()));
        }
        let Some(url) = url else {
            if named.exists() {
                return Ok(Self::Sqlite(named.to_owned()));
            }
            return Err(Failure::not_found(format!("there is no database {}", named.display()))
                .help("name the consumer's database with --db"));
        };
        let options = ConnectOptions::parse(url).map_err(|error| Failure::usage(format!("--db: {error}")))?;
        if let Some(region) = rds_iam {
            let options = rds::with_tokens(options, region).map_err(|refused| {
                let (what, help) = refused.told(region);
                Failure::usage(format!("--rds-iam: {what}")).help(help)
            })?;
            return Ok(Self::Postgres(Box::new(options)));
        }
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
            #[cfg(feature = "aws")]
            Self::Dynamo(table) => {
                let client = dynamodb::connect(&Settings::default()).await;
                DynamoInbox::consumers(&client, table, &dynamodb::InboxOptions::default()).await?
            }
        })
    }

    /// Opens the inbox of `consumer`; makes none.
    ///
    /// # Errors
    /// As the store gave it.
    #[cfg_attr(not(feature = "aws"), expect(clippy::unused_async, reason = "on AWS one asks for credentials"))]
    pub(crate) async fn inbox(&self, consumer: &str) -> Result<Inbox, Failure> {
        Ok(match self {
            Self::Sqlite(file) => {
                Inbox::Sqlite(InboxOperator::new(SqliteInbox::open(file, InboxOptions::new(consumer).existing())?))
            }
            Self::Postgres(options) => {
                Inbox::Postgres(InboxOperator::new(PostgresInbox::open(ConnectOptions::clone(options), consumer)?))
            }
            #[cfg(feature = "aws")]
            Self::Dynamo(table) => {
                let client = dynamodb::connect(&Settings::default()).await;
                let inbox = DynamoInbox::open(&client, table, consumer, dynamodb::InboxOptions::default())?;
                Inbox::Dynamo(InboxOperator::new(inbox))
            }
        })
    }
}

impl fmt::Display for ConsumerDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "{}", file.display()),
            Self::Postgres(options) => write!(f, "{options}"),
            #[cfg(feature = "aws")]
            Self::Dynamo(table) => write!(f, "dynamodb:{table}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, password: Option<&str>) -> ConnectOptions {
        let environment = |name: &str| password.filter(|_| name == "PGPASSWORD").map(str::to_owned);
        match ConsumerDatabase::named(Path::new(url), None, environment) {
            Ok(ConsumerDatabase::Postgres(options)) => *options,
            Ok(other) => panic!("{other} is no server"),
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
        assert!(ConsumerDatabase::named(&file, None, |_| None).is_err());
        assert!(!file.exists());
    }

    #[test]
    fn a_region_of_rds_is_refused_for_what_is_no_server() {
        let folder = tempfile::tempdir().unwrap();
        for name in [folder.path().to_str().unwrap(), "dynamodb:ledger-inbox"] {
            let Err(refused) = ConsumerDatabase::named(Path::new(name), Some("eu-west-1"), |_| None) else {
                panic!("{name}")
            };
            assert!(refused.message().contains("--rds-iam"), "{refused:?}");
        }
    }

    #[cfg(feature = "aws")]
    #[test]
    fn a_token_of_rds_takes_the_place_of_a_password_and_goes_with_none() {
        let named = |url: &str, region: &str| {
            ConsumerDatabase::named(Path::new(url), Some(region), |_| Some("hush".to_owned()))
        };
        let Ok(ConsumerDatabase::Postgres(options)) = named("postgres://ledger@localhost/ledger", "eu-west-1") else {
            panic!("it is taken")
        };
        assert!(!options.has_password(), "the environment's is not taken");
        for (url, region, why) in [
            ("postgres://ledger:hush@localhost/ledger", "eu-west-1", "there is a password"),
            ("postgres://ledger@localhost/ledger", "Ireland", "`Ireland` is no Region"),
            ("postgres://ledger@localhost,other/ledger", "eu-west-1", "several hosts"),
        ] {
            let Err(refused) = named(url, region) else { panic!("{url} {region}") };
            assert!(refused.message().contains(why), "{refused:?}");
        }
    }
}
