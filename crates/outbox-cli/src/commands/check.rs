//! `outbox check`: validates everything, reaches everything, and says what a relay would do.

use std::sync::Arc;

use outbox::{
    Clock as _, Start, System,
    relay::adoption,
    sinks::FileSink,
    store::{Registration, StoreIdentity},
};
use serde::Serialize;

use crate::{
    cli::Global,
    commands::{endpoint::cannot_listen, route::start_text, standing},
    config::{Config, DatabaseConfig, LogFormat, RouteConfig, SinkConfig},
    exit::{Exit, Failure, Outcome},
    logs,
    output::{Output, WIDTH, age, counted, plain, since, wrapped},
    wiring::{self, Stores},
};

#[cfg(feature = "aws")]
mod mappings;

/// What to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Reach no sink: only the configuration and the files
    #[arg(long)]
    offline: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    Note,
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    level: Level,
    text: String,
    help: Option<String>,
}

/// All of them, and how the command ends.
struct Findings {
    list: Vec<Finding>,
    exit: Exit,
}

impl Findings {
    fn add(&mut self, level: Level, subject: impl Into<String>, text: impl Into<String>, help: Option<&str>) {
        if level == Level::Problem && self.exit == Exit::Ok {
            self.exit = Exit::Failed;
        }
        self.list.push(Finding { subject: subject.into(), level, text: text.into(), help: help.map(str::to_owned) });
    }

    fn ok(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.add(Level::Ok, subject, text, None);
    }

    fn note(&mut self, subject: impl Into<String>, text: impl Into<String>, help: Option<&str>) {
        self.add(Level::Note, subject, text, help);
    }

    fn failure(&mut self, subject: impl Into<String>, failure: &Failure) {
        self.add(Level::Problem, subject, failure.message(), failure.remedy());
        // What needs an operator's decision outweighs what does not.
        if failure.code() == Exit::Adopt {
            self.exit = Exit::Adopt;
        }
    }
}

