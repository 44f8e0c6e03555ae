//! `outbox check`: validates everything, reaches everything, and says what a relay would do.

use std::sync::Arc;

use outbox::{relay::adoption, sinks::FileSink, store::StoreIdentity};

use crate::{
    cli::Global,
    commands::endpoint::cannot_listen,
    config::{Config, DatabaseConfig, LogFormat, RouteConfig, SinkConfig},
    exit::{Exit, Failure, Outcome},
    logs,
    output::{Output, counted, plain},
    wiring::{self, Stores},
};

mod findings;
#[cfg(feature = "aws")]
mod mappings;
mod routes;

use findings::{Findings, report};
use routes::{unconfigured, would_do};

/// What to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Reach no sink: only the configuration and the files
    #[arg(long)]
    offline: bool,
}

/// Checks everything and reports all of it at once.
pub(crate) async fn run(global: &Global, out: Output, args: &Args) -> Outcome {
    let config = Config::load(&global.config)?;
    logs::start(global.log.unwrap_or(LogFormat::Text), global.verbose);
    let mut findings = Findings::none();
    findings.ok(
        "configuration",
        format!("{}, {}", config.file.display(), counted(config.routes.len() as u64, "route", "routes")),
    );
    let stores = stores(&config, &mut findings).await;
    let running = match &stores {
        Some(stores) => relay(&config, stores, &mut findings).await,
        None => false,
    };
    if let Some(stores) = &stores {
        log(&config, stores, &mut findings).await;
        slots(&config, &mut findings).await;
    }
    listen(&config, running, &mut findings).await;
    #[cfg(feature = "aws")]
    if !args.offline {
        mappings::check(&config, stores.as_ref(), &mut findings).await;
    }
    let reached = if args.offline { Vec::new() } else { reach(&config, running).await };
    for (index, route) in config.routes.iter().enumerate() {
        let subject = format!("route {}", route.settings.name);
        match reached.get(index) {
            None => {
                findings.note(&subject, format!("to {}, which was not reached (--offline)", route.sink.shown()), None);
            }
            Some(Ok(how)) => findings.ok(&subject, format!("to {}: {how}", route.sink.shown())),
            Some(Err(failure)) => findings.failure(&subject, failure),
        }
        if let Some(stores) = &stores
            && let Err(failure) = would_do(&config, stores, route, &subject, &mut findings).await
        {
            findings.failure(&subject, &failure);
        }
    }
    if let Some(stores) = &stores
        && let Err(failure) = unconfigured(&config, stores, &mut findings).await
    {
        findings.failure("routes", &failure);
    }
    report(out, &findings);
    Ok(findings.exit())
}

/// Opens both files, without making either.
async fn stores(config: &Config, findings: &mut Findings) -> Option<Stores> {
    let identity = match identity(config).await {
        Ok(identity) => identity,
        Err(failure) => {
            findings.failure("database", &failure);
            return None;
        }
    };
    let text = format!(
        "{}, producer {}, incarnation {}",
        config.store.database,
        plain(&identity.producer),
        identity.incarnation
    );
    findings.ok("database", text);
    #[cfg(feature = "aws")]
    tables(config, findings).await;
    if config.store.database.is_mapped() {
        let text = if config.store.database.is_log_alone() {
            "the table is as the mapping says, and read in the server's log alone; its events have no places, and none is kept"
        } else {
            "the table is as the mapping says, and prepared; its events have no places"
        };
        findings.note("mapping", text, Some("consumers use the modes `once` and `latest`"));
    }
    let kept = &config.relay.bookkeeping;
    match wiring::is_there(kept).await {
        Ok(false) if identity.bookkeeping().is_none() => {
            let help = "the first relay makes it; so does `outbox init`";
            findings.note("bookkeeping", format!("{kept} is not there yet"), Some(help));
            return None;
        }
        Err(failure) => {
            findings.failure("bookkeeping", &failure);
            return None;
        }
        Ok(_) => {}
    }
    match wiring::stores(config, false).await {
        Ok(stores) => match belonging(&stores, &identity, &config.relay.name).await {
            Ok(()) => {
                findings.ok("bookkeeping", format!("{kept}, in agreement with the database"));
                Some(stores)
            }
            Err(failure) => {
                findings.failure("bookkeeping", &failure);
                None
            }
        },
        Err(failure) => {
            findings.failure("bookkeeping", &failure);
            None
        }
    }
}

async fn identity(config: &Config) -> Result<StoreIdentity, Failure> {
    Ok(wiring::business(config).await?.store.identity().await?)
}

/// Whether tables of DynamoDB are as a relay needs them.
#[cfg(feature = "aws")]
async fn tables(config: &Config, findings: &mut Findings) {
    let DatabaseConfig::Dynamo(dynamo) = &config.store.database else { return };
    let checked = async {
        let store = wiring::dynamo(dynamo).await?;
        store.check().await.map_err(Failure::from)?;
        Ok::<_, Failure>(store.retention())
    };
    match checked.await {
        Ok(None) => findings.ok("tables", "keys, stream and rights are as they have to be; an item lives for ever"),
        Ok(Some(lives)) => {
            let days = lives.as_secs() / 86_400;
            let text = format!("keys, stream, expiry and rights are as they have to be; an entry lives {days} days");
            findings.ok("tables", text);
            if let Some(asked) = dynamo.expiry.filter(|asked| *asked != lives) {
                let text = format!("the configuration says {} days for new tables", asked.as_secs() / 86_400);
                let help = "set `retention_seconds` of the item `store` in the table of heads, or the configuration";
                findings.note("tables", text, Some(help));
            }
        }
        Err(failure) => findings.failure("tables", &failure),
    }
}

