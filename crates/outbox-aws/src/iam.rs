//! The least rights that each part of Outbox needs on AWS, as policies of IAM. `outbox iam` prints them.
//!
//! A test reads the sources and refuses a call that no right here covers, and a right that nothing calls for; others
//! record what is really called.

use std::collections::BTreeMap;

use serde::Serialize;

mod arn;
mod rights;

pub use arn::Place;
pub use rights::{RIGHTS, Right};

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `outbox init`, and whoever makes the tables by the library.
    Init,
    /// A service that writes events. What its own actions do in its own tables comes besides.
    Writer,
    /// A relay, and the commands that look at it and mend it.
    Relay,
    /// The function that publishes what the stream hands in, and the mapping that invokes it. Its log comes besides.
    Forwarder,
    /// The function that retries and replays what is kept. Its log comes besides.
    Keeper,
    /// A consumer's inbox. What its handlers do in their own tables comes besides.
    Inbox,
}

/// What there are rights on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// The table of entries.
    Entries,
    /// A table of the service's own in place of the entries.
    Mapped,
    /// The streams of the table of entries.
    Stream,
    /// The table of heads.
    Heads,
    /// The same beside a table of the service's own: it has no heads, but the item `store`, which no writer looks at.
    Store,
    /// The table of a relay's bookkeeping.
    Bookkeeping,
    /// The table of an inbox.
    Inbox,
    /// An event bus.
    Bus,
    /// The bucket of a claim check.
    Bucket,
    /// What is left in it.
    Objects,
    /// The key that it is encrypted with.
    Key,
    /// A function that publishes in a relay's place.
    Function,
    /// Event source mappings: to list them is granted on all of them, or not at all.
    Mappings,
    /// A role that is assumed.
    AssumedRole,
}

impl Thing {
    /// What its statement is called.
    fn sid(self) -> &'static str {
        match self {
            Self::Entries => "Entries",
            Self::Mapped => "MappedTable",
            Self::Stream => "Stream",
            Self::Heads => "Heads",
            Self::Store => "Store",
            Self::Bookkeeping => "Bookkeeping",
            Self::Inbox => "Inbox",
            Self::Bus => "EventBus",
            Self::Bucket => "ClaimCheckBucket",
            Self::Objects => "ClaimCheckObjects",
            Self::Key => "ClaimCheckKey",
            Self::Function => "Function",
            Self::Mappings => "Mappings",
            Self::AssumedRole => "AssumedRole",
        }
    }
}

/// A policy, as IAM reads it. Its statements, actions and resources are in a stable order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    sid: &'static str,
    effect: &'static str,
    action: Vec<&'static str>,
    resource: Vec<String>,
}

impl Policy {
    /// What `role` needs of `things`, each given by its ARN. `None` if it needs nothing of any.
    pub fn of(role: Role, things: impl IntoIterator<Item = (Thing, String)>) -> Option<Self> {
        let mut resources: BTreeMap<Thing, Vec<String>> = BTreeMap::new();
        for (thing, arn) in things {
            let arns = resources.entry(thing).or_default();
            if !arns.contains(&arn) {
                arns.push(arn);
            }
        }
        let statement: Vec<_> = resources
            .into_iter()
            .filter_map(|(thing, mut resource)| {
                let right = RIGHTS.iter().find(|right| (right.role, right.thing) == (role, thing))?;
                resource.sort();
                Some(Statement { sid: thing.sid(), effect: "Allow", action: right.actions.to_vec(), resource })
            })
            .collect();
        (!statement.is_empty()).then_some(Self { version: "2012-10-17", statement })
    }
}

/// Whether `role` may do `action` to `thing`.
pub fn allows(role: Role, thing: Thing, action: &str) -> bool {
    let of_both = RIGHTS.iter().filter(|right| (right.role, right.thing) == (role, thing));
    of_both.flat_map(|right| right.actions).any(|allowed| *allowed == action)
}

#[cfg(test)]
mod tests;
