//! What functions may do: each of them acts in its role, and what its policy does not allow is refused. A test beside
//! `outbox_aws::iam` holds the roles of deploy/carts against the same rights.

use outbox_aws::{
    iam::Role,
    testing::proxy::{Call, Fault},
};

use crate::{
    asked::{denied, refusal_of},
    server,
    world::World,
};

/// What IAM says to a call that the function which makes it has no right to.
pub(crate) fn refusal(call: &Call) -> Option<Fault> {
    let agent = call.header("x-amz-user-agent").unwrap_or_default();
    let acts_as = |name: &str| agent.split(' ').any(|word| word.strip_prefix("app/") == Some(name));
    match [acts_as("outbox-forwarder"), acts_as("outbox-keeper")] {
        [true, _] => refusal_of(Role::Forwarder, call),
        [_, true] => refusal_of(Role::Keeper, call),
        _ => Some(denied("nobody", call)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_nobody_s_name_is_refused() {
    let Some(_) = server::emulator() else { return };
    let world = World::new().await;
    let Some(dynamo) = &world.dynamo else { return };
    let client = server::client_at(Some(dynamo.url())).await;
    let error = client.describe_table().table_name("some-entries").send().await.unwrap_err();
    assert!(format!("{error:?}").contains("AccessDeniedException"), "{error:?}");
}
