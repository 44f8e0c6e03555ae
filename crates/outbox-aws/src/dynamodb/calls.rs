//! Calls to DynamoDB, retried with jitter under a deadline; and what became of a transaction, action by action.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    config::{http::HttpResponse, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, CancellationReason, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use outbox::{Clock, CommitId, Entropy, Moment, StoreError};

use super::{failure::Failure, item::Item};

/// The first delay between two attempts is drawn from up to here; each next one from up to twice as much.
const FIRST_DELAY: Duration = Duration::from_millis(25);
/// No delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// How long one attempt may take before its answer counts as lost.
const ATTEMPT: Duration = Duration::from_secs(6);

/// How DynamoDB is called. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// How long a call is tried again.
    pub(super) patience: Duration,
    /// Until when, where several calls have the patience of one.
    until: Option<Moment>,
}

/// Why a transaction did not commit.
#[derive(Debug)]
pub(super) enum NotCommitted {
    /// Conditions failed.
    Conditions(Failed),
    /// An action was refused for what it is, whatever the other actions do. If it is uncertain, an attempt before may have
    /// committed.
    Refused {
        /// Its position.
        action: usize,
        /// Why.
        failure: Failure,
    },
    /// Anything else. If it is uncertain, the transaction may have committed.
    Failed(Failure),
}

/// Which conditions failed.
#[derive(Debug, Default)]
pub(super) struct Failed {
    /// By position, with the item as it was, where there was one and the service told.
    pub(super) items: HashMap<usize, Option<Item>>,
    /// Whether the answer to an attempt before was lost: then this very transaction may be why they failed.
    pub(super) after_lost_answer: bool,
}

impl Failed {
    pub(super) fn has(&self, action: usize) -> bool {
        self.items.contains_key(&action)
    }
}

impl Calls {
    /// Calls through `client`, whose own retries are turned off: each attempt is counted here.
    pub(super) fn new(client: &Client, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, patience: Duration) -> Self {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT.min(patience)).build();
        let config = client.config().to_builder().retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        Self { client: Client::from_conf(config.build()), clock, entropy, patience, until: None }
    }

    /// The same, but that all calls through it have the patience of one together, from now on.
    pub(super) fn together(&self) -> Self {
        Self { until: Some(self.clock.moment() + self.patience), ..self.clone() }
    }

    fn deadline(&self) -> Moment {
        self.until.unwrap_or_else(|| self.clock.moment() + self.patience)
    }

    /// The client, for one attempt.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes a call until it succeeds, fails for good, or time is up. An error is uncertain if any attempt was.
    pub(super) async fn call<T, E, F>(&self, attempt: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut retries = self.retries();
        loop {
            let failure = match attempt().await {
                Ok(output) => return Ok(output),
                Err(error) => Failure::of(&error),
            };
            retries.again(failure).await?;
        }
    }

    /// Commits `actions` under one token, which stays the same over all attempts: whatever was lost on the way, they take
    /// effect once.
    pub(super) async fn transact(&self, actions: Vec<TransactWriteItem>, token: &str) -> Result<(), NotCommitted> {
        let mut retries = self.retries();
        loop {
            let request = self.client.transact_write_items().client_request_token(token);
            let Err(error) = request.set_transact_items(Some(actions.clone())).send().await else { return Ok(()) };
            let failure = match cancelled(&error) {
                Some(reasons) => judge(reasons, retries.uncertain)?,
                None => Failure::of(&error),
            };
            retries.again(failure).await.map_err(NotCommitted::Failed)?;
        }
    }

    /// A token for a transaction: 32 random hexadecimal digits.
    pub(super) fn token(&self) -> String {
        CommitId(self.entropy.sixteen()).to_string()
    }

    /// The item with this key, as it is now.
    pub(super) async fn get(&self, table: &str, key: Item) -> Result<Option<Item>, Failure> {
        let attempt = || {
            let get = self.client.get_item().table_name(table).set_key(Some(key.clone()));
            get.consistent_read(true).send()
        };
        self.call(attempt).await.map(|output| output.item).map_err(Failure::of_reading)
    }

    /// A retry loop's state.
    fn retries(&self) -> Retries<'_> {
        Retries {
            calls: self,
            deadline: self.deadline(),
            failures: 0,
            uncertain: false,
            rng: fastrand::Rng::with_seed(self.entropy.seed()),
        }
    }

    /// A retry loop for whoever makes several different calls under one deadline.
    pub(super) fn pauses(&self) -> Pauses {
        Pauses { deadline: self.deadline(), failures: 0, rng: fastrand::Rng::with_seed(self.entropy.seed()) }
    }
}

struct Retries<'a> {
    calls: &'a Calls,
    deadline: Moment,
    failures: u32,
    uncertain: bool,
    rng: fastrand::Rng,
}