/// Whether the server's log can be read, where it is to be.
async fn log(config: &Config, stores: &Stores, findings: &mut Findings) {
    let DatabaseConfig::Postgres(database) = &config.store.database else { return };
    let Some(log) = &database.log else { return };
    match wiring::read_by(config, Arc::clone(&stores.source)).await {
        Ok(_) => findings.ok("log", format!("can be read, by publication {}", log.publication)),
        Err(failure) => findings.failure("log", &failure),
    }
}

/// Slots that fill the server's disk.
async fn slots(config: &Config, findings: &mut Findings) {
    match wiring::unread_slots(config).await {
        Ok(slots) => slots.iter().for_each(|slot| findings.note("replication slot", slot.to_string(), None)),
        Err(failure) => findings.failure("replication slot", &failure),
    }
}

/// Whether database and bookkeeping belong together and saw the same history.
async fn belonging(stores: &Stores, identity: &StoreIdentity, lease: &str) -> Result<(), Failure> {
    let adopt = |message: String| {
        Err(Failure::new(message).exit(Exit::Adopt).help("`outbox adopt` shows what happened and what can be done"))
    };
    let id = stores.bookkeeping.id().await?;
    if let Some(owner) = identity.bookkeeping().filter(|owner| *owner != id) {
        return adopt(format!("the database is read by bookkeeping {owner}, not by this one ({id})"));
    }
    let noted = stores.bookkeeping.claims(lease).await?;
    if let Some(held) = identity.claim.as_ref().filter(|held| !held.is_followed_by(&id, &noted)) {
        return adopt(format!(
            "the database was claimed under epoch {} by another copy of bookkeeping {id}, or this one is an old backup",
            held.epoch
        ));
    }
    let losses = adoption::losses(&*stores.source, &*stores.business, &*stores.bookkeeping).await?;
    if let Some(lost) = losses.first().and_then(|loss| loss.lost.as_ref()) {
        return adopt(format!("the database is an older copy: what was read at {lost} is not in it"));
    }
    let refused = adoption::refused(&*stores.source, &*stores.business, &*stores.bookkeeping).await?;
    match refused.first() {
        Some((route, checkpoint)) => adopt(format!(
            "the server's log, or the numbers of its transactions, do not reach where route `{route}` stands, {}",
            checkpoint.position
        )),
        None => Ok(()),
    }
}

/// Says whether a relay owns the lease; `true` if one may be running.
async fn relay(config: &Config, stores: &Stores, findings: &mut Findings) -> bool {
    let who = if config.forwarders.is_empty() { "relay" } else { "keeper" };
    match stores.bookkeeping.lease(&config.relay.name).await {
        Ok(lease) if lease.epoch == 0 => findings.ok(who, "none has run yet"),
        Ok(lease) if lease.released => findings.ok(who, "none runs; the last one stopped cleanly"),
        Ok(lease) => {
            findings.ok(who, format!("the lease is held by {}, epoch {}", plain(&lease.holder), lease.epoch));
            return true;
        }
        Err(error) => findings.failure(who, &error.into()),
    }
    false
}

async fn listen(config: &Config, running: bool, findings: &mut Findings) {
    let Some(address) = config.relay.listen else { return };
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => findings.ok("listen", format!("{address} is free for /metrics and /health")),
        Err(error) if running && error.kind() == std::io::ErrorKind::AddrInUse => {
            findings.ok("listen", format!("{address} is in use, supposedly by the running relay"));
        }
        Err(error) => findings.failure("listen", &cannot_listen(address, &error)),
    }
}

/// Asks every sink, all at the same time.
async fn reach(config: &Config, running: bool) -> Vec<Result<String, Failure>> {
    let tasks: Vec<_> = config
        .routes
        .iter()
        .map(|route| {
            let route = route.clone();
            tokio::spawn(async move { reach_one(&route).await })
        })
        .collect();
    let mut reached = Vec::new();
    for (task, route) in tasks.into_iter().zip(&config.routes) {
        let answer = task.await.unwrap_or_else(|error| Err(Failure::new("the check did not end").because(&error)));
        // A file has one writer: the relay that runs.
        let held = running && matches!(route.sink, SinkConfig::File(_));
        reached.push(match answer {
            Ok(how) => Ok(how.to_owned()),
            Err(_) if held => Ok("in use, supposedly by the running relay".to_owned()),
            Err(failure) => Err(failure),
        });
    }
    reached
}

/// Says how the sink of `route` is reached. Nothing is made for it.
async fn reach_one(route: &RouteConfig) -> Result<&'static str, Failure> {
    if let SinkConfig::File(file) = &route.sink {
        let path = file.path.clone();
        let found = tokio::task::spawn_blocking(move || FileSink::check_path(path)).await;
        return match found.map_err(|error| Failure::new("the check did not end").because(&error))? {
            Ok(true) => Ok("reached"),
            Ok(false) => Ok("not there yet; the relay makes it"),
            Err(error) => Err(Failure::new(error.to_string()).because(&error)),
        };
    }
    let sink = wiring::sink(route).await?;
    sink.check().await.map_err(|error| Failure::new(error.to_string()).because(&error))?;
    Ok("reached")
}
