//! What the system that this one replaces does wrong: two pollers that publish the same row, rows that are marked before they
//! are sent or sent and never marked, a row of rubbish that stops the rest, rows that stay for ever.

use std::collections::BTreeSet;

use crate::company::{Company, Reading, until};

async fn count(company: &Company, sql: &str) -> i64 {
    company.database.session().await.query_one(&format!("SELECT count(*) FROM {sql}"), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_publish_no_row_twice() {
    for reading in [Reading::Mapped, Reading::Native] {
        let company = Company::new(reading).await;
        let owner = company.relay();
        company.users.create(1, "John Doe").await.unwrap();
        company.all_is_heard().await;
        let relays = [owner, company.relay_elsewhere()];
        for id in 1..=50 {
            company.users.create(id, "John Doe").await.unwrap();
            company.users.rename(id, "Jane Doe").await.unwrap();
        }
        company.all_is_heard().await;
        for relay in relays {
            let ended = relay.stop();
            assert_eq!(ended.code, 0, "{}", ended.err);
        }
        let mails = company.mails();
        assert_eq!(mails.len(), 100, "{reading:?}");
        assert_eq!(mails.iter().map(|heard| &heard.id).collect::<BTreeSet<_>>().len(), 100);
        company.is_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_processed_once_everybody_has_heard_of_it_and_not_before() {
    let mut company = Company::new(Reading::Mapped).await;
    tokio::task::block_in_place(|| company.mail.down());
    let relay = company.relay();
    for id in 1..=20 {
        company.users.create(id, "John Doe").await.unwrap();
    }
    until("the file has them", async || company.audited().len() == 20).await;
    assert_eq!(count(&company, "Outbox WHERE Status = 'PENDING'").await, 20, "the mail has not");
    tokio::task::block_in_place(|| company.mail.up());
    until("they are processed", async || count(&company, "Outbox WHERE Status = 'PROCESSED'").await == 20).await;
    company.all_is_heard().await;
    assert_eq!(relay.stop().code, 0);
    company.is_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pending_when_outbox_came_is_published_first() {
    let company = Company::new(Reading::Mapped).await;
    company.users.create(1, "John Doe").await.unwrap();
    company.users.rename(1, "Jane Doe").await.unwrap();
    let relay = company.relay();
    company.users.rename(1, "Jane Roe").await.unwrap();
    company.all_is_heard().await;
    assert_eq!(relay.stop().code, 0);
    company.is_exact().await;
    let kinds: Vec<_> = company.audited().into_iter().map(|heard| heard.kind).collect();
    assert_eq!(kinds, ["UserCreated", "UserRenamed", "UserRenamed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_rubbish_becomes_a_dead_letter_and_the_rest_goes_on() {
    let company = Company::new(Reading::Mapped).await;
    let relay = company.relay();
    company.users.create(1, "John Doe").await.unwrap();
    let rubbish = "INSERT INTO Outbox (EventType, Payload, Status) VALUES (NULL, '{\"userId\": 2}', 'PENDING'), \
        (repeat('x', 255), NULL, 'PENDING')";
    company.database.session().await.batch_execute(rubbish).await.unwrap();
    company.users.rename(1, "Jane Doe").await.unwrap();
    until("the rest goes on", async || company.audited().iter().any(|heard| heard.version == 2)).await;
    until("there is a dead letter", async || {
        let listed = company.outbox(&["--json", "dead-letters", "list"]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).contains("`type`")
    })
    .await;
    assert_eq!(relay.stop().code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_exists_if_and_only_if_its_user_does() {
    for reading in [Reading::Mapped, Reading::Native] {
        let company = Company::new(reading).await;
        let relay = company.relay();
        let broken = "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS \
            'BEGIN IF NEW.user_id % 2 = 1 THEN RAISE ''odd''; END IF; RETURN NULL; END'; \
            CREATE CONSTRAINT TRIGGER odd AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION odd()";
        company.database.session().await.batch_execute(broken).await.unwrap();
        for id in 1..=40 {
            assert_eq!(company.users.create(id, "John Doe").await.is_ok(), id % 2 == 0);
        }
        company.all_is_heard().await;
        assert_eq!(relay.stop().code, 0);
        company.is_exact().await;
        assert_eq!(company.committed().await.len(), 20);
    }
}
