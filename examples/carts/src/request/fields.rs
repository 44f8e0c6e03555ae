//! The fields of an object in a request, read one by one.

use std::ops::RangeInclusive;

use http::StatusCode;
use serde_json::{Map, Value};

use crate::problem::{Complaint, Problem};

/// The fields of an object, and what is wrong with those that were read.
pub(super) struct Fields {
    map: Map<String, Value>,
    path: String,
    pub(super) complaints: Vec<Complaint>,
}

impl Fields {
    /// Those of the object at `path`; empty for the body itself.
    pub(super) fn new(map: Map<String, Value>, path: &str) -> Self {
        Self { map, path: path.to_owned(), complaints: Vec::new() }
    }

    /// Those of a body, which should look like `example`.
    pub(super) fn of_body(body: Value, example: &str) -> Result<Self, Problem> {
        match body {
            Value::Object(map) => Ok(Self::new(map, "")),
            other => {
                let detail = format!("the body is {}: send an object, as {example}", kind(&other));
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
            }
        }
    }

    fn complain(&mut self, name: &str, detail: String) {
        let field = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        self.complaints.push(Complaint { field, detail });
    }

    /// A text that `is_right`, or else the remedy is said.
    pub(super) fn text(&mut self, name: &str, is_right: fn(&str) -> bool, remedy: &str) -> Option<String> {
        let detail = match self.map.get(name) {
            Some(Value::String(text)) if is_right(text) => return Some(text.clone()),
            Some(Value::String(_)) => format!("is not one: {remedy}"),
            Some(other) => format!("is {}: give a text; {remedy}", kind(other)),
            None => format!("is missing: {remedy}"),
        };
        self.complain(name, detail);
        None
    }

    /// A whole number in `range`; `what` says of what.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<u64>, what: &str) -> Option<u64> {
        let found = self.map.get(name);
        if let Some(number) = found.and_then(Value::as_u64).filter(|number| range.contains(number)) {
            return Some(number);
        }
        let is = match found {
            None => "is missing",
            Some(Value::Number(number)) if number.is_f64() => "has a decimal point or is too large",
            Some(Value::Number(_)) => "is out of range",
            Some(other) => &format!("is {}", kind(other)),
        };
        let detail = format!("{is}: give a whole number{what}, from {} to {}", range.start(), range.end());
        self.complain(name, detail);
        None
    }

    /// A list.
    pub(super) fn list(&mut self, name: &str) -> Option<Vec<Value>> {
        let detail = match self.map.get_mut(name) {
            Some(Value::Array(list)) => return Some(std::mem::take(list)),
            Some(other) => format!("is {}: give a list", kind(other)),
            None => "is missing: give a list".to_owned(),
        };
        self.complain(name, detail);
        None
    }

    /// Refuses fields that are not `known`: a misspelt one would be left out in silence.
    pub(super) fn refuse_others(&mut self, known: &[&str]) {
        let remedy = match known {
            [] => "leave it out".to_owned(),
            known => format!("leave it out; there are `{}`", known.join("`, `")),
        };
        let others: Vec<String> = self.map.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect();
        for name in others {
            let shown: String = name.chars().filter(|character| !character.is_control()).take(64).collect();
            self.complain(&shown, format!("is not known: {remedy}"));
        }
    }
}

/// What a value is, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
