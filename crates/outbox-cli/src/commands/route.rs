//! `outbox route`: what is registered, and what is done with it.

use clap::Subcommand;
use outbox::{RouteName, Start, store::Registration};
use serde_json::json;

use crate::{
    commands::{self, listed, standing, without_relay},
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::{Align, Output, Table, counted, short},
    wiring::Stores,
};

/// What to do with routes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the routes, configured and registered
    List,
    /// Stop publishing to a route; its backlog stays in the database
    Pause {
        /// The route
        name: String,
    },
    /// Go on publishing to a paused route
    Resume {
        /// The route
        name: String,
    },
    /// Give a registered route another name, with its checkpoints and dead letters; no relay may run
    Rename {
        /// As it is registered
        from: String,
        /// As the configuration calls it from now on
        to: String,
    },
    /// Forget a registered route that is no longer configured, so that retention no longer waits for it; no relay may run
    Retire {
        /// The route
        name: String,
        /// Even if it has not published everything, or keeps dead letters: these are lost
        #[arg(long)]
        yes: bool,
    },
}

/// Carries out `command`.
pub(crate) async fn run(config: Config, out: Output, command: Command) -> Outcome {
    let stores = commands::stores(&config).await?;
    match command {
        Command::List => list(&config, &stores, out).await,
        Command::Pause { name } => pause(&config, &stores, out, &name, true).await,
        Command::Resume { name } => pause(&config, &stores, out, &name, false).await,
        Command::Rename { from, to } => rename(&config, &stores, out, &from, &to).await,
        Command::Retire { name, yes } => retire(&config, &stores, out, &name, yes).await,
    }
}

fn route_name(text: &str) -> Result<RouteName, Failure> {
    RouteName::new(text).map_err(|error| Failure::usage(error.to_string()))
}

async fn list(config: &Config, stores: &Stores, out: Output) -> Outcome {
    let registrations = stores.business.routes().await?;
    let paused = stores.bookkeeping.paused().await?;
    let mut names: Vec<&str> = config.routes.iter().map(|route| route.settings.name.as_str()).collect();
    names.extend(registrations.iter().map(|registration| registration.route.as_str()));
    names.sort_unstable();
    names.dedup();
    let mut table = Table::new(["ROUTE", "STATE", "FROM", "GAPLESS", "SINK"].map(|name| (name, Align::Left)));
    let mut list = Vec::new();
    for name in names {
        let registration = registrations.iter().find(|registration| registration.route.as_str() == name);
        let route = config.route(name);
        let state = match (registration, route) {
            (None, _) => "new",
            (Some(_), None) => "not configured",
            (Some(found), Some(_)) if paused.contains(&found.route) => "paused",
            (Some(_), Some(_)) => "active",
        };
        let sink = route.map_or_else(|| "-".to_owned(), |route| route.sink.shown());
        let start = registration.map_or_else(
            || route.map_or(Start::Beginning, |route| route.settings.start),
            |registration| registration.start,
        );
        let gapless = registration.map(|registration| registration.gapless);
        let shown = gapless.map_or("-", |gapless| if gapless { "yes" } else { "no" });
        table.row([
            short(name, 20).into(),
            state.into(),
            start_text(start).into(),
            shown.into(),
            short(&sink, 36).into(),
        ]);
        list.push(json!({
            "name": name, "state": state, "start": start_text(start), "gapless": gapless, "sink": sink,
            "registered": registration.map(|registration| registration.registered.to_string()),
            "filter": registration.map(|registration| &registration.filter),
        }));
    }
    if out.json {
        out.value(&json!({ "routes": list }));
    } else {
        out.line(table.render(out.paint));
    }
    Ok(Exit::Ok)
}

/// Where a route starts, as the configuration writes it.
pub(crate) fn start_text(start: Start) -> String {
    match start {
        Start::Beginning => "beginning".to_owned(),
        Start::Now => "now".to_owned(),
        Start::Time(time) => time.to_string(),
    }
}

