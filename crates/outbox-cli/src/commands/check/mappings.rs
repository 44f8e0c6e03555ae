//! Whether the event source mappings of the functions that publish lose or reorder nothing.

use std::time::Duration;

use outbox::RouteName;
use outbox_aws::{
    dynamodb::{Reached, StreamsSource, TableSource},
    event_source_mapping::{self, Function, Mapping, Mappings, Request},
};
use serde::de::DeserializeOwned;

use super::findings::{Findings, Level};
use crate::{
    config::{Config, DatabaseConfig, DynamoConfig, RouteConfig, SinkConfig},
    exit::Failure,
    wiring::{self, Stores},
};

/// How long Lambda may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at the mapping of every function that the configuration names, and at what a relay left behind.
pub(super) async fn check(config: &Config, stores: Option<&Stores>, findings: &mut Findings) {
    let DatabaseConfig::Dynamo(dynamo) = &config.store.database else { return };
    if config.forwarders.is_empty() {
        return;
    }
    let opened = async {
        let stream = wiring::stream(dynamo, &wiring::dynamo(dynamo).await?).await?;
        Ok::<_, Failure>((stream.arn().await?, stream))
    };
    let (arn, stream) = match opened.await {
        Ok(opened) => opened,
        Err(failure) => return findings.failure("stream", &failure),
    };
    for (route, function) in &config.forwarders {
        let subject = format!("function of {route}");
        match mappings(dynamo, function).await {
            Ok(mappings) => judge(dynamo, &arn, function, &mappings, &subject, findings),
            Err(failure) => findings.failure(subject.as_str(), &failure),
        }
        if let Some(route) = config.route(route) {
            timeouts(dynamo, route, function, &subject, findings).await;
        }
        if let Some(stores) = stores
            && let Err(failure) = taken_over(stores, &stream, route, &subject, findings).await
        {
            findings.failure(subject, &failure);
        }
    }
}

/// What a relay has not done that published the route, and the stream has forgotten, no function is handed.
async fn taken_over(
    stores: &Stores,
    stream: &StreamsSource,
    route: &str,
    subject: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let Ok(route) = RouteName::new(route) else { return Ok(()) };
    let elsewhere = TableSource::published_elsewhere().partition;
    let mut left = stores.bookkeeping.checkpoints(&route).await?;
    left.retain(|left| left.partition != elsewhere);
    if left.is_empty() {
        return Ok(());
    }
    let Reached { until, is_forgotten } = stream.reached(&left).await?;
    if is_forgotten {
        let text =
            format!("a relay published the route until {until}, and the stream does not hold all that came since");
        let help = format!(
            "before functions take its place, let the relay catch up, or finish reading the table; else run `outbox recover --route {route} --yes` once the keeper has noted it"
        );
        findings.add(Level::Problem, subject, text, Some(&help));
    } else {
        findings.ok(subject, format!("takes over from a relay: the stream holds what came since {until}"));
    }
    Ok(())
}

async fn mappings(dynamo: &DynamoConfig, function: &str) -> Result<Vec<Mapping>, Failure> {
    let (mut all, mut marker) = (Vec::new(), None);
    loop {
        let asked = event_source_mapping::list(&dynamo.aws, function, marker.as_deref()).await?;
        let page: Mappings = answer(asked).await.map_err(|error| {
            Failure::new(format!("the mappings of function {function} cannot be read"))
                .because(&error)
                .help("the command needs the right lambda:ListEventSourceMappings")
        })?;
        all.extend(page.event_source_mappings);
        marker = page.next_marker.filter(|marker| !marker.is_empty());
        if marker.is_none() {
            return Ok(all);
        }
    }
}

async fn answer<T: DeserializeOwned>(asked: Request) -> Result<T, reqwest::Error> {
    let mut request = reqwest::Client::builder().timeout(PATIENCE).build()?.get(&asked.url);
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    request.send().await?.error_for_status()?.json().await
}

/// Whether a call to the sink may take as long as its timeout says, before the function's own is over.
async fn timeouts(dynamo: &DynamoConfig, route: &RouteConfig, function: &str, subject: &str, findings: &mut Findings) {
    let sink = match &route.sink {
        SinkConfig::Webhook(webhook) => webhook.timeout,
        SinkConfig::EventBridge(bus) => bus.timeout,
        SinkConfig::File(_) | SinkConfig::Stdout => return,
    };
    let Ok(asked) = event_source_mapping::describe(&dynamo.aws, function).await else { return };
    match answer::<Function>(asked).await.map(|function| function.timeout()) {
        Ok(Some(has)) if has < sink.saturating_mul(2) => {
            let text = format!(
                "the function's timeout is {}s, and the sink's {}s: a call may be given up before it is answered",
                has.as_secs(),
                sink.as_secs()
            );
            findings.note(subject, text, Some("let the function have twice the time of the sink"));
        }
        Ok(_) => {}
        Err(error) => {
            let text = format!("the function's timeout cannot be read: {}", error.without_url());
            findings.note(subject, text, Some("the command needs the right lambda:GetFunctionConfiguration"));
        }
    }
}

fn judge(dynamo: &DynamoConfig, arn: &str, function: &str, all: &[Mapping], subject: &str, findings: &mut Findings) {
    let table = dynamo.tables().entries().to_owned();
    let (of_ours, others): (Vec<&Mapping>, Vec<&Mapping>) =
        all.iter().filter(|mapping| mapping.reads(&table)).partition(|mapping| mapping.is_of(arn));
    for other in others {
        let of = other.event_source_arn.as_deref().unwrap_or_default();
        let text = format!("a mapping reads {of}, a former stream of {table} or another region's");
        findings.note(subject, text, Some("remove it"));
    }
    let [mapping] = of_ours.as_slice() else {
        let count = of_ours.len();
        let text = format!("{function} has {count} mappings of the stream of {table}, and needs one: of {arn}");
        findings.add(Level::Problem, subject, text, Some("make one, as deploy/carts/template.yaml does"));
        return;
    };
    let found = mapping.unsafe_settings();
    for one in &found {
        findings.add(Level::Problem, subject, format!("{}: {}", one.setting, one.problem), Some(one.remedy));
    }
    if let Some(state) = mapping.is_idle() {
        findings.add(
            Level::Problem,
            subject,
            format!("its mapping is {state}: nothing is published"),
            Some("enable it"),
        );
    }
    if found.is_empty() {
        findings.ok(subject, format!("{function}: its mapping loses and reorders nothing"));
    }
}
