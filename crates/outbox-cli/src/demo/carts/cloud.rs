//! What the demo needs of AWS besides the service's tables: a bus, a rule, two queues.

use aws_sdk_dynamodb::{error::DisplayErrorContext, types::Select};
use aws_sdk_eventbridge::types::{SqsParameters, Target};
use aws_sdk_sqs::types::QueueAttributeName;
use carts::PRODUCER;
use outbox_aws::Settings;
use serde_json::json;

use super::{emulator, stage::Stage};

/// The Region of everything.
pub(crate) const REGION: &str = emulator::REGION;
/// How long a message that was received and not deleted waits until it comes again: longer than a batch takes on a busy
/// machine.
const AGAIN_SECONDS: u32 = 15;
/// Tables of the service, the relay and the consumer.
const TABLES: [&str; 7] = ["carts", "requests", "entries", "heads", "bookkeeping", "totals", "inboxes"];

/// Clients, and what was made.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub sqs: aws_sdk_sqs::Client,
    events: aws_sdk_eventbridge::Client,
    prefix: String,
    /// What the consumer reads: in no order, as queues are by default.
    pub work: String,
    /// What the demo reads: in the order of the bus.
    pub log: String,
}

/// Who asks an emulator: nobody looks at it, but a request has to be signed.
pub(crate) const ANYBODY: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "demo"), ("AWS_SECRET_ACCESS_KEY", "demo")];

/// Whether anybody may ask: always the emulator of one's own, and another endpoint where the environment names nobody.
pub(crate) fn asks_as_anybody(stage: &Stage) -> bool {
    stage.has_emulator() || !["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().any(|name| std::env::var_os(name).is_some())
}

/// How AWS is reached at `endpoint`.
pub(crate) fn settings(endpoint: String) -> Settings {
    Settings { region: Some(REGION.to_owned()), endpoint: Some(endpoint), role: None }
}

impl Cloud {
    /// Makes bus, queues and rule.
    ///
    /// # Errors
    /// What was not made, and what AWS said.
    pub(crate) async fn set_up(stage: &Stage) -> Result<Self, String> {
        let config = settings(stage.endpoint()).load().await;
        let config =
            if asks_as_anybody(stage) { config.into_builder().credentials_provider(anybody()).build() } else { config };
        let prefix = stage.prefix().to_owned();
        let mut cloud = Self {
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            events: aws_sdk_eventbridge::Client::new(&config),
            work: String::new(),
            log: String::new(),
            prefix,
        };
        let made = cloud.events.create_event_bus().name(&cloud.prefix).send().await;
        made.map_err(|error| said(&format!("making the bus at {}", stage.endpoint()), &error))?;
        cloud.work = cloud.queue(&format!("{}-work", cloud.prefix), false).await?;
        cloud.log = cloud.queue(&format!("{}-log.fifo", cloud.prefix), true).await?;
        cloud.rule().await?;
        Ok(cloud)
    }

    async fn queue(&self, name: &str, in_order: bool) -> Result<String, String> {
        let again = AGAIN_SECONDS.to_string();
        let mut queue =
            self.sqs.create_queue().queue_name(name).attributes(QueueAttributeName::VisibilityTimeout, again);
        if in_order {
            queue = queue.attributes(QueueAttributeName::FifoQueue, "true");
            queue = queue.attributes(QueueAttributeName::ContentBasedDeduplication, "true");
        }
        let made = queue.send().await.map_err(|error| said(&format!("making the queue {name}"), &error))?;
        made.queue_url.ok_or_else(|| format!("making the queue {name}: no URL was answered"))
    }

    async fn rule(&self) -> Result<(), String> {
        let (work, log) = (self.arn(&self.work).await?, self.arn(&self.log).await?);
        let one_group = SqsParameters::builder().message_group_id("log").build();
        let targets = [
            Target::builder().id("work").arn(work).build(),
            Target::builder().id("log").arn(log).sqs_parameters(one_group).build(),
        ];
        let targets = targets.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let pattern = json!({ "source": [PRODUCER] }).to_string();
        let rule = self.events.put_rule().name(&self.prefix).event_bus_name(&self.prefix).event_pattern(pattern);
        rule.send().await.map_err(|error| said("making the rule", &error))?;
        let put = self.events.put_targets().rule(&self.prefix).event_bus_name(&self.prefix);
        let put = put.set_targets(Some(targets)).send().await;
        put.map(drop).map_err(|error| said("making the rule's targets", &error))
    }

    async fn arn(&self, url: &str) -> Result<String, String> {
        let asked = self.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::QueueArn);
        let answered = asked.send().await.map_err(|error| said("looking at a queue", &error))?;
        let arn = answered.attributes.and_then(|mut all| all.remove(&QueueAttributeName::QueueArn));
        arn.ok_or_else(|| format!("the queue {url} has no ARN"))
    }

    /// How many items a table has.
    ///
    /// # Errors
    /// What DynamoDB said.
    pub(crate) async fn count(&self, table: &str) -> Result<u64, String> {
        let name = format!("{}-{table}", self.prefix);
        let (mut count, mut start) = (0, None);
        loop {
            let scan = self.dynamodb.scan().table_name(&name).select(Select::Count).consistent_read(true);
            let page = scan.set_exclusive_start_key(start).send().await;
            let page = page.map_err(|error| said(&format!("counting the items of {name}"), &error))?;
            count += u64::from(page.count.unsigned_abs());
            match page.last_evaluated_key {
                Some(key) => start = Some(key),
                None => return Ok(count),
            }
        }
    }

    /// Removes all that was made, where somebody else's emulator would keep it.
    pub(crate) async fn remove(&self) {
        let mut left = Vec::new();
        let mut note = |what: String, failed: bool| left.extend(failed.then_some(what));
        let name = &self.prefix;
        let targets = self.events.remove_targets().rule(name).event_bus_name(name).ids("work").ids("log").send().await;
        let rule = self.events.delete_rule().name(name).event_bus_name(name).send().await;
        let bus = self.events.delete_event_bus().name(name).send().await;
        note(format!("the bus {name}"), targets.is_err() || rule.is_err() || bus.is_err());
        for url in [&self.work, &self.log] {
            note(format!("the queue {url}"), self.sqs.delete_queue().queue_url(url).send().await.is_err());
        }
        for table in TABLES.map(|table| format!("{name}-{table}")) {
            let removed = self.dynamodb.delete_table().table_name(&table).send().await;
            note(format!("the table {table}"), removed.is_err());
        }
        if !left.is_empty() {
            eprintln!("could not remove {}: remove it by hand", left.join(", "));
        }
    }
}

/// Credentials that nobody looks at.
fn anybody() -> aws_sdk_dynamodb::config::SharedCredentialsProvider {
    let [(_, id), (_, secret)] = ANYBODY;
    let any = aws_sdk_dynamodb::config::Credentials::new(id, secret, None, None, "outbox demo");
    aws_sdk_dynamodb::config::SharedCredentialsProvider::new(any)
}

fn said(what: &str, error: &(impl std::error::Error + 'static)) -> String {
    format!("{what}: {}", DisplayErrorContext(error))
}
