//! What happens in the world while relays live and die.

use std::{sync::Arc, time::Duration};

use super::{Kill, Report, StoresUnderTest, lives::Lives, verdict, world::World};
use crate::{
    bookkeeping::{KeptCounts, Replay, Selector},
    error::StoreError,
    event::{Key, NewEvent},
    filter::Filter,
    route::RouteName,
    sink::{Fault, Outcome},
};

/// Refused until the rule is mended: in the midst of an entry, and without a key.
const POISON: [&str; 2] = ["p/3", "x/2"];
/// Refused for good, and discarded by an operator: the first behind the checkpoint, the second before it.
pub(super) const DISCARDED: [&str; 2] = ["d/1", "e/1"];
/// Throttled for long: it holds back the checkpoint, and nothing else.
const SLOW: &str = "h/1";
/// Refused for a while, so that the keeper tries it again.
const SHAKY: &str = "t/1";
/// The last event that is replayed.
const LAST_REPLAYED: &str = "a/10";
/// The replay's id.
pub(super) const REPLAY: &str = "again";
/// The key whose events are replayed.
pub(super) const REPLAYED: &str = "a";

/// An event named `key/number`; `x` is no key.
fn event(name: &str) -> NewEvent {
    let (key, _) = name.split_once('/').expect("a name is a key and a number");
    let builder = NewEvent::builder("scenario.happened").id(name).json(name);
    let builder = if key == "x" { builder } else { builder.key(key) };
    builder.build().expect("an event of the scenario is valid")
}

/// Commits, one a word: events of a commit are joined by `+`.
fn commits(text: &str) -> Vec<Vec<NewEvent>> {
    text.split_whitespace().map(|commit| commit.split('+').map(event).collect()).collect()
}

pub(super) async fn run(stores: Arc<dyn StoresUnderTest>, kills: &[Kill]) -> Report {
    let route = RouteName::new("route").expect("a plain name");
    let world = World::new(stores, route, REPLAY).await.expect("fresh stores can be looked at");
    prepare(&world.target);
    let mut lives = Lives::new(&world, kills);
    let mut breaches = Vec::new();
    breaches.extend(play(&world, &mut lives).await.err());
    breaches.extend(verdict::at_the_end(&world, &lives.kills).await);
    let duplicates = verdict::duplicates(&world, &lives.kills).len();
    Report { trace: lives.trace(), killed: lives.kills.iter().map(|kill| kill.step).collect(), duplicates, breaches }
}

fn prepare(target: &super::target::Target) {
    target.refuse(&[POISON, DISCARDED].concat());
    let not_now = Outcome::Refused { permanent: false, reason: "not now".to_owned() };
    let throttled = Outcome::Throttled { after: None };
    target.answer(SHAKY, [not_now.clone(), not_now.clone(), not_now, throttled.clone()]);
    target.answer("a/2", [throttled]);
    target.answer(SLOW, slow());
    target.fail("b/1", Fault::Sink);
    target.fail("c/1", Fault::Unknown);
    target.fail("p/5", Fault::Sink);
}

async fn play<'a>(world: &'a World, lives: &mut Lives<'a>) -> Result<(), String> {
    let first = "a/1 p/1 a/2+a/3+b/1 t/1 p/2+p/3+p/4 x/1 d/1 t/2+t/3 a/4+a/5 x/2 d/2 p/5 b/2 a/6 c/1+c/2+c/3";
    world.commit(commits(first)).await.map_err(|error| told(&error))?;
    lives.live(get_into_trouble(world)).await?;
    world.commit(commits("p/6 a/7 b/3+b/4 x/3")).await.map_err(|error| told(&error))?;
    lives.live(get_out_of_it(world)).await?;
    lives.live(go_on(world)).await?;
    lives.live(finish_replay(world)).await
}

/// All that can arrive arrives; the rest is kept.
async fn get_into_trouble(world: &World) -> Result<(), String> {
    world.until("three events are dead letters", async || settled(world, 3).await).await
}

