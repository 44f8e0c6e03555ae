//! An IAM of our own before the emulator, which asks for no rights: whoever acts in a role may do what its policy says, and
//! nothing else. The suites that every backend passes act in roles, so a call that no policy covers fails them.

use std::sync::OnceLock;

use aws_sdk_dynamodb::{Client, config::AppName};
use outbox_aws::{
    iam::{Role, Thing, allows},
    testing::proxy::{Call, Fault, Proxy},
};

use crate::server;

/// The proxy before the emulator, on a thread of its own for as long as the process lives.
static GUARDED: OnceLock<String> = OnceLock::new();

const ROLES: [(Role, &str); 4] =
    [(Role::Init, "init"), (Role::Writer, "writer"), (Role::Relay, "relay"), (Role::Inbox, "inbox")];

/// A client that may do what `role` may. On AWS itself the environment's credentials decide that.
pub(crate) async fn client_as(role: Role) -> Client {
    let Some(endpoint) = server::endpoint() else { return server::client().await };
    let guarded = GUARDED.get_or_init(|| guard(endpoint));
    let client = server::client_at(Some(guarded)).await;
    let (_, name) = ROLES.iter().find(|(of, _)| *of == role).unwrap();
    Client::from_conf(client.config().to_builder().app_name(AppName::new(*name).unwrap()).build())
}

fn guard(endpoint: &'static str) -> String {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let proxy = Proxy::before(endpoint).await;
            proxy.forget();
            proxy.guard(refusal);
            tell.send(proxy.url().to_owned()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
}

/// What IAM says to a call that its role has no right to.
fn refusal(call: &Call) -> Option<Fault> {
    let agent = call.header("x-amz-user-agent").unwrap_or_default();
    let acting = ROLES.iter().find(|(_, name)| agent.split(' ').any(|word| word == format!("app/{name}")));
    let Some((role, _)) = acting else { return Some(denied("nobody", call)) };
    for (thing, action) in asked(call) {
        if !allows(*role, thing, &action) {
            return Some(denied(&format!("{role:?} may not {action} on {thing:?}: see `outbox_aws::iam`"), call));
        }
    }
    None
}

fn denied(why: &str, call: &Call) -> Fault {
    eprintln!("{} was refused: {why}", call.operation);
    Fault::Answer(400, serde_json::json!({ "__type": "AccessDeniedException", "message": why }).to_string())
}

/// What a call asks for, of the tables that are Outbox's.
fn asked(call: &Call) -> Vec<(Thing, String)> {
    let on = |table: &str, action: &str| Some((thing(table)?, format!("dynamodb:{action}")));
    let body = &call.body;
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
        ("-inboxes", Thing::Inbox),
    ];
    kinds.into_iter().find(|(end, _)| table.ends_with(end)).map(|(_, thing)| thing)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_policy_allows_is_refused() {
    if server::endpoint().is_none() {
        eprintln!("against AWS itself the environment's credentials decide what is allowed");
        return;
    }
    let client = client_as(Role::Writer).await;
    let error = client.delete_table().table_name("some-entries").send().await.unwrap_err();
    assert!(format!("{error:?}").contains("AccessDeniedException"), "{error:?}");
}
