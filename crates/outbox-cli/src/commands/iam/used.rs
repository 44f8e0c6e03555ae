//! What a configuration uses on AWS.

use std::fmt;

use outbox::RouteName;
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
    /// The account, if its own ARN, or that of the role it is used as, tells.
    pub account: Option<String>,
    /// The route that uses it, if it is but one's.
    pub route: Option<RouteName>,
}

/// How the configuration calls it.
#[derive(Clone, Debug)]
pub(super) enum Named {
    /// By its ARN.
    Arn(String),
    /// An event bus by its name.
    Bus(String),
    /// A function of Lambda.
    Function(String),
    /// All event source mappings.
    Mappings,
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
            Self::Function(name) => write!(f, "the function `{name}`"),
            Self::Mappings => f.write_str("the event source mappings"),
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
            used.extend(named.map(|(thing, named)| of(thing, named, &dynamo.aws)));
            for function in config.forwarders.values() {
                let account = account_of(function);
                let function = of(Thing::Function, Named::Function(function.clone()), &dynamo.aws);
                used.push(Used { account: account.or_else(|| function.account.clone()), ..function });
                used.push(of(Thing::Mappings, Named::Mappings, &dynamo.aws));
            }
        }
    }
    match &config.relay.bookkeeping {
        BookkeepingConfig::Sqlite(_) | BookkeepingConfig::Postgres { .. } => {}
        BookkeepingConfig::Dynamo { table, aws } => {
            used.push(of(Thing::Bookkeeping, Named::Table(table.clone()), aws));
        }
    }
    for route in &config.routes {
        match &route.sink {
            SinkConfig::EventBridge(settings) => {
                let route = Some(&route.settings.name);
                used.extend(bus(settings).into_iter().map(|used| Used { route: route.cloned(), ..used }));
            }
            SinkConfig::Webhook(_) | SinkConfig::File(_) | SinkConfig::Stdout => {}
        }
    }
    used
}

/// A table of inboxes, which no configuration names.
pub(super) fn inbox(table: &str) -> Used {
    of(Thing::Inbox, Named::Table(table.to_owned()), &Settings::default())
}

fn of(thing: Thing, named: Named, aws: &Settings) -> Used {
    Used { thing, named, aws: aws.clone(), account: aws.role.as_deref().and_then(account_of), route: None }
}

fn bus(settings: &EventBridgeSettings) -> Vec<Used> {
    let aws = &settings.aws;
    let bus = &settings.bus;
    let named = if bus.starts_with("arn:") { Named::Arn(bus.clone()) } else { Named::Bus(bus.clone()) };
    let mut used = vec![of(Thing::Bus, named, aws)];
    if let Some(claim_check) = &settings.claim_check {
        let bucket = claim_check.bucket.clone();
        used.push(of(Thing::Bucket, Named::Bucket(bucket.clone()), aws));
        used.push(of(Thing::Objects, Named::Objects { bucket, prefix: claim_check.prefix.clone() }, aws));
        used.extend(claim_check.kms_key.iter().map(|key| of(Thing::Key, Named::Arn(key.clone()), aws)));
    }
    used
}

/// The account that an ARN names.
fn account_of(arn: &str) -> Option<String> {
    let account = arn.strip_prefix("arn:")?.split(':').nth(3)?;
    (account.len() == 12).then(|| account.to_owned())
}
