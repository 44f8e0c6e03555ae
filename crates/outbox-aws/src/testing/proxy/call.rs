//! A call as it was sent: which service, which operation, with what.

use bytes::Bytes;
use serde_json::Value;

use crate::testing::http::Message;

/// A call as it was sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// The service, as it is called in IAM: `dynamodb`, `events`, `s3`; empty for a request that is not signed.
    pub service: String,
    /// The operation, as `PutEvents`.
    pub operation: String,
    /// The body of a JSON protocol; null otherwise.
    pub body: Value,
    /// The request's target, as `/bucket/key`.
    pub target: String,
    /// The body, byte for byte.
    pub bytes: Bytes,
    pub(super) headers: Vec<(String, String)>,
}

impl Call {
    /// What `request` calls.
    pub(super) fn of(request: &Message) -> Self {
        let (method, target) = request.request_line();
        let operation = match request.header("x-amz-target") {
            Some(named) => named.rsplit('.').next().unwrap_or_default().to_owned(),
            None => query_action(&request.body).unwrap_or_else(|| of_s3(method, target, request)),
        };
        Self {
            service: signed_for(request).unwrap_or_default(),
            operation,
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            target: target.to_owned(),
            bytes: request.body.clone(),
            headers: request.headers.clone(),
        }
    }

    /// The value of the header `name`, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether its errors are XML, as those of S3 and the query protocol.
    pub(super) fn is_xml(&self) -> bool {
        matches!(self.service.as_str(), "s3" | "sts" | "sns")
    }
}

/// The service that the signature names.
///
/// Rule: Signature Version 4, `Credential=ID/date/region/service/aws4_request`.
fn signed_for(request: &Message) -> Option<String> {
    let (_, credential) = request.header("authorization")?.split_once("Credential=")?;
    credential.split(',').next()?.split('/').nth(3).map(str::to_owned)
}

/// The operation of the query protocol: `Action=AssumeRole&…`.
fn query_action(body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action="))?;
    Some(action.to_owned())
}

/// The operation of S3, as far as the library calls it.
fn of_s3(method: &str, target: &str, request: &Message) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let has_key = path.trim_matches('/').contains('/');
    let operation = match (method, has_key) {
        ("PUT", true) if request.header("x-amz-copy-source").is_some() => "CopyObject",
        ("PUT", true) => "PutObject",
        ("PUT", false) => "CreateBucket",
        ("GET", true) => "GetObject",
        ("GET", false) => "ListObjectsV2",
        ("HEAD", true) => "HeadObject",
        ("HEAD", false) => "HeadBucket",
        ("DELETE", true) => "DeleteObject",
        ("DELETE", false) => "DeleteBucket",
        _ => method,
    };
    operation.to_owned()
}
