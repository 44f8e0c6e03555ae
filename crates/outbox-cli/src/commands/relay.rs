//! `outbox relay`: publishes until it is stopped.

use std::{sync::Arc, time::Duration};

use outbox::relay::{Relay, RelayBuilder, RelayError};
use tokio::sync::oneshot;

use crate::{
    commands::{endpoint::Endpoint, holder, stop::Stop},
    config::Config,
    exit::{Exit, Failure, Outcome},
    wiring::{self, Stores},
};

/// How often it is said that the server keeps log for nobody.
const WARN_EVERY: Duration = Duration::from_secs(60 * 60);

/// Hardly anything: nearly everything is in the configuration.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
SIGTERM or SIGINT drain: no new calls, answers awaited up to `relay.drain`, a last checkpoint, the \
lease given up. A second signal stops at once; what was in flight is published again later.\n\n\
Several relays of one configuration stand in for each other: one publishes, the others wait.")]
pub(crate) struct Args {
    /// Go on though entries may have expired before a route got them: on DynamoDB, after the relay was down for longer than
    /// entries live
    #[cfg(feature = "aws")]
    #[arg(long)]
    accept_loss: bool,
}

/// Runs the relay that `config` describes.
#[cfg_attr(not(feature = "aws"), expect(unused_variables, reason = "losses are DynamoDB's"))]
pub(crate) async fn run(config: Config, args: &Args) -> Outcome {
    #[cfg(feature = "aws")]
    let config = accepting(config, args)?;
    if !config.forwarders.is_empty() {
        let help = "functions of Lambda publish its routes: leave `[lambda]` out once their mappings are gone";
        return Err(Failure::usage("no relay runs beside functions: `[lambda]` is configured").help(help));
    }
    // First of all: a taken port is a mistake of whoever starts it, and nothing has happened yet.
    let endpoint = match config.relay.listen {
        Some(address) => Some(Endpoint::bind(address).await?),
        None => None,
    };
    let mut stores = wiring::stores(&config, true).await?;
    stores.source = wiring::read_by(&config, stores.source).await?;
    #[cfg(feature = "crash-points")]
    let stores = crate::crash_points::stores(stores)?;
    let relay = build(&config, &stores).await?;
    warn_of_unread_slots(&config).await;
    tokio::spawn(keep_warning(config.clone()));
    if let Some(endpoint) = endpoint {
        endpoint.serve(relay.handle());
    }
    let signals = signals()?;
    tracing::info!(config = %config.file.display(), "the relay starts");
    let ran = relay.run(async {
        // The sender only goes away with the process.
        let _ = signals.await;
    });
    ran.await.map_err(failed)?;
    tracing::info!("the relay has drained and ends");
    Ok(Exit::Ok)
}

/// The configuration with what `args` accept.
#[cfg(feature = "aws")]
fn accepting(mut config: Config, args: &Args) -> Result<Config, Failure> {
    match &mut config.store.database {
        crate::config::DatabaseConfig::Dynamo(dynamo) => dynamo.accept_loss = args.accept_loss,
        crate::config::DatabaseConfig::Sqlite(_) | crate::config::DatabaseConfig::Postgres(_) if args.accept_loss => {
            let help = "leave it out: nothing expires here before every route is past it";
            return Err(Failure::usage("--accept-loss is for DynamoDB").help(help));
        }
        crate::config::DatabaseConfig::Sqlite(_) | crate::config::DatabaseConfig::Postgres(_) => {}
    }
    Ok(config)
}

async fn build(config: &Config, stores: &Stores) -> Result<Relay, Failure> {
    let relay = &config.relay;
    let mut builder: RelayBuilder = Relay::builder()
        .name(&relay.name)
        .holder(holder::this())
        .clock(wiring::clock()?)
        .source(Arc::clone(&stores.source))
        .store(Arc::clone(&stores.business))
        .bookkeeping(Arc::clone(&stores.bookkeeping))
        .failover(relay.failover)
        .drain_limit(relay.drain)
        .retention(wiring::retention(config.store.retention));
    if let Some(timeout) = wiring::call_timeout(config) {
        builder = builder.call_timeout(timeout);
    }
    for route in &config.routes {
        builder = builder.route(route.settings.clone(), wiring::sink(route).await?);
    }
    builder.build().map_err(failed)
}

/// Says which replication slots nobody reads: until they are dropped, the server keeps its log for them.
async fn warn_of_unread_slots(config: &Config) {
    match wiring::unread_slots(config).await {
        Ok(slots) => slots.iter().for_each(|slot| tracing::warn!(%slot, "the server keeps log for nobody")),
        Err(failure) => tracing::debug!(reason = failure.message(), "replication slots were not looked at"),
    }
}

/// A relay that this one takes over from may read its slot for a while yet.
async fn keep_warning(config: Config) {
    loop {
        tokio::time::sleep(WARN_EVERY).await;
        warn_of_unread_slots(&config).await;
    }
}

fn failed(error: RelayError) -> Failure {
    match error {
        RelayError::Store(error) => error.into(),
        error => Failure::new(error.to_string()).because(&error),
    }
}

/// Ready at the first signal to stop; the second one ends the process.
fn signals() -> Result<oneshot::Receiver<()>, Failure> {
    let (first, ready) = oneshot::channel();
    let mut stop = Stop::new().map_err(|error| Failure::new("signals cannot be awaited").because(&error))?;
    tokio::spawn(async move {
        stop.signal().await;
        tracing::info!("stopping: draining what is in flight; another signal stops at once");
        // The relay may have ended by itself meanwhile.
        let _ = first.send(());
        stop.signal().await;
        eprintln!("stopped at once; what was in flight is published again by the next relay");
        std::process::exit(Exit::Failed.code().into());
    });
    Ok(ready)
}
