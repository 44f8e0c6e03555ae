//! The entries of a `PutEvents`, one by one.
//!
//! Rule: `PutEvents` of the API reference: the answer's entries are as many as the request's and in their order; one that
//! was accepted has an `EventId`, one that was not has an `ErrorCode`.

use serde_json::{Value, json};

use super::Call;

/// How many there are; none in a call of another operation.
pub(super) fn count(call: &Call) -> usize {
    if call.operation == "PutEvents" { list(&call.body).len() } else { 0 }
}

/// The request without the entries that are turned away; `None` if that is all of them.
pub(super) fn without(body: &Value, refused: &[(usize, String)]) -> Option<Value> {
    let left: Vec<_> = list(body)
        .iter()
        .enumerate()
        .filter(|(position, _)| code_at(refused, *position).is_none())
        .map(|(_, entry)| entry.clone())
        .collect();
    if left.is_empty() {
        return None;
    }
    let mut body = body.clone();
    body["Entries"] = Value::Array(left);
    Some(body)
}

/// The answer to the whole request: `answered` to what got there, and the codes of what did not.
pub(super) fn with(body: &Value, refused: &[(usize, String)], answered: &Value) -> Value {
    let mut passed = list(answered).iter();
    let mut failed = 0;
    let entries: Vec<_> = (0..list(body).len())
        .map(|position| {
            let entry = code_at(refused, position).map_or_else(
                || passed.next().cloned().unwrap_or_default(),
                |code| json!({ "ErrorCode": code, "ErrorMessage": "as scripted" }),
            );
            failed += usize::from(entry.get("ErrorCode").is_some());
            entry
        })
        .collect();
    json!({ "FailedEntryCount": failed, "Entries": entries })
}

/// The entries of the request that the answer says were accepted.
pub(super) fn accepted(body: &Value, answered: &Value) -> Vec<Value> {
    let answers = list(answered).iter();
    let both = list(body).iter().zip(answers);
    both.filter(|(_, answer)| answer.get("EventId").is_some()).map(|(entry, _)| entry.clone()).collect()
}

/// The answer of a service that takes everything.
pub(super) fn all_accepted(body: &Value) -> Value {
    let entries: Vec<_> = (0..list(body).len()).map(|position| json!({ "EventId": format!("{position}") })).collect();
    json!({ "FailedEntryCount": 0, "Entries": entries })
}

fn list(body: &Value) -> &[Value] {
    body["Entries"].as_array().map_or(&[], Vec::as_slice)
}

fn code_at(refused: &[(usize, String)], position: usize) -> Option<&str> {
    refused.iter().find(|(at, _)| *at == position).map(|(_, code)| code.as_str())
}
