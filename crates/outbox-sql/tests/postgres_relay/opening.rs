//! What is checked when a database is opened.

use outbox::ErrorKind;
use outbox_sql::postgres::{ConnectOptions, Grants, PostgresStore, StoreOptions};

use crate::fixture::Service;

async fn refusal(options: ConnectOptions) -> (ErrorKind, String) {
    match PostgresStore::open(options, StoreOptions::default()).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[tokio::test]
async fn a_trigger_before_entries_are_written_is_refused_by_name() {
    let service = Service::new().await;
    let client = service.session().await;
    client
        .batch_execute(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE TRIGGER meddling BEFORE INSERT ON outbox.entries FOR EACH ROW EXECUTE FUNCTION meddle()",
        )
        .await
        .unwrap();
    let (kind, said) = refusal(service.options()).await;
    assert_eq!(kind, ErrorKind::Incompatible);
    assert!(said.contains("`meddling`") && said.contains("outbox.entries"), "{said}");
    client.batch_execute("DROP TRIGGER meddling ON outbox.entries").await.unwrap();
    let after = "CREATE TRIGGER counting AFTER INSERT ON outbox.entries FOR EACH ROW EXECUTE FUNCTION meddle()";
    client.batch_execute(after).await.unwrap();
    service.store().await;
}

#[tokio::test]
async fn a_trigger_on_a_leaf_or_a_rule_is_refused_too() {
    let service = Service::new().await;
    let client = service.session().await;
    client
        .batch_execute(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER swallowing BEFORE INSERT ON outbox.entries_1 FOR EACH ROW EXECUTE FUNCTION meddle()",
        )
        .await
        .unwrap();
    let (_, said) = refusal(service.options()).await;
    assert!(said.contains("`swallowing`") && said.contains("entries_1"), "{said}");
    client.batch_execute("DROP TRIGGER swallowing ON outbox.entries_1").await.unwrap();
    client.batch_execute("CREATE RULE away AS ON INSERT TO outbox.entries DO INSTEAD NOTHING").await.unwrap();
    let (_, said) = refusal(service.options()).await;
    assert!(said.contains("`away`"), "{said}");
}

#[tokio::test]
async fn tables_that_are_missing_or_newer_are_told() {
    let service = Service::new().await;
    let client = service.session().await;
    client.batch_execute("UPDATE outbox.meta SET layout = 99").await.unwrap();
    let (kind, said) = refusal(service.options()).await;
    assert_eq!(kind, ErrorKind::Incompatible);
    assert!(said.contains("layout 99") && said.contains("upgrade"), "{said}");
    client.batch_execute("DROP SCHEMA outbox CASCADE").await.unwrap();
    let (kind, said) = refusal(service.options()).await;
    assert_eq!(kind, ErrorKind::Incompatible);
    assert!(said.contains("outbox init"), "{said}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_those_that_are_granted_suffice() {
    let service = Service::new().await;
    let client = service.session().await;
    let role = format!("relay_{}", service.database.url().rsplit_once('/').unwrap().1);
    let url = service.database.url().replacen("postgres@", &format!("{role}@"), 1);
    let options = || ConnectOptions::parse(&url).unwrap();
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA outbox TO {role}; GRANT SELECT ON outbox.meta TO {role}"
        ))
        .await
        .unwrap();
    let (kind, said) = refusal(options()).await;
    assert_eq!(kind, ErrorKind::NotPermitted);
    assert!(
        said.contains("SELECT ON outbox.entries")
            && said.contains("empty_leaf")
            && said.contains("outbox init --relay"),
        "{said}"
    );
    client.batch_execute(&Grants::new().relay(&role).sql()).await.unwrap();
    let opened = PostgresStore::open(options(), StoreOptions::default()).await;
    let worked = match opened {
        Ok(store) => works(&service, store).await,
        Err(error) => Err(error),
    };
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    worked.unwrap();
}

/// Does all that a relay does.
async fn works(service: &Service, store: PostgresStore) -> Result<(), outbox::StoreError> {
    use outbox::{
        BusinessStore, Start,
        store::{Claim, Retention},
    };
    service.session().await.batch_execute("SELECT outbox.write('a', 't')").await.unwrap();
    let claim = Claim { bookkeeping: "books".to_owned(), epoch: 1, nonce: "n".to_owned() };
    assert!(store.claim(&claim, None).await?);
    let registered = crate::reader::registration(Start::Now);
    store.register(registered).await?;
    let mut reader = crate::reader::Reader::new(store.clone()).await;
    reader.read_all().await;
    assert_eq!(reader.records.len(), 1);
    store.purge(&reader.position, Retention::Newest(0)).await?;
    store.agreement(&reader.witnesses()).await?;
    store.raise_incarnation(Some(&reader.records[0].position), true).await?;
    store.disown().await
}
