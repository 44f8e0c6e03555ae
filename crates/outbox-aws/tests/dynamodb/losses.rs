//! What the stream may have forgotten, as forwarders, the keeper and an operator note it at the same time.

use jiff::Timestamp;
use outbox_aws::dynamodb::{DynamoBookkeeping, HandedIn, Loss};

use crate::{
    bookkeeping::{Books, route, take},
    proxy::Proxy,
    server,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn since(second: i64) -> Loss {
    Loss { since: at(second), found: at(1_000), reason: "a test".to_owned(), replay: None }
}

async fn known(books: &DynamoBookkeeping) -> Option<Loss> {
    books.watermark(&route()).await.unwrap().loss
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_was_found_since_is_neither_forgotten_nor_taken_for_recovered() {
    let fresh = Books::new().await;
    let books = fresh.opened().await;
    let lease = take(&books).await;
    books.note_loss(&lease, &route(), &since(500), at(900)).await.unwrap();
    let read = known(&books).await.unwrap();
    books.note_loss(&lease, &route(), &since(300), at(900)).await.unwrap();
    assert!(!books.note_recovering(&route(), &read, "recovery").await.unwrap());
    assert!(!books.forget_loss(&route(), &read).await.unwrap());
    assert_eq!(known(&books).await, Some(since(300)));

    // What is under way when more is found does not end the alarm for that.
    assert!(books.note_recovering(&route(), &since(300), "recovery").await.unwrap());
    let read = known(&books).await.unwrap();
    books.note_loss(&lease, &route(), &since(800), Timestamp::MAX).await.unwrap();
    assert!(!books.forget_loss(&route(), &read).await.unwrap());
    assert_eq!(known(&books).await, Some(since(300)));
    assert!(books.forget_loss(&route(), &since(300)).await.unwrap());
    assert_eq!(known(&books).await, None);
    books.note_loss(&lease, &route(), &since(700), at(900)).await.unwrap();
    assert_eq!(known(&books).await, Some(since(700)), "and the next one is noted as the first was");
}

/// The one that is older was noted while the other one was on its way.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_losses_that_are_noted_at_once_the_older_one_stays() {
    let Some(endpoint) = server::emulator() else { return };
    let fresh = Books::new().await;
    let proxy = Proxy::before(endpoint).await;
    let (one, other) = (fresh.opened().await, fresh.opened_by(&server::client_at(Some(proxy.url())).await).await);
    let lease = take(&one).await;
    // The route has its name before anything is held.
    one.note_handed_in(&lease, &route(), HandedIn::Current(at(900)), None).await.unwrap();
    let held = proxy.hold("TransactWriteItems");
    let of_other = lease.clone();
    let late = tokio::spawn(async move { other.note_loss(&of_other, &route(), &since(500), at(900)).await });
    held.arrived().await;
    one.note_loss(&lease, &route(), &since(300), at(900)).await.unwrap();
    held.release();
    late.await.unwrap().unwrap();
    assert_eq!(known(&one).await, Some(since(300)));
}
