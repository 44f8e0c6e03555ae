//! An IAM of our own before the emulator, which asks for no rights: whoever acts in a role may do what its policy says, and
//! nothing else. The suites that every backend passes act in roles, so a call that no policy covers fails them.

use std::sync::OnceLock;

use aws_sdk_dynamodb::{Client, config::AppName};
use outbox_aws::{
    iam::Role,
    testing::proxy::{Call, Fault, Proxy},
};

use crate::{
    asked::{denied, refusal_of},
    server,
};

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
    refusal_of(*role, call)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_policy_allows_is_refused() {
    let Some(_) = server::emulator() else { return };
    let client = client_as(Role::Writer).await;
    let error = client.delete_table().table_name("some-entries").send().await.unwrap_err();
    assert!(format!("{error:?}").contains("AccessDeniedException"), "{error:?}");
}
