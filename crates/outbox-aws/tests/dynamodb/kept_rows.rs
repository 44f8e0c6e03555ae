//! Rows of kept events that are done with, and what an operator's change of very many reads.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{
    Bookkeeping, Clock as _, Key, Lane, Operator, System,
    bookkeeping::{Keep, Selector, SettleOutcome},
};
use outbox_aws::dynamodb::DynamoBookkeeping;

use crate::{
    bookkeeping::{Books, contents, expected, keep, keep_it, partition, route, settlement, take},
    proxy::{Fault, Proxy},
    server,
};

/// A bookkeeping, opened through a proxy.
async fn behind_a_proxy() -> (Books, Proxy, DynamoBookkeeping) {
    let fresh = Books::new().await;
    let endpoint = server::emulator().unwrap();
    let proxy = Proxy::before(endpoint).await;
    let books = fresh.opened_by(&server::client_at(Some(proxy.url())).await).await;
    (fresh, proxy, books)
}

/// How many rows there are of what was kept.
async fn kept_rows(fresh: &Books) -> [usize; 4] {
    let mut found = [0; 4];
    for (count, kind) in found.iter_mut().zip(["kept", "content", "staged", "passed"]) {
        *count = fresh.rows(kind).await;
    }
    found
}

/// The index of so many is larger than an item; those of the first keep fit one transaction with their contents.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_events_are_kept_at_once_whatever_their_number() {
    for (count, indexes) in [(4_200, 2), (9_000, 3)] {
        let fresh = Books::new().await;
        let books = fresh.opened().await;
        let lease = take(&books).await;
        let many = keep(1..=count, 10);
        let generation = keep_it(&books, &lease, &many).await;
        assert_eq!((fresh.rows("kept").await, fresh.rows("staged").await), (indexes, 0));
        assert_eq!(keep_it(&books, &lease, &many).await, generation, "and once");
        assert!(contents(&books).await == expected(&many), "each of the {count} is as it was, in its turn");
        let some = settlement(&books, generation, 4_100).await;
        assert_eq!(books.settle(&lease, &route(), &some).await.unwrap(), SettleOutcome::Left(count - 4_100));
        assert_eq!(fresh.rows("kept").await, indexes - 1);
        assert!(contents(&books).await == expected(&many)[4_100..]);
        let rest = settlement(&books, generation, usize::MAX).await;
        assert_eq!(books.settle(&lease, &route(), &rest).await.unwrap(), SettleOutcome::Released);
        assert_eq!((fresh.rows("kept").await, fresh.rows("content").await), (0, 0), "nothing is left of it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_payload_that_could_not_be_deleted_is_deleted_by_the_next_owner() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    let generation = keep_it(&books, &lease, &keep(1..=2, 10)).await;
    proxy.script("DeleteItem", [Fault::error("AccessDeniedException")]);
    let all = settlement(&books, generation, 2).await;
    assert_eq!(books.settle(&lease, &route(), &all).await.unwrap(), SettleOutcome::Released);
    assert_eq!(kept_rows(&fresh).await, [1, 1, 0, 1], "(it is left)");
    take(&books).await;
    assert_eq!(kept_rows(&fresh).await, [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_settlement_could_not_delete_the_lanes_next_one_deletes() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    let generation = keep_it(&books, &lease, &keep(1..=1, 10)).await;
    for sequence in 2..=3 {
        keep_it(&books, &lease, &Keep { front: None, ..keep(sequence..=sequence, 10) }).await;
    }
    proxy.script("DeleteItem", [Fault::error("AccessDeniedException")]);
    for left in [2, 1] {
        let first = settlement(&books, generation, 1).await;
        assert_eq!(books.settle(&lease, &route(), &first).await.unwrap(), SettleOutcome::Left(left));
    }
    assert_eq!(kept_rows(&fresh).await, [1, 1, 0, 0]);
    assert_eq!(contents(&books).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_leaves_a_payload_says_so_and_the_next_one_deletes_it() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    keep_it(&books, &lease, &keep(1..=2, 10)).await;
    proxy.rule("DeleteItem", |_| Fault::error("AccessDeniedException"));
    let key = Key::new("cart/1").unwrap();
    for _ in 0..2 {
        let error = books.erase(&key).await.unwrap_err().to_string();
        assert!(error.contains("erase the key again"), "{error}");
    }
    assert_eq!(kept_rows(&fresh).await, [1, 1, 0, 1], "(it is left)");
    proxy.rule("DeleteItem", |_| Fault::Pass);
    assert_eq!(books.erase(&key).await.unwrap(), 0, "nothing is kept any more");
    assert_eq!(kept_rows(&fresh).await, [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_and_could_not_be_deleted_is_deleted_by_the_owner_after_the_next() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    keep_it(&books, &lease, &keep(1..=1, 10)).await;
    // By nobody at first, and not by the next one.
    proxy.script("DeleteItem", [Fault::error("AccessDeniedException"), Fault::error("AccessDeniedException")]);
    proxy.script("TransactWriteItems", [Fault::error("AccessDeniedException")]);
    books.keep(&lease, &route(), &partition(), &keep(2..=30, 200_000)).await.unwrap_err();
    take(&books).await;
    let [_, content, staged, _] = kept_rows(&fresh).await;
    assert!(staged == 1 && content > 10, "({content} rows are left)");
    take(&books).await;
    assert_eq!(kept_rows(&fresh).await, [1, 1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_and_not_kept_is_deleted_at_once_or_by_an_erasure() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    keep_it(&books, &lease, &keep(1..=1, 10)).await;
    let large = keep(2..=30, 200_000);
    proxy.script("TransactWriteItems", [Fault::error("AccessDeniedException")]);
    books.keep(&lease, &route(), &partition(), &large).await.unwrap_err();
    assert_eq!(kept_rows(&fresh).await, [1, 1, 0, 0]);
    proxy.script("DeleteItem", [Fault::error("AccessDeniedException")]);
    proxy.script("TransactWriteItems", [Fault::error("AccessDeniedException")]);
    books.keep(&lease, &route(), &partition(), &large).await.unwrap_err();
    assert_eq!(kept_rows(&fresh).await[2], 1, "(it is left)");
    assert_eq!(books.erase(&Key::new("cart/1").unwrap()).await.unwrap(), 1);
    assert_eq!(kept_rows(&fresh).await, [0; 4]);
}

/// Its answer is lost: what was kept is not deleted for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_and_may_be_kept_is_not_deleted() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    keep_it(&books, &lease, &keep(1..=1, 10)).await;
    proxy.script("TransactWriteItems", [Fault::LoseAnswer, Fault::error("AccessDeniedException")]);
    books.keep(&lease, &route(), &partition(), &keep(2..=30, 200_000)).await.unwrap_err();
    assert_eq!(fresh.rows("staged").await, 0);
    assert_eq!(contents(&books).await.len(), 30);
}

/// Nobody renews the lease before.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_now_takes_little_of_the_time_for_which_a_lease_was_taken() {
    let Some(_) = server::emulator() else { return };
    let (_fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    let generation = keep_it(&books, &lease, &keep(1..=2, 10)).await;
    proxy.script("DeleteItem", [Fault::error("AccessDeniedException")]);
    let all = settlement(&books, generation, 2).await;
    books.settle(&lease, &route(), &all).await.unwrap();
    proxy.rule("DeleteItem", |_| Fault::error("ThrottlingException"));
    let (seen, began) = (books.lease("relay").await.unwrap(), System.moment());
    books.take("relay", &seen, "host", Duration::from_secs(4)).await.unwrap().unwrap();
    let took = System.moment().since(began);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lane_keeps_is_read_once_and_known_whoever_kept_it() {
    let Some(_) = server::emulator() else { return };
    let (fresh, proxy, books) = behind_a_proxy().await;
    let other = fresh.opened().await;
    let lease = take(&books).await;
    let parked = |sequences| Keep { front: None, ..keep(sequences, 10) };
    let generation = keep_it(&books, &lease, &keep(1..=3, 10)).await;
    keep_it(&books, &lease, &parked(4..=6)).await;
    keep_it(&other, &lease, &parked(7..=9)).await;
    keep_it(&books, &lease, &parked(1..=10)).await;
    assert!(contents(&books).await == expected(&keep(1..=10, 10)), "each of them once");
    let from = |call: &crate::proxy::Call| {
        let given = &call.body["ExpressionAttributeValues"];
        let is_index = given[":kind"]["S"].as_str().unwrap().starts_with("kept/");
        is_index.then(|| given[":from"]["S"].as_str().unwrap().to_owned())
    };
    let before = proxy.calls("Query").len();
    for sequence in 11..=13 {
        keep_it(&books, &lease, &parked(sequence..=sequence)).await;
    }
    let read: Vec<_> = proxy.calls("Query")[before..].iter().filter_map(from).collect();
    assert!(read.len() == 3 && read.is_sorted_by(|one, next| one < next), "what was read is not read again: {read:?}");

    let first = settlement(&books, generation, 5).await;
    assert_eq!(books.settle(&lease, &route(), &first).await.unwrap(), SettleOutcome::Left(8));
    keep_it(&books, &lease, &parked(5..=6)).await;
    assert_eq!(contents(&books).await.len(), 9, "what is done with may be kept again, as after a rewind");
}

#[tokio::test(flavor = "multi_thread")]
async fn redriving_very_many_dead_letters_reads_their_lanes_once() {
    let Some(_) = server::emulator() else { return };
    let (_fresh, proxy, books) = behind_a_proxy().await;
    let lease = take(&books).await;
    for number in 0..100 {
        let lane = Lane::Event(format!("e{number}").into());
        books.keep(&lease, &route(), &partition(), &Keep { lane, ..keep(1..=1, 10) }).await.unwrap();
    }
    let of_lanes = || {
        let calls = proxy.calls("Query");
        let kind = |call: &crate::proxy::Call| call.body["ExpressionAttributeValues"][":kind"]["S"] == "trouble";
        calls.iter().filter(|call| kind(call)).count()
    };
    let before = of_lanes();
    assert_eq!(books.redrive(&route(), &Selector::default(), Timestamp::UNIX_EPOCH).await.unwrap(), 100);
    assert_eq!(of_lanes() - before, 1);
}
