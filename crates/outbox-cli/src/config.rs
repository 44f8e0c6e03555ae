//! The configuration: one TOML file, read, validated into a typed value, and only then built (`wiring`).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use outbox::{RouteSettings, sinks::WebhookSettings};
#[cfg(feature = "aws")]
use outbox_aws::eventbridge::EventBridgeSettings;

mod database;
pub(crate) mod document;
#[cfg(test)]
#[cfg(feature = "command")]
mod mistakes;
#[cfg(all(feature = "command", any(test, feature = "testing")))]
pub(crate) mod properties;
mod section;
mod substitute;
pub(crate) mod units;
mod validate;

#[cfg(feature = "aws")]
pub(crate) use database::DynamoConfig;
pub(crate) use database::{BookkeepingConfig, DatabaseConfig};
#[cfg(feature = "sql")]
pub(crate) use database::{LogConfig, PostgresConfig};
pub(crate) use document::Problems;
use document::Secrets;

/// The file that is read unless `--config` names another.
pub(crate) const DEFAULT_FILE: &str = "outbox.toml";

/// A valid configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[relay]`.
    pub relay: RelayConfig,
    /// `[[route]]`, in the order of the file; at least one.
    pub routes: Vec<RouteConfig>,
    /// `[lambda]`: by route, the function that publishes its events. Empty where a relay does.
    pub forwarders: BTreeMap<String, String>,
}

/// The business store.
#[derive(Clone, Debug)]
pub(crate) struct StoreConfig {
    /// The database with the service's data and its entries.
    pub database: DatabaseConfig,
    /// The CloudEvents `source` that `outbox init` gives new tables.
    pub producer: Option<String>,
    /// How long published entries are kept.
    pub retention: Retention,
}

/// How long published entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// For ever.
    Off,
    /// So long after they were recorded.
    Age(Duration),
    /// The newest so many.
    Newest(u64),
}

/// The relay.
#[derive(Clone, Debug)]
pub(crate) struct RelayConfig {
    /// What its lease is called.
    pub name: String,
    /// What it keeps for itself.
    pub bookkeeping: BookkeepingConfig,
    /// How long its lease stands still before another relay takes over.
    pub failover: Duration,
    /// How long a stopping relay waits for answers.
    pub drain: Duration,
    /// Where it answers `/metrics` and `/health`, if at all.
    pub listen: Option<SocketAddr>,
    /// How it logs.
    pub log: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "command", derive(clap::ValueEnum))]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A route and its sink.
#[derive(Clone, Debug)]
pub(crate) struct RouteConfig {
    /// Everything but the sink.
    pub settings: RouteSettings,
    /// Where its events go.
    pub sink: SinkConfig,
}

/// Where a route's events go.
#[derive(Clone, Debug)]
pub(crate) enum SinkConfig {
    /// To an HTTP endpoint.
    Webhook(WebhookSettings),
    /// To a file of JSON lines.
    File(FileConfig),
    /// To standard output, as JSON lines.
    Stdout,
    /// To an event bus of EventBridge.
    #[cfg(feature = "aws")]
    EventBridge(EventBridgeSettings),
}

/// A file of JSON lines.
#[derive(Clone, Debug)]
pub(crate) struct FileConfig {
    /// The file, which is appended to.
    pub path: PathBuf,
}

impl SinkConfig {
    /// Kind and target for people, without secrets.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Webhook(webhook) => format!("webhook {}", shown_url(&webhook.url)),
            Self::File(file) => format!("file {}", file.path.display()),
            Self::Stdout => "stdout".to_owned(),
            #[cfg(feature = "aws")]
            Self::EventBridge(settings) => format!("event bus {}", settings.bus),
        }
    }
}

/// Scheme, host and port of a URL: user, path and query of a webhook can be secret.
fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "…".to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

impl Config {
    /// Reads and validates `file`.
    ///
    /// # Errors
    /// [`Problems`] names every mistake with line, field and remedy.
    pub(crate) fn load(file: &Path) -> Result<Self, Problems> {
        Self::parse(file, &Self::text(file)?, &|name| std::env::var(name).ok())
    }

    /// Reads and validates `file` but for the secrets of its sinks, for commands that send nothing: an operator need not
    /// have them.
    ///
    /// # Errors
    /// [`Problems`] names every other mistake with line, field and remedy.
    pub(crate) fn load_without_secrets(file: &Path) -> Result<Self, Problems> {
        let lookup = |name: &str| std::env::var(name).ok();
        document::read(file, &Self::text(file)?, &lookup, Secrets::LeftOut, |root| validate::config(file, root))
    }

    fn text(file: &Path) -> Result<String, Problems> {
        std::fs::read_to_string(file).map_err(|error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "`outbox init DATABASE` writes one; --config PATH names one elsewhere".to_owned()
                }
                std::io::ErrorKind::InvalidData => "save it as UTF-8".to_owned(),
                _ => format!("make it readable for this user ({error})"),
            };
            let message = match error.kind() {
                std::io::ErrorKind::NotFound => "there is no such configuration file",
                std::io::ErrorKind::InvalidData => "the configuration is not UTF-8",
                _ => "the configuration cannot be read",
            };
            Problems::one(file, None, message, help)
        })
    }

    /// Validates `text`, as read from `file`; `lookup` gives environment variables.
    ///
    /// # Errors
    /// [`Problems`] names every mistake with line, field and remedy.
    pub(crate) fn parse(file: &Path, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        document::read(file, text, lookup, Secrets::Read, |root| validate::config(file, root))
    }

    /// The same, reading the tables of Outbox alone.
    #[cfg(feature = "sql")]
    pub(crate) fn without_mapping(&self) -> Self {
        let mut config = self.clone();
        if let DatabaseConfig::Postgres(database) = &mut config.store.database {
            database.mapping = None;
        }
        config
    }

    /// The configured route called `name`.
    pub(crate) fn route(&self, name: &str) -> Option<&RouteConfig> {
        self.routes.iter().find(|route| route.settings.name.as_str() == name)
    }
}

#[cfg(test)]
#[cfg(feature = "command")]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_nothing_secret() {
        assert_eq!(shown_url("https://user:secret@example.com:8443/secret?token=secret"), "https://example.com:8443");
        assert_eq!(shown_url("http://example.com#secret"), "http://example.com");
    }

    #[test]
    fn a_configuration_shows_no_secrets() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let text = format!(
            "[store]\nsqlite = \"a.db\"\n[[route]]\nname = \"a\"\n\
             webhook = {{ url = \"https://a.example/hidden\", secrets = [\"{secret}\"], headers = {{ x-key = \"hidden\" }} }}\n"
        );
        let config = Config::parse(Path::new("outbox.toml"), &text, &|_| None).unwrap();
        let shown = format!("{config:?} {}", config.routes[0].sink.shown());
        assert!(!shown.contains("hidden") && !shown.contains("MfKQ9r8G"), "{shown}");
        assert!(shown.contains("a.example"), "{shown}");
    }
}