impl Retries<'_> {
    /// Waits before the next attempt; gives the failure back if there is to be none.
    async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        self.uncertain |= failure.uncertain;
        self.failures += 1;
        let delay = delay(self.failures, &mut self.rng);
        let now = self.calls.clock.moment();
        if !failure.retry() || now + delay >= self.deadline {
            return Err(failure.after_uncertain(self.uncertain));
        }
        tracing::debug!(attempt = self.failures, %failure, "DynamoDB is asked again");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Pauses between attempts that each are several calls.
pub(super) struct Pauses {
    deadline: Moment,
    failures: u32,
    rng: fastrand::Rng,
}

impl Pauses {
    /// Waits before the next attempt; false if time is up.
    pub(super) async fn wait(&mut self, clock: &dyn Clock) -> bool {
        self.failures += 1;
        let delay = delay(self.failures, &mut self.rng);
        if clock.moment() + delay >= self.deadline {
            return false;
        }
        tokio::time::sleep(delay).await;
        true
    }
}

/// Full jitter: somewhere between nothing and a ceiling that doubles.
fn delay(failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let ceiling = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_DELAY);
    Duration::from_nanos(rng.u64(0..=u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX)))
}

fn cancelled(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => Some(cancelled.cancellation_reasons()),
        // Every other one is judged by its code.
        _ => None,
    }
}

/// What the reasons of a cancelled transaction mean, position by position. A failure to be retried comes back as such.
///
/// Rule: `TransactionCanceledException` of the API reference: a reason for each action, in their order, `None` for those
/// that were fine.
fn judge(reasons: &[CancellationReason], after_lost_answer: bool) -> Result<Failure, NotCommitted> {
    let mut failed = Failed { after_lost_answer, ..Failed::default() };
    let mut passing = None;
    for (action, reason) in reasons.iter().enumerate() {
        match reason.code().unwrap_or("None") {
            "None" => {}
            "ConditionalCheckFailed" => {
                failed.items.insert(action, reason.item().cloned());
            }
            code => {
                let failure = Failure::cancelled(code, reason.message());
                if !failure.retry() {
                    let failure = failure.after_uncertain(after_lost_answer);
                    return Err(NotCommitted::Refused { action, failure });
                }
                passing = Some(failure);
            }
        }
    }
    match passing {
        _ if !failed.items.is_empty() => Err(NotCommitted::Conditions(failed)),
        Some(failure) => Ok(failure),
        // Cancelled, and nobody says why: nothing was written, and it may be written the next time.
        None => Ok(Failure::cancelled("TransactionConflict", Some("cancelled without a reason"))),
    }
}

/// What every condition here asks for: the item as it was, when it fails.
pub(super) const ALL_OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

/// Gives a failure's error the name of what was attempted.
pub(super) fn attempted(what: &'static str) -> impl Fn(Failure) -> StoreError {
    move |failure| failure.store_error(what)
}

/// The values of an expression.
pub(super) fn values<const N: usize>(values: [(&str, AttributeValue); N]) -> HashMap<String, AttributeValue> {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The names of an expression: `#name` for each, for many a plain one is a reserved word.
pub(super) fn names<const N: usize>(names: [&str; N]) -> HashMap<String, String> {
    names.into_iter().map(|name| (format!("#{name}"), name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(codes: &[&str]) -> Vec<CancellationReason> {
        codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect()
    }

    #[test]
    fn a_failed_condition_is_a_result_though_another_action_met_a_conflict() {
        let judged = judge(&reasons(&["None", "ConditionalCheckFailed", "TransactionConflict"]), false);
        let Err(NotCommitted::Conditions(failed)) = judged else { panic!("{judged:?}") };
        assert!(failed.has(1) && failed.items.len() == 1);
    }

    #[test]
    fn conflicts_and_throttles_alone_are_tried_again() {
        for code in ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError"] {
            assert!(judge(&reasons(&["None", code]), false).is_ok(), "{code}");
        }
    }

    #[test]
    fn what_an_action_is_refused_for_names_its_position() {
        for code in ["ValidationError", "ItemCollectionSizeLimitExceeded", "NeverHeardOf"] {
            let judged = judge(&reasons(&["None", "TransactionConflict", code]), false);
            assert!(matches!(judged, Err(NotCommitted::Refused { action: 2, .. })), "{code}: {judged:?}");
        }
    }

    #[test]
    fn delays_grow_and_stay_below_the_longest() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut longest = |failures| (0..200).map(|_| delay(failures, &mut rng)).max().unwrap_or_default();
        let (first, sixth, hundredth) = (longest(1), longest(6), longest(100));
        assert!(first <= FIRST_DELAY && sixth > FIRST_DELAY && hundredth <= LONGEST_DELAY);
    }
}
