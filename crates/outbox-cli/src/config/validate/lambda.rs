//! `[lambda]`: which function publishes which route.

use std::collections::BTreeMap;

use outbox::RouteName;

use crate::config::{DatabaseConfig, StoreConfig, section::Section};

/// So many may read a stream; more are throttled.
///
/// Rule: "DynamoDB Streams", two readers a shard at most.
const MOST: usize = 2;

/// By route, the function that publishes its events; none where a relay does.
pub(super) fn forwarders(
    root: &Section<'_>,
    names: &[Option<RouteName>],
    store: Option<&StoreConfig>,
) -> Option<BTreeMap<String, String>> {
    let Some(section) = root.section("lambda") else {
        return (!root.has("lambda")).then(BTreeMap::new);
    };
    let forwarders = section.named_texts("forwarders");
    if forwarders.is_empty() {
        let help = "name the function of each route, as `forwarders = { bus = \"carts-forwarder\" }`";
        section.problem("forwarders", "names no function", help);
    }
    for (route, function) in &forwarders {
        if !names.iter().flatten().any(|name| name.as_str() == route) {
            section.problem("forwarders", format!("there is no route `{route}`"), "name a route of this file");
        }
        if function.trim().is_empty() {
            section.problem("forwarders", format!("`{route}` names no function"), "write its name or its ARN");
        }
    }
    for name in names.iter().flatten().filter(|name| !forwarders.contains_key(name.as_str())) {
        let help = "give each route a function of its own: no relay runs beside functions";
        section.problem("forwarders", format!("no function publishes route `{name}`"), help);
    }
    for (route, function) in &forwarders {
        if let Some((first, _)) =
            forwarders.iter().take_while(|(name, _)| *name != route).find(|(_, of)| is_same(of, function))
        {
            let problem = format!("`{first}` and `{route}` name the same function, which publishes one of them");
            section.problem("forwarders", problem, "give each route a function of its own, with its own OUTBOX_ROUTE");
        }
    }
    if forwarders.len() > MOST {
        let problem = format!("{} functions would read one stream, which serves {MOST}", forwarders.len());
        section.problem("forwarders", problem, "let one publish to an event bus, and fan out by its rules");
    }
    if store.is_some_and(|store| !is_of_ours(store)) {
        section.problem(
            "forwarders",
            "functions publish from tables of DynamoDB in Outbox's own layout",
            "run a relay",
        );
    }
    section.finish();
    Some(forwarders)
}

/// Whether both name one function, by its name or its ARN.
fn is_same(one: &str, other: &str) -> bool {
    let name = |function: &str| function.rsplit_once(":function:").map_or(function, |(_, name)| name).to_owned();
    name(one) == name(other)
}

/// Whether the store is in tables of DynamoDB that are laid out as Outbox lays them out.
fn is_of_ours(store: &StoreConfig) -> bool {
    match &store.database {
        #[cfg(feature = "sql")]
        DatabaseConfig::Sqlite(_) | DatabaseConfig::Postgres(_) => false,
        #[cfg(feature = "aws")]
        DatabaseConfig::Dynamo(_) => !store.database.is_mapped(),
    }
}