async fn pause(config: &Config, stores: &Stores, out: Output, name: &str, pausing: bool) -> Outcome {
    let name = route_name(name)?;
    if config.route(name.as_str()).is_none() {
        registered(stores, &name).await?;
    }
    let was = stores.bookkeeping.paused().await?.contains(&name);
    stores.bookkeeping.pause(&name, pausing).await?;
    let word = if pausing { "paused" } else { "flowing" };
    if out.json {
        out.value(&json!({ "route": name.as_str(), "state": word, "changed": was != pausing }));
    } else if was == pausing {
        out.line(format!("{name} is {word} already"));
    } else if pausing {
        out.line(format!("{name} is paused; its backlog waits in the database until `outbox route resume {name}`"));
    } else {
        out.line(format!("{name} flows again"));
    }
    Ok(Exit::Ok)
}

async fn registered(stores: &Stores, name: &RouteName) -> Result<Registration, Failure> {
    let routes = stores.business.routes().await?;
    routes.iter().find(|registration| registration.route == *name).cloned().ok_or_else(|| {
        let known = listed(routes.iter().map(|registration| registration.route.as_str()));
        Failure::not_found(format!("there is no route `{name}`")).help(format!("registered: {known}"))
    })
}

async fn rename(config: &Config, stores: &Stores, out: Output, from: &str, to: &str) -> Outcome {
    let (from, to) = (route_name(from)?, route_name(to)?);
    if from == to {
        return Err(Failure::usage("both names are the same"));
    }
    registered(stores, &from).await?;
    if registered(stores, &to).await.is_ok() {
        return Err(Failure::usage(format!("`{to}` is registered as well")).help("retire one of them first"));
    }
    without_relay(config, stores, out, "outbox route rename", async |_| {
        // The bookkeeping first: after a crash between the two, doing it again finds the old name still registered.
        let done_before = stores.bookkeeping.checkpoints(&from).await?.is_empty()
            && !stores.bookkeeping.checkpoints(&to).await?.is_empty();
        if !done_before {
            stores.bookkeeping.rename_route(&from, &to).await?;
        }
        Ok(stores.business.rename_route(&from, &to).await?)
    })
    .await?;
    let configured = config.route(to.as_str()).is_some();
    if out.json {
        out.value(&json!({ "from": from.as_str(), "to": to.as_str(), "configured": configured }));
        return Ok(Exit::Ok);
    }
    out.line(format!("{from} is now {to}, with its checkpoints and what it keeps"));
    if !configured {
        let hint = format!("now call it `{to}` in {}, then start the relay", config.file.display());
        out.line(out.paint.strong(&hint));
    }
    Ok(Exit::Ok)
}

async fn retire(config: &Config, stores: &Stores, out: Output, name: &str, yes: bool) -> Outcome {
    let name = route_name(name)?;
    let registration = registered(stores, &name).await?;
    if config.route(name.as_str()).is_some() {
        return Err(Failure::usage(format!(
            "`{name}` is still in {}, so a relay would register it again",
            config.file.display()
        ))
        .help("take it out there first"));
    }
    let behind = standing::behind(stores, &registration).await?;
    let mut backlog = behind.backlog.entries;
    if behind.forgotten.is_some() {
        // The table has more; how much, nobody need know who gives it up.
        let in_table = standing::in_table(stores, &registration).await.ok().flatten();
        backlog = backlog.max(in_table.unwrap_or(1));
    }
    let kept = stores.bookkeeping.kept_counts(&name).await?;
    let lost = kept.retrying + kept.dead + kept.parked;
    if (backlog > 0 || lost > 0) && !yes {
        let entries = counted(backlog, "entry", "entries");
        let kept = counted(lost, "kept event", "kept events");
        return Err(Failure::usage(format!("`{name}` has yet to publish {entries}, and has {kept}; nothing was done"))
            .help("--yes gives these up for this route"));
    }
    // A relay that still runs would write a checkpoint that a later route of this name would take for its own.
    without_relay(config, stores, out, "outbox route retire", async |_| {
        stores.bookkeeping.forget_route(&name).await?;
        Ok(stores.business.retire_route(&name).await?)
    })
    .await?;
    if out.json {
        out.value(&json!({ "retired": name.as_str(), "unpublished": backlog, "kept": lost }));
    } else {
        out.line(format!("{name} is retired; retention no longer waits for it"));
    }
    Ok(Exit::Ok)
}