/// Checks everything and reports all of it at once.
pub(crate) async fn run(global: &Global, out: Output, args: &Args) -> Outcome {
    let config = Config::load(&global.config)?;
    logs::start(global.log.unwrap_or(LogFormat::Text), global.verbose);
    let mut findings = Findings { list: Vec::new(), exit: Exit::Ok };
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
    Ok(findings.exit)
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
    match losses.first().and_then(|loss| loss.lost.as_ref()) {
        Some(lost) => return adopt(format!("the database is an older copy: what was read at {lost} is not in it")),
        None => {}
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
    match stores.bookkeeping.lease(&config.relay.name).await {
        Ok(lease) if lease.epoch == 0 => findings.ok("relay", "none has run yet"),
        Ok(lease) if lease.released => findings.ok("relay", "none runs; the last one stopped cleanly"),
        Ok(lease) => {
            findings.ok("relay", format!("the lease is held by {}, epoch {}", plain(&lease.holder), lease.epoch));
            return true;
        }
        Err(error) => findings.failure("relay", &error.into()),
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

async fn would_do(
    config: &Config,
    stores: &Stores,
    route: &RouteConfig,
    subject: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let now = System.wall();
    let registrations = stores.business.routes().await?;
    let name = &route.settings.name;
    let found: Option<&Registration> = registrations.iter().find(|registration| registration.route == *name);
    match config.forwarders.get(name.as_str()) {
        Some(function) => is_handed(route, function, subject, findings),
        None => {
            let registration = found.cloned().unwrap_or_else(|| standing::would_be(route, now));
            would_publish(stores, &registration, found.is_some(), subject, findings).await?;
        }
    }
    let whole = route.settings.filter.keeps_keys_whole();
    match (whole, found.map(|registration| registration.gapless)) {
        // That has been said of the mapping.
        _ if config.store.database.is_mapped() => {}
        (true, None | Some(true)) => findings.ok(subject, "gapless: consumers can count on every event of a key"),
        (true, Some(false)) => {
            let help = "consumers in mode `in_order` refuse it; give the route a new name to begin anew";
            findings.note(subject, "not gapless, for it once was not", Some(help));
        }
        (false, _) => {
            let help = "consumers in mode `in_order` refuse it; filter by key only, or let them use `once` or `latest`";
            findings.note(subject, "not gapless, for it filters by type or attributes", Some(help));
        }
    }
    if let Some(found) = found.filter(|found| found.filter != route.settings.filter) {
        let was = serde_json::to_string(&found.filter).unwrap_or_default();
        let help = "it takes effect where the route stands; what was filtered out before stays so";
        findings.note(subject, format!("its filter changes; it was {}", plain(&was)), Some(help));
    }
    Ok(())
}

/// Says how far a relay is, and what it would begin with.
async fn would_publish(
    stores: &Stores,
    registration: &Registration,
    is_registered: bool,
    subject: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let now = System.wall();
    let standing::Behind { standings, mut backlog, forgotten } = standing::behind(stores, registration).await?;
    if let Some(said) = forgotten {
        let in_table = standing::in_table(stores, registration).await?;
        backlog.entries = backlog.entries.max(in_table.unwrap_or(0));
        findings.note(subject, said, Some("a relay reads the table again, and says so; there is nothing to do"));
    }
    let oldest = backlog.oldest.map_or_else(String::new, |time| format!(", the oldest {} old", age(since(time, now))));
    let entries = counted(backlog.entries, "entry", "entries");
    let text = if is_registered && !standings.iter().any(|standing| standing.stored) {
        format!("has published nothing yet: would begin with {entries}{oldest}")
    } else if is_registered {
        format!("would go on with {entries}{oldest}")
    } else {
        let from = match registration.start {
            Start::Beginning => "the beginning".to_owned(),
            other => start_text(other),
        };
        format!("new: would start at {from}, with {entries}{oldest}")
    };
    findings.ok(subject, text);
    Ok(())
}

/// Says what a function publishes: how much lies in the stream before it nobody can count.
fn is_handed(route: &RouteConfig, function: &str, subject: &str, findings: &mut Findings) {
    findings.ok(subject, format!("published by function {}: all that its mapping hands in", plain(function)));
    if !matches!(route.settings.start, Start::Beginning) {
        let text = format!("`start` is {}, and leaves out nothing of the stream", start_text(route.settings.start));
        let help = "a function publishes all that it is handed: `start` says from when on what the stream has forgotten is an alarm";
        findings.note(subject, text, Some(help));
    }
}

/// Routes that retention waits for in vain.
async fn unconfigured(config: &Config, stores: &Stores, findings: &mut Findings) -> Result<(), Failure> {
    for registration in stores.business.routes().await? {
        if config.route(registration.route.as_str()).is_none() {
            let help = "`outbox route rename` if it was renamed, `outbox route retire` if it is gone";
            let text = "registered, but no longer configured: retention waits for it";
            findings.add(Level::Problem, format!("route {}", registration.route), text, Some(help));
        }
    }
    Ok(())
}

fn report(out: Output, findings: &Findings) {
    let problems = findings.list.iter().filter(|finding| finding.level == Level::Problem).count();
    if out.json {
        out.value(&serde_json::json!({ "ok": findings.exit == Exit::Ok, "findings": findings.list }));
        return;
    }
    let paint = out.paint;
    let longest = findings.list.iter().map(|finding| plain(&finding.subject).chars().count()).max().unwrap_or(0);
    let margin = longest.min(28) + 7;
    let width = WIDTH.saturating_sub(margin);
    let mut last = "";
    for finding in &findings.list {
        let mark = match finding.level {
            Level::Ok => paint.good("ok  "),
            Level::Note => paint.warn("note"),
            Level::Problem => paint.bad("FAIL"),
        };
        let subject = if finding.subject == last { "" } else { &finding.subject };
        let mut lines = wrapped(&finding.text, width).into_iter();
        out.line(format!("{mark}  {:<1$} {2}", plain(subject), margin - 7, lines.next().unwrap_or_default()));
        lines.for_each(|line| out.line(format!("{:margin$}{line}", "")));
        for line in finding.help.iter().flat_map(|help| wrapped(&format!("help: {help}"), width)) {
            out.line(format!("{:margin$}{}", "", paint.faint(&line)));
        }
        last = &finding.subject;
    }
    out.line(match problems {
        0 => paint.good("\nall is well"),
        problems => paint.bad(&format!("\n{} to mend", counted(problems as u64, "problem", "problems"))),
    });
}
