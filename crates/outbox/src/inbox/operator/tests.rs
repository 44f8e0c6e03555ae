//! The operator's commands on the inbox in memory: whom each leaves alone.

use tower::Layer;

use super::*;
use crate::{
    Event, NewEvent, Placing,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{
        Answer, Applied, InboxLayer,
        memory::{MemoryInbox, handler_fn},
    },
};

fn event(producer: &str, key: &str, sequence: u64) -> Event {
    let new = NewEvent::builder("t").key(key).json(&sequence).build().unwrap();
    let after = if sequence > 1 { Place::new(1, sequence - 1, 0) } else { Place::ORIGIN };
    let placing = Some(Placing { place: Place::new(1, sequence, 0), count: 1, after });
    let identity = Identity { source: &producer.into(), placing, recorded: None, fallback_id: "" };
    let event = Event::from_new(new, identity).unwrap();
    // As a route brings it that has every event of a key.
    json::decode(&json::encode(&event, Envelope { gapless: true, replay: None })).unwrap()
}

fn key(key: &str) -> Key {
    Key::new(key).unwrap()
}

/// An inbox that keeps the first event of each of these keys, for it could not apply them.
async fn keeping(keys: &[(&str, &str)]) -> InboxOperator<MemoryInbox<()>> {
    let service =
        InboxLayer::in_order(MemoryInbox::new()).layer(handler_fn(|(): &mut (), _: &Event| Answer::retry("no")));
    for (producer, key) in keys {
        service.apply(vec![event(producer, key, 1).into()]).await.unwrap();
    }
    service.operator()
}

#[tokio::test]
async fn a_key_is_erased_of_one_producer_or_of_all_and_no_other_key() {
    let operator = keeping(&[("/one", "a"), ("/one", "b"), ("/two", "a"), ("/two", "b")]).await;
    let left = async || operator.totals().await.unwrap().retrying;
    assert_eq!((operator.erase(Some("/one"), &key("a")).await.unwrap(), left().await), (1, 3));
    assert_eq!((operator.erase(None, &key("b")).await.unwrap(), left().await), (2, 1));
    assert_eq!((operator.erase(None, &key("a")).await.unwrap(), left().await), (1, 0));
}

#[tokio::test]
async fn a_producer_that_is_rewound_is_applied_again_and_no_other() {
    let service = InboxLayer::in_order(MemoryInbox::new()).layer(handler_fn(|(): &mut (), _: &Event| Answer::Done));
    let both = || vec![event("/one", "a", 1).into(), event("/two", "a", 1).into()];
    assert_eq!(service.apply(both()).await.unwrap(), [Applied::Applied, Applied::Applied]);
    assert_eq!(service.operator().rewind_producer("/one").await.unwrap(), 1);
    assert_eq!(service.apply(both()).await.unwrap(), [Applied::Applied, Applied::Duplicate]);
}

#[tokio::test]
async fn what_other_producers_have_kept_is_not_looked_at_when_one_is_rewound() {
    let operator = keeping(&[("/one", "a"), ("/two", "a")]).await;
    let before = operator.kept(None, 10).await.unwrap();
    operator.rewind_producer("/one").await.unwrap();
    let after = operator.kept(None, 10).await.unwrap();
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!(changed.len() == 1 && &*changed[0].0.lane.producer == "/one", "{changed:?}");
}
