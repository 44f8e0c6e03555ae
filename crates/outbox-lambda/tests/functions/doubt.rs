//! An event that fails without being named, and is kept: whose fault it is shows by what the forwarder's sink accepts.

use std::{path::PathBuf, time::Duration};

use outbox::Bookkeeping as _;

use crate::{
    forwarding::carts,
    mapping::{Mapping, invoke},
    runtime::{Outcome, Sandbox},
    stream::Stream,
    world::{World, route, turning_away},
};

const TIME: Duration = Duration::from_secs(12);

/// The environment of functions that give an event up after two attempts.
fn impatient(world: &World) -> Vec<(String, String)> {
    let prefix = &world.prefix;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{prefix}.toml"));
    let text = format!(
        "[store]\ndynamodb = '{prefix}'\n[relay]\nbookkeeping = 'dynamodb:{prefix}-bookkeeping'\n\
         [[route]]\nname = 'bus'\neventbridge = 'carts'\nretry = {{ attempts = 2, doubt = '1s' }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut environment = world.environment();
    environment.push(("OUTBOX_CONFIG".to_owned(), file.to_str().unwrap().to_owned()));
    environment
}

async fn keep(keeper: &mut Sandbox) {
    let outcome = keeper.invoke("{}".to_owned(), TIME).await;
    assert!(matches!(outcome, Outcome::Answered(_)), "{outcome:?}");
}

async fn attempts(world: &World) -> u32 {
    world.bookkeeping.troubles(&route(), None, 10).await.unwrap()[0].front.attempts
}

/// Another forwarder has something accepted.
async fn others(environment: &[(String, String)], number: usize) {
    let mut stream = Stream::new(1);
    stream.commit(&format!("other/{number}"), 1);
    let outcome = invoke(&mut World::forwarder(environment).await, &stream.shards[0]).await;
    assert_eq!(outcome.failed_from(&stream.shards[0]), None, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_given_up_after_its_attempts_while_others_are_accepted_and_never_without_them() {
    let (world, stream) = (World::new().await, carts(1, 3, 9));
    let environment = impatient(&world);
    world.bus.rule("PutEvents", turning_away("InternalFailure", |id| id == "cart/2@1.2.0"));
    Mapping { timeout: Duration::from_secs(4), ..Mapping::default() }.shard(&environment, &stream.shards[0]).await;
    assert_eq!(world.kept().await.retrying, 1);
    let mut keeper = Sandbox::start(env!("CARGO_BIN_EXE_outbox-keeper"), &environment).await;
    for _ in 0..2 {
        keep(&mut keeper).await;
        assert_eq!(attempts(&world).await, 0, "it may be the bus: nothing else was accepted since");
    }
    others(&environment, 1).await;
    keep(&mut keeper).await;
    assert_eq!(attempts(&world).await, 1, "once for what was accepted once");
    assert!(world.dead_letters().await.is_empty());
    others(&environment, 2).await;
    keep(&mut keeper).await;
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].kept.content.id(), "cart/2@1.2.0");
}
