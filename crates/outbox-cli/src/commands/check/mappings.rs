//! Whether the event source mappings of the functions that publish lose or reorder nothing.

use outbox_aws::event_source_mapping::{self, Mapping, Mappings};

use super::{Findings, Level};
use crate::{
    config::{Config, DatabaseConfig, DynamoConfig},
    exit::Failure,
};

/// Looks at the mapping of every function that the configuration names.
pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let DatabaseConfig::Dynamo(dynamo) = &config.store.database else { return };
    for (route, function) in &config.forwarders {
        let subject = format!("function of {route}");
        match mappings(dynamo, function).await {
            Ok(mappings) => judge(dynamo, function, &mappings, &subject, findings),
            Err(failure) => findings.failure(subject, &failure),
        }
    }
}

async fn mappings(dynamo: &DynamoConfig, function: &str) -> Result<Mappings, Failure> {
    let asked = event_source_mapping::list(&dynamo.aws, function).await?;
    let failed = |error: &reqwest::Error| {
        Failure::new(format!("the mappings of function {function} cannot be read"))
            .because(error)
            .help("the command needs the right lambda:ListEventSourceMappings")
    };
    let mut request = reqwest::Client::new().get(&asked.url);
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(|error| failed(&error))?;
    answer.json().await.map_err(|error| failed(&error))
}

fn judge(dynamo: &DynamoConfig, function: &str, mappings: &Mappings, subject: &str, findings: &mut Findings) {
    let tables = dynamo.tables();
    let of_ours: Vec<&Mapping> =
        mappings.event_source_mappings.iter().filter(|mapping| mapping.reads(tables.entries())).collect();
    let [mapping] = of_ours.as_slice() else {
        let count = of_ours.len();
        let text = format!("{function} has {count} mappings of the stream of {}, and needs one", tables.entries());
        findings.add(Level::Problem, subject, text, Some("make one, as deploy/carts/template.yaml does"));
        return;
    };
    let found = mapping.unsafe_settings();
    for one in &found {
        findings.add(Level::Problem, subject, format!("{}: {}", one.setting, one.problem), Some(one.remedy));
    }
    if let Some(state) = mapping.is_idle() {
        findings.note(subject, format!("its mapping is {state}: nothing is published"), Some("enable it"));
    }
    if found.is_empty() {
        findings.ok(subject, format!("{function}: its mapping loses and reorders nothing"));
    }
}
