//! What a configuration uses on AWS.

use std::fmt;

use outbox_aws::{Settings, eventbridge::EventBridgeSettings, iam::Thing};

use crate::config::{BookkeepingConfig, Config, DatabaseConfig, SinkConfig};

/// One thing that is used.
#[derive(Clone, Debug)]
pub(super) struct Used {
    /// What it is.
    pub thing: Thing,
    /// What it is called.
    pub named: Named,
    /// Where it is, and as whom it is used.
    pub aws: Settings,
    /// The account, if something in the configuration tells.
    pub account: Option<String>,
}

/// How the configuration calls it.
#[derive(Clone, Debug)]
pub(super) enum Named {
    /// By its ARN.
    Arn(String),
    /// An event bus by its name.
    Bus(String),
    /// A table of DynamoDB.
    Table(String),
    /// The streams of a table.
    Streams(String),
    /// A bucket.
    Bucket(String),
    /// Objects of a bucket whose keys begin alike.
    Objects {
        /// The bucket.
        bucket: String,
        /// What the keys begin with.
        prefix: String,
    },
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arn(arn) => f.write_str(arn),
            Self::Bus(name) => write!(f, "the event bus `{name}`"),
            Self::Table(name) | Self::Streams(name) => write!(f, "the table `{name}`"),
            Self::Bucket(name) | Self::Objects { bucket: name, .. } => write!(f, "the bucket `{name}`"),
        }
    }
}

/// Everything that `config` uses.
pub(super) fn by(config: &Config) -> Vec<Used> {
    let mut used = Vec::new();
    match &config.store.database {
        DatabaseConfig::Sqlite(_) | DatabaseConfig::Postgres(_) => {}
        DatabaseConfig::Dynamo(dynamo) => {
            let tables = dynamo.tables();
            let (entries, heads) = match tables.mapping() {
                Some(_) => (Thing::Mapped, Thing::Store),
                None => (Thing::Entries, Thing::Heads),
            };
            let named = [
                (entries, Named::Table(tables.entries().to_owned())),
                (Thing::Stream, Named::Streams(tables.entries().to_owned())),
                (heads, Named::Table(tables.heads().to_owned())),
            ];
            used.extend(named.map(|(thing, named)| on_dynamodb(thing, named, &dynamo.aws)));
        }
    }
    match &config.relay.bookkeeping {
        BookkeepingConfig::Sqlite(_) | BookkeepingConfig::Postgres { .. } => {}
        BookkeepingConfig::Dynamo { table, aws } => {
            used.push(on_dynamodb(Thing::Bookkeeping, Named::Table(table.clone()), aws));
        }
    }
    for route in &config.routes {
        match &route.sink {
            SinkConfig::EventBridge(settings) => used.extend(bus(settings)),
            SinkConfig::Webhook(_) | SinkConfig::File(_) | SinkConfig::Stdout => {}
        }
    }
    // One account is told for all, if all that tell say the same.
    let told: std::collections::BTreeSet<_> = used.iter().filter_map(|used| used.account.clone()).collect();
    if let [account] = told.into_iter().collect::<Vec<_>>().as_slice() {
        for used in &mut used {
            used.account = Some(account.clone());
        }
    }
    used
}

/// A table of inboxes, which no configuration names.
pub(super) fn inbox(table: &str) -> Used {
    on_dynamodb(Thing::Inbox, Named::Table(table.to_owned()), &Settings::default())
}

fn on_dynamodb(thing: Thing, named: Named, aws: &Settings) -> Used {
    Used { thing, named, aws: aws.clone(), account: aws.role.as_deref().and_then(account_of) }
}

fn bus(settings: &EventBridgeSettings) -> Vec<Used> {
    let aws = &settings.aws;
    let account = aws.role.as_deref().or(Some(settings.bus.as_str())).and_then(account_of);
    let of = |thing, named| Used { thing, named, aws: aws.clone(), account: account.clone() };
    let bus = &settings.bus;
    let named = if bus.starts_with("arn:") { Named::Arn(bus.clone()) } else { Named::Bus(bus.clone()) };
    let mut used = vec![of(Thing::Bus, named)];
    if let Some(claim_check) = &settings.claim_check {
        let bucket = claim_check.bucket.clone();
        used.push(of(Thing::Bucket, Named::Bucket(bucket.clone())));
        used.push(of(Thing::Objects, Named::Objects { bucket, prefix: claim_check.prefix.clone() }));
        used.extend(claim_check.kms_key.iter().map(|key| of(Thing::Key, Named::Arn(key.clone()))));
    }
    used
}

/// The account that an ARN names.
fn account_of(arn: &str) -> Option<String> {
    let account = arn.strip_prefix("arn:")?.split(':').nth(3)?;
    (account.len() == 12).then(|| account.to_owned())
}
