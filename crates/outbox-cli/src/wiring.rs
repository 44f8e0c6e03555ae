//! From a configuration to its components: one explicit `match` for each kind of thing.

use std::{sync::Arc, time::Duration};

#[cfg(not(feature = "crash-points"))]
use outbox::System;
use outbox::{
    Clock, Sink, SinkLimits,
    relay::RetentionPolicy,
    sinks::{FileSink, LINE_LIMITS, StdoutSink, WebhookSettings, WebhookSink},
};

use crate::{
    config::{Config, Retention, RouteConfig, SinkConfig},
    exit::Failure,
};

#[cfg(feature = "aws")]
mod dynamo;
#[cfg(feature = "command")]
mod inboxes;
#[cfg(feature = "command")]
mod stores;

#[cfg(feature = "aws")]
pub(crate) use dynamo::{dynamo, stream, watermarks};
#[cfg(feature = "command")]
pub(crate) use inboxes::{ConsumerDatabase, Inbox};
#[cfg(feature = "command")]
pub(crate) use stores::{Business, Stores, bookkeeping, business, is_there, read_by, stores, unread_slots};

/// Makes the sink of `route`. Connects nowhere yet.
///
/// # Errors
/// [`Failure`] if its file cannot be opened, its certificates cannot be loaded, or nobody says which region is meant.
#[cfg_attr(not(feature = "aws"), expect(clippy::unused_async, reason = "sinks on AWS ask for credentials"))]
pub(crate) async fn sink(route: &RouteConfig) -> Result<Arc<dyn Sink>, Failure> {
    let name = &route.settings.name;
    let attempted = format!("the sink of route `{name}`");
    let sink: Arc<dyn Sink> = match &route.sink {
        SinkConfig::Webhook(settings) => {
            let sink = WebhookSink::new(WebhookSettings::clone(settings), clock()?);
            Arc::new(sink.map_err(|error| Failure::new(error.to_string()).context(&attempted))?)
        }
        SinkConfig::File(file) => {
            let sink = FileSink::open(&file.path);
            Arc::new(sink.map_err(|error| Failure::new(error.to_string()).because(&error).context(&attempted))?)
        }
        SinkConfig::Stdout => Arc::new(StdoutSink::new()),
        #[cfg(feature = "aws")]
        SinkConfig::EventBridge(settings) => {
            let sink = outbox_aws::eventbridge::EventBridgeSink::connect(settings.clone(), clock()?).await;
            Arc::new(sink.map_err(|error| Failure::new(error.to_string()).context(&attempted))?)
        }
    };
    #[cfg(feature = "crash-points")]
    let sink = crate::crash_points::sink(sink)?;
    Ok(sink)
}

/// The clock of everything that runs for long.
///
/// # Errors
/// None in a shipped build.
#[cfg_attr(not(feature = "crash-points"), expect(clippy::unnecessary_wraps, reason = "with crash points it can fail"))]
pub(crate) fn clock() -> Result<Arc<dyn Clock>, Failure> {
    #[cfg(feature = "crash-points")]
    return crate::crash_points::clock();
    #[cfg(not(feature = "crash-points"))]
    Ok(Arc::new(System))
}

/// What the sink of `route` takes, without making it.
pub(crate) fn limits(route: &RouteConfig) -> SinkLimits {
    match &route.sink {
        SinkConfig::Webhook(settings) => settings.limits(),
        SinkConfig::File(_) | SinkConfig::Stdout => LINE_LIMITS,
        #[cfg(feature = "aws")]
        SinkConfig::EventBridge(settings) => settings.limits(),
    }
}

/// The relay's retention.
pub(crate) fn retention(retention: Retention) -> RetentionPolicy {
    match retention {
        Retention::Off => RetentionPolicy::Off,
        Retention::Age(age) => RetentionPolicy::Age(age),
        Retention::Newest(newest) => RetentionPolicy::Newest(newest),
    }
}

/// How long the relay waits for a call, so that the sink's own limit, which knows more, comes first.
pub(crate) fn call_timeout(config: &Config) -> Option<Duration> {
    const SLACK: Duration = Duration::from_secs(10);
    let own = config.routes.iter().filter_map(|route| match &route.sink {
        SinkConfig::Webhook(settings) => Some(settings.timeout + SLACK),
        SinkConfig::File(_) | SinkConfig::Stdout => None,
        #[cfg(feature = "aws")]
        SinkConfig::EventBridge(settings) => Some(settings.longest_publish() + SLACK),
    });
    own.max().filter(|longest| *longest > Duration::from_secs(60))
}
