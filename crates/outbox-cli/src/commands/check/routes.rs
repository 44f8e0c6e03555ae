//! What a relay would do with each route.

use outbox::{Clock as _, Start, System, store::Registration};

use super::findings::{Findings, Level};
use crate::{
    commands::{route::start_text, standing},
    config::{Config, RouteConfig},
    exit::Failure,
    output::{age, counted, plain, since},
    wiring::Stores,
};

/// Says what a relay would do with `route`.
pub(super) async fn would_do(
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
    if let Some(function) = config.forwarders.get(name.as_str()) {
        is_handed(route, function, subject, findings);
    } else {
        let registration = found.cloned().unwrap_or_else(|| standing::would_be(route, now));
        would_publish(stores, &registration, found.is_some(), subject, findings).await?;
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
pub(super) async fn unconfigured(config: &Config, stores: &Stores, findings: &mut Findings) -> Result<(), Failure> {
    for registration in stores.business.routes().await? {
        if config.route(registration.route.as_str()).is_none() {
            let help = "`outbox route rename` if it was renamed, `outbox route retire` if it is gone";
            let text = "registered, but no longer configured: retention waits for it";
            findings.add(Level::Problem, format!("route {}", registration.route), text, Some(help));
        }
    }
    Ok(())
}
