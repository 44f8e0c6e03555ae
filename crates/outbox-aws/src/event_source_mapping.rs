//! The event source mapping of a forwarder: what it is set to, and which settings lose or reorder events.
//!
//! Rule: "Using AWS Lambda with Amazon DynamoDB", "Parameters for DynamoDB event source mappings", of Lambda's developer guide;
//! `EventSourceMappingConfiguration` of its API reference.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use aws_sigv4::{
    http_request::{self, SignableBody, SignableRequest, SigningParams, SigningSettings},
    sign::v4,
};
use outbox::{Clock, ErrorKind, StoreError, System};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::{
    Settings,
    iam::Place,
    said::{is_without_credentials, said},
};

/// A mapping, as the service describes it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mapping {
    /// What invokes the function.
    pub event_source_arn: Option<String>,
    state: Option<String>,
    starting_position: Option<String>,
    parallelization_factor: Option<i64>,
    maximum_retry_attempts: Option<i64>,
    maximum_record_age_in_seconds: Option<i64>,
    bisect_batch_on_function_error: Option<bool>,
    function_response_types: Option<Vec<String>>,
    tumbling_window_in_seconds: Option<i64>,
    filter_criteria: Option<FilterCriteria>,
    /// Of a key of the operator's own, with which the filters are encrypted: then they are not shown.
    #[serde(rename = "KMSKeyArn")]
    kms_key_arn: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FilterCriteria {
    filters: Vec<Filter>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Filter {
    pattern: Option<String>,
}

/// The mappings of a function.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mappings {
    /// A page of them.
    pub event_source_mappings: Vec<Mapping>,
    /// Where the next page begins; none behind the last.
    pub next_marker: Option<String>,
}

/// A function, as the service describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Function {
    timeout: Option<u64>,
}

impl Function {
    /// How long an invocation may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }
}

/// A setting that loses or reorders events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsafe {
    /// The setting, as the service calls it.
    pub setting: &'static str,
    /// What it is, and what comes of that.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Mapping {
    /// Whether it reads a stream of the table called `table`.
    pub fn reads(&self, table: &str) -> bool {
        let resource = self.event_source_arn.as_deref().and_then(|arn| arn.split_once(":table/"));
        resource.is_some_and(|(_, of)| of.split('/').next() == Some(table) && of.contains("/stream/"))
    }

    /// Whether it reads the stream of this ARN.
    pub fn is_of(&self, stream: &str) -> bool {
        self.event_source_arn.as_deref() == Some(stream)
    }

    /// Every setting that is not as it has to be. Empty if all are.
    pub fn unsafe_settings(&self) -> Vec<Unsafe> {
        let mut found = Vec::new();
        let mut refuse = |setting, problem: String, remedy| found.push(Unsafe { setting, problem, remedy });
        if !self.function_response_types.iter().flatten().any(|kind| kind == "ReportBatchItemFailures") {
            let problem = "the answer that names what is not done counts as success: the rest of the batch is lost";
            refuse("FunctionResponseTypes", problem.to_owned(), "set it to [ReportBatchItemFailures]");
        }
        if let Some(attempts) = self.maximum_retry_attempts.filter(|attempts| *attempts >= 0) {
            let problem = format!("is {attempts}: a batch is dropped when the sink is down for longer");
            refuse("MaximumRetryAttempts", problem, "set it to -1");
        }
        if let Some(age) = self.maximum_record_age_in_seconds.filter(|age| *age >= 0) {
            let problem = format!("is {age}: records are dropped when the sink is down for longer");
            refuse("MaximumRecordAgeInSeconds", problem, "set it to -1");
        }
        if self.bisect_batch_on_function_error == Some(true) {
            let problem = "halves of a batch are tried apart, and fail apart";
            refuse("BisectBatchOnFunctionError", problem.to_owned(), "set it to false: the function names what failed");
        }
        if let Some(factor) = self.parallelization_factor.filter(|factor| *factor > 1) {
            let problem = format!("is {factor}: two entries of a key are two items, and are published at once");
            refuse("ParallelizationFactor", problem, "set it to 1");
        }
        if let Some(start) = self.starting_position.as_deref().filter(|start| *start != "TRIM_HORIZON") {
            let problem =
                format!("is {start}: what was written before is passed over, and so is what a new shard begins with");
            refuse("StartingPosition", problem, "make the mapping anew with TRIM_HORIZON");
        }
        if let Some(window) = self.tumbling_window_in_seconds.filter(|window| *window > 0) {
            let problem = format!("is {window}: the function keeps no state of a window");
            refuse("TumblingWindowInSeconds", problem, "set it to 0");
        }
        let filters = self.filter_criteria.iter().flat_map(|criteria| &criteria.filters);
        if filters.filter_map(|filter| filter.pattern.as_deref()).any(|pattern| !is_insertions(pattern)) {
            let problem = "leaves out records that the route may have to publish";
            refuse("FilterCriteria", problem.to_owned(), r#"leave it out, or filter {"eventName": ["INSERT"]} alone"#);
        }
        if self.kms_key_arn.is_some() && self.filter_criteria.is_none() {
            let problem =
                "is encrypted with a key of its own, and not shown: it may leave out what has to be published";
            refuse("FilterCriteria", problem.to_owned(), "take KMSKeyArn away: a filter holds no secret");
        }
        found
    }

    /// Whether it hands nothing in now, and what it says of itself.
    pub fn is_idle(&self) -> Option<&str> {
        self.state.as_deref().filter(|state| !matches!(*state, "Enabled" | "Creating" | "Enabling" | "Updating"))
    }
}

