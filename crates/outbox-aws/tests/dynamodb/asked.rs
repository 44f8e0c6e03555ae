//! What a call asks of IAM, and what IAM says to who has no right to it.

use outbox_aws::{
    iam::{Role, Thing, allows},
    testing::proxy::{Call, Fault},
};

/// What is answered to `role` in place of the service, if it has no right to `call`.
pub(crate) fn refusal_of(role: Role, call: &Call) -> Option<Fault> {
    let (thing, action) = asked(call).into_iter().find(|(thing, action)| !allows(role, *thing, action))?;
    Some(denied(&format!("{role:?} may not {action} on {thing:?}: see `outbox_aws::iam`"), call))
}

pub(crate) fn denied(why: &str, call: &Call) -> Fault {
    eprintln!("{} was refused: {why}", call.operation);
    Fault::Answer(400, serde_json::json!({ "__type": "AccessDeniedException", "message": why }).to_string())
}

/// What a call asks for, of the tables that are Outbox's.
fn asked(call: &Call) -> Vec<(Thing, String)> {
    let on = |table: &str, action: &str| Some((thing(table)?, format!("dynamodb:{action}")));
    let body = &call.body;
    if call.service == "events" {
        return vec![(Thing::Bus, format!("events:{}", call.operation))];
    }
    match call.operation.as_str() {
        "DescribeStream" | "GetShardIterator" | "GetRecords" => {
            vec![(Thing::Stream, format!("dynamodb:{}", call.operation))]
        }
        "TransactWriteItems" => {
            let parts = body["TransactItems"].as_array().unwrap().iter().flat_map(|item| item.as_object().unwrap());
            parts.filter_map(|(kind, part)| on(part["TableName"].as_str().unwrap(), &format!("{kind}Item"))).collect()
        }
        "BatchGetItem" | "BatchWriteItem" => {
            let tables = body["RequestItems"].as_object().unwrap().keys();
            tables.filter_map(|table| on(table, &call.operation)).collect()
        }
        operation => on(body["TableName"].as_str().unwrap_or_default(), operation).into_iter().collect(),
    }
}

/// Which of ours a table is; none if it is the service's or the consumer's.
fn thing(table: &str) -> Option<Thing> {
    let kinds = [
        ("-entries", Thing::Entries),
        ("-heads", Thing::Heads),
        ("-books", Thing::Bookkeeping),
        ("-bookkeeping", Thing::Bookkeeping),
        ("-inboxes", Thing::Inbox),
    ];
    kinds.into_iter().find(|(end, _)| table.ends_with(end)).map(|(_, thing)| thing)
}