/// The rule is mended while events are committed, and the dead letters go out or are given up.
async fn get_out_of_it(world: &World) -> Result<(), String> {
    world.until("what came since is parked", async || settled(world, 3).await).await?;
    let purged = async || Ok(world.retained().await?.len() < world.committed().len());
    world.until("old entries are purged", purged).await?;
    world.commit(commits("h/1 e/1 e/2")).await.map_err(|error| told(&error))?;
    let condemned = async || Ok(world.counts().await?.dead == 4);
    world.until("one more is a dead letter, before the checkpoint", condemned).await?;
    operate(world).await.map_err(|error| told(&error))?;
    world.commit(commits("p/7 d/3 c/4 a/8+a/9")).await.map_err(|error| told(&error))?;
    let released = async || Ok(world.counts().await? == KeptCounts::default());
    world.until("nothing is kept any more", released).await?;
    world.target.answer(SLOW, []);
    world.until("everything is through", async || settled(world, 0).await).await
}

async fn operate(world: &World) -> Result<(), StoreError> {
    let of = |key| Selector { key: Some(Key::new(key).expect("a plain key")), ..Selector::default() };
    for key in ["d", "e"] {
        let given_up = world.books.discard(&world.route, &of(key), "nobody wants it").await?;
        assert_eq!(given_up, 1, "what an operator gave up of `{key}`");
    }
    // From now on the discarded ones would be accepted too, if anybody published them.
    world.target.refuse(&[]);
    let redriven = world.books.redrive(&world.route, &Selector::default(), world.clock.wall()).await?;
    assert_eq!(redriven, 2, "what an operator redrove");
    Ok(())
}

/// Business goes on, and somebody asks for history again: part of it.
async fn go_on(world: &World) -> Result<(), String> {
    world.commit(commits("a/10 x/4")).await.map_err(|error| told(&error))?;
    world.until("the last events are through", async || settled(world, 0).await).await?;
    let filter = Filter { keys: vec![REPLAYED.to_owned()], ..Filter::default() };
    let ends = vec![(world.partition.clone(), world.end())];
    let route = world.route.clone();
    let id = REPLAY.to_owned();
    world.target.answer(LAST_REPLAYED, slow());
    let replay = Replay { id, route, filter, event: None, since: None, until: None, ends, finished: false };
    world.books.put_replay(&replay).await.map_err(|error| told(&error))?;
    world.replay_retained().await.map_err(|error| told(&error))?;
    let begun = async || Ok(world.target.arrivals().iter().any(|arrival| arrival.replay.is_some()));
    world.until("the replay has begun", begun).await
}

/// Another relay finishes what the one before was stopped in.
async fn finish_replay(world: &World) -> Result<(), String> {
    world.target.answer(LAST_REPLAYED, []);
    // It is once all of its range was read: what is kept of it goes out later.
    let finished = async || {
        let is_read = world.books.replays().await?.iter().any(|replay| replay.finished);
        Ok(is_read && world.books.kept_counts(&world.replay).await? == KeptCounts::default())
    };
    world.until("the replay is finished, and nothing of it is kept", finished).await
}

/// A throttle for as long as the scenario likes.
fn slow() -> Vec<Outcome> {
    vec![Outcome::Throttled { after: Some(Duration::from_secs(1)) }; 1000]
}

/// Whether everything that was committed is accepted or kept, and so many events are dead letters, each in a lane of
/// its own. How many are parked depends on the kills: what was accepted before a dead letter may be read again behind it.
async fn settled(world: &World, dead: u64) -> Result<bool, StoreError> {
    let kept = world.counts().await?;
    Ok(world.is_through().await? && (kept.retrying, kept.dead, kept.lanes) == (0, dead, dead))
}

fn told(error: &StoreError) -> String {
    format!("playing the scenario: {error}")
}