/// Whether all that the pattern lets through is new items, and all new items are.
fn is_insertions(pattern: &str) -> bool {
    let wanted = serde_json::json!({ "eventName": ["INSERT"] });
    serde_json::from_str::<serde_json::Value>(pattern).is_ok_and(|found| found == wanted)
}

/// A request that asks for a function or its mappings: a URL, and headers, one of which signs it.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// With these headers.
    pub headers: Vec<(String, String)>,
}

/// The request that lists the mappings of `function`: its name or ARN; from the `marker` on that the page before gave. Needs the
/// right `lambda:ListEventSourceMappings`.
///
/// # Errors
/// [`ErrorKind::Invalid`] if no region is known, [`ErrorKind::NotPermitted`] if there are no credentials,
/// [`ErrorKind::Unavailable`] if whoever gives them out does not just now.
pub async fn list(settings: &Settings, function: &str, marker: Option<&str>) -> Result<Request, StoreError> {
    let name = utf8_percent_encode(function, NON_ALPHANUMERIC);
    let marker = marker.map(|marker| format!("&Marker={}", utf8_percent_encode(marker, NON_ALPHANUMERIC)));
    let what = format!("event-source-mappings/?FunctionName={name}{}", marker.unwrap_or_default());
    ask(settings, &what, &System).await
}

/// The request that describes `function`: its name or ARN. Needs the right `lambda:GetFunctionConfiguration`.
///
/// # Errors
/// As [`list`].
pub async fn describe(settings: &Settings, function: &str) -> Result<Request, StoreError> {
    let name = utf8_percent_encode(function, NON_ALPHANUMERIC);
    ask(settings, &format!("functions/{name}/configuration"), &System).await
}

fn missing() -> StoreError {
    let message =
        "there are no credentials to ask for the functions' mappings with: give some in the environment or a profile";
    StoreError::new(ErrorKind::NotPermitted, message)
}

/// What it means that no credentials were given.
fn without(error: CredentialsError) -> StoreError {
    if is_without_credentials(&error) {
        return missing().because(error);
    }
    let message =
        format!("the credentials to ask for the functions' mappings with cannot be had just now: {}", said(&error));
    StoreError::new(ErrorKind::Unavailable, message).because(error)
}

