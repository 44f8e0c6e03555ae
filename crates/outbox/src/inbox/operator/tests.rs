//! The operator's commands on the inbox in memory: whom each leaves alone.

use tower::Layer;

use super::*;
use crate::{
    Event, NewEvent, Placing,
    cloudevents::{Envelope, json},
    event::Identity,
    inbox::{
        Answer, Applied, InboxLayer,
        memory::{MemoryInbox, MemoryTx, handler_fn},
    },
    inbox_store::Job,
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

#[tokio::test]
async fn dead_letters_are_chosen_by_what_they_are() {
    let gives_up = handler_fn(|(): &mut (), _: &Event| Answer::give_up("no"));
    let service = InboxLayer::in_order(MemoryInbox::new()).layer(gives_up);
    for (producer, key) in [("/one", "a"), ("/one", "b"), ("/two", "a")] {
        service.apply(vec![event(producer, key, 1).into()]).await.unwrap();
    }
    let operator = service.operator();
    let count = async |chosen: Chosen, limit| operator.dead_letters(&chosen, limit).await.unwrap().len();
    let all = operator.dead_letters(&Chosen::default(), 10).await.unwrap();
    assert_eq!((all.len(), count(Chosen::default(), 2).await), (3, 2));
    assert_eq!(count(Chosen { id: Some(all[1].first.id), ..Chosen::default() }, 10).await, 1);
    assert_eq!(count(Chosen { producer: Some("/one".to_owned()), ..Chosen::default() }, 10).await, 2);
    assert_eq!(count(Chosen { key: Some(key("b")), ..Chosen::default() }, 10).await, 1);
    assert_eq!(count(Chosen { kind: Some("t".to_owned()), ..Chosen::default() }, 10).await, 3);
    assert_eq!(count(Chosen { kind: Some("other".to_owned()), ..Chosen::default() }, 10).await, 0);
}

#[tokio::test]
async fn what_is_tried_again_is_no_dead_letter() {
    let operator = keeping(&[("/one", "a")]).await;
    assert!(operator.dead_letters(&Chosen::default(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_can_be_made_to_fewer_keys_and_an_erasure_in_parts() {
    let operator = keeping(&[("/one", "a"), ("/one", "b"), ("/two", "a")]).await;
    let targets = operator.kept(None, 10).await.unwrap();
    for (change, expected) in [(Change::Redrive, 2), (Change::Erase, 2 + 6)] {
        let mut job = ChangeJob::new(targets.clone(), change, jiff::Timestamp::UNIX_EPOCH);
        let lessened = (0..100).take_while(|_| Job::<MemoryTx<'static, ()>>::less(&mut job)).count();
        assert_eq!(lessened, expected);
    }
}