/// Where Lambda is in a region.
///
/// Rule: "AWS Lambda endpoints and quotas" of the general reference, and the DNS suffixes of the other partitions.
fn endpoint(region: &str) -> String {
    let place = Place { region: region.to_owned(), account: String::new() };
    let suffix = match place.partition() {
        "aws-cn" => "amazonaws.com.cn",
        "aws-eusc" => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    format!("https://lambda.{region}.{suffix}")
}

async fn ask(settings: &Settings, what: &str, clock: &dyn Clock) -> Result<Request, StoreError> {
    let config = settings.load().await;
    let Some(region) = config.region().cloned() else {
        let message = "no region is known in which the functions are: write `region` in `[store]`, or set AWS_REGION";
        return Err(StoreError::new(ErrorKind::Invalid, message));
    };
    let provider = config.credentials_provider().ok_or_else(missing)?;
    let credentials = provider.provide_credentials().await.map_err(without)?;
    let base =
        config.endpoint_url().map_or_else(|| endpoint(region.as_ref()), |url| url.trim_end_matches('/').to_owned());
    let url = format!("{base}/2015-03-31/{what}");
    let identity = credentials.into();
    let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::new(ErrorKind::Invalid, "the question for the functions cannot be signed").because(error)
    };
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_ref())
        .name("lambda")
        .time(SystemTime::from(clock.wall()))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| unsigned(error.into()))?
        .into();
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| unsigned(error.into()))?;
    let signed = http_request::sign(request, &params).map_err(|error| unsigned(error.into()))?;
    let (instructions, _) = signed.into_parts();
    let headers = instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Request { url, headers })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "EventSourceArn": "arn:aws:dynamodb:eu-west-1:111122223333:table/carts-entries/stream/2026-11-21T00:00:00.000",
            "State": "Enabled", "StartingPosition": "TRIM_HORIZON", "ParallelizationFactor": 1, "MaximumRetryAttempts": -1,
            "MaximumRecordAgeInSeconds": -1, "BisectBatchOnFunctionError": false,
            "FunctionResponseTypes": ["ReportBatchItemFailures"], "TumblingWindowInSeconds": 0,
            "FilterCriteria": { "Filters": [{ "Pattern": "{\"eventName\": [\"INSERT\"]}" }] }, "BatchSize": 1000,
        })
    }

    fn refused(setting: &str, value: Value) -> Vec<&'static str> {
        let mut mapping = good();
        mapping[setting] = value;
        let mapping: Mapping = serde_json::from_value(mapping).unwrap();
        mapping.unsafe_settings().into_iter().map(|found| found.setting).collect()
    }

    #[test]
    fn lambda_is_asked_under_the_suffix_of_the_region_s_partition() {
        assert_eq!(endpoint("eu-west-1"), "https://lambda.eu-west-1.amazonaws.com");
        assert_eq!(endpoint("cn-north-1"), "https://lambda.cn-north-1.amazonaws.com.cn");
        assert_eq!(endpoint("eusc-de-east-1"), "https://lambda.eusc-de-east-1.amazonaws.eu");
    }

    #[test]
    fn credentials_that_nobody_gives_are_told_apart_from_those_that_cannot_be_had_just_now() {
        assert_eq!(without(CredentialsError::not_loaded("there is none")).kind(), ErrorKind::NotPermitted);
        let later = without(CredentialsError::provider_error("the role is not given out: 503"));
        assert_eq!(later.kind(), ErrorKind::Unavailable);
        assert!(later.to_string().contains("503"), "{later}");
    }

    #[test]
    fn a_mapping_as_it_has_to_be_is_not_refused() {
        let mapping: Mapping = serde_json::from_value(good()).unwrap();
        assert_eq!(mapping.unsafe_settings(), []);
        assert!(mapping.reads("carts-entries") && !mapping.reads("carts"));
        assert_eq!(mapping.is_idle(), None);
    }

    #[test]
    fn each_setting_that_loses_or_reorders_is_named() {
        for (setting, value) in [
            ("FunctionResponseTypes", json!([])),
            ("MaximumRetryAttempts", json!(10)),
            ("MaximumRecordAgeInSeconds", json!(3600)),
            ("BisectBatchOnFunctionError", json!(true)),
            ("ParallelizationFactor", json!(2)),
            ("StartingPosition", json!("LATEST")),
            ("TumblingWindowInSeconds", json!(60)),
            ("FilterCriteria", json!({ "Filters": [{ "Pattern": "{\"dynamodb\": {\"Keys\": {}}}" }] })),
        ] {
            assert_eq!(refused(setting, value), [setting]);
        }
    }

    #[test]
    fn filters_that_are_encrypted_are_refused_unless_they_are_shown() {
        let mut mapping = good();
        mapping["KMSKeyArn"] = json!("arn:aws:kms:eu-west-1:111122223333:key/1");
        let found = |mapping: &Value| serde_json::from_value::<Mapping>(mapping.clone()).unwrap().unsafe_settings();
        assert_eq!(found(&mapping), []);
        mapping["FilterCriteria"] = Value::Null;
        assert_eq!(found(&mapping).into_iter().map(|found| found.setting).collect::<Vec<_>>(), ["FilterCriteria"]);
    }

    #[test]
    fn a_mapping_that_says_nothing_is_refused_for_its_answers() {
        let found: Vec<_> = Mapping::default().unsafe_settings().into_iter().map(|found| found.setting).collect();
        assert_eq!(found, ["FunctionResponseTypes"]);
    }
}
