//! Who holds entries back is named.

use std::time::Duration;

use outbox::{BusinessStore as _, ErrorKind};
use outbox_sql::postgres::{ConnectOptions, Grants, PostgresStore, StoreOptions};

use crate::{
    fixture::Service,
    proxy::{Proxy, host_and_port},
};

/// Nothing takes so long that gives up a lock after 50 ms.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_transaction_that_is_open_for_longest_is_named() {
    let service = Service::new().await;
    let store = service.store().await;
    assert_eq!(store.oldest_transaction().await.unwrap(), None);
    let (first, second) = (service.session().await, service.session().await);
    first.batch_execute("SET application_name = 'import'; BEGIN; SELECT outbox.write('a', 't')").await.unwrap();
    let gid = format!("held_back_{}", std::process::id());
    second.batch_execute(&format!("BEGIN; SELECT outbox.write('b', 't'); PREPARE TRANSACTION '{gid}'")).await.unwrap();
    let pid: i32 = first.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let oldest = store.oldest_transaction().await;
    first.batch_execute("COMMIT").await.unwrap();
    let then = store.oldest_transaction().await;
    // Before anything can fail: it would hold up the whole server for good.
    second.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    let oldest = oldest.unwrap().expect("two are open");
    assert!(oldest.holder.contains(&format!("process {pid}, `import`")), "{}", oldest.holder);
    assert!(oldest.holder.contains(&format!("pg_terminate_backend({pid})")), "{}", oldest.holder);
    let oldest = then.unwrap().expect("one is prepared");
    assert!(oldest.holder.contains(&format!("ROLLBACK PREPARED '{gid}'")), "{}", oldest.holder);
}

#[tokio::test]
async fn a_relay_with_no_more_rights_than_it_needs_names_it_too() {
    let service = Service::new().await;
    let owner = service.session().await;
    let role = format!("relay_{}", service.database.url().rsplit_once('/').unwrap().1);
    let url = service.database.url().replacen("postgres@", &format!("{role}@"), 1);
    owner.batch_execute(&format!("CREATE ROLE {role} LOGIN; {}", Grants::new().relay(&role).sql())).await.unwrap();
    let named = async {
        let store = PostgresStore::open(ConnectOptions::parse(&url)?, StoreOptions::default()).await?;
        let open = service.session().await;
        open.batch_execute("SET application_name = 'import'; BEGIN; SELECT outbox.write('a', 't')").await?;
        let pid: i32 = open.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        let later = "SELECT outbox.write('b', 't', recorded_at => '2026-11-21 09:30Z')";
        owner.batch_execute(later).await?;
        Ok::<_, Box<dyn std::error::Error>>((store.oldest_transaction().await?, pid))
    };
    let named = named.await;
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    let (oldest, pid) = named.unwrap();
    let oldest = oldest.expect("one is open");
    assert!(oldest.holder.contains(&format!("process {pid}, `import`, role `postgres`")), "{}", oldest.holder);
    assert_eq!(oldest.since.to_string(), "2026-11-21T09:30:00Z", "a later one was recorded then");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_whose_process_stands_still_once_it_was_answered_holds_up_no_writer() {
    let service = Service::new().await;
    let proxy = Proxy::start(&host_and_port(service.database.url())).await;
    let options = ConnectOptions::parse(&proxy.before(service.database.url())).unwrap();
    let store = PostgresStore::open(options, StoreOptions::default()).await.unwrap();
    store.identity().await.unwrap();
    let keeper = proxy.links().last().unwrap().clone();
    keeper.hold_requests_from_answer(b"raise_incarnation");
    let raising = tokio::spawn(async move { store.raise_incarnation(None, false).await });
    keeper.holds_requests().await;
    let writer = service.session().await;
    let written = tokio::time::timeout(SOON, writer.batch_execute("SELECT outbox.write('a', 't')")).await;
    keeper.let_requests_go();
    written.expect("its locks are gone, whatever becomes of the process").unwrap();
    assert_eq!(raising.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn an_adoption_that_waits_for_a_writer_holds_up_no_other_and_names_it() {
    let service = Service::new().await;
    let store = service.store().await;
    let (open, other) = (service.session().await, service.session().await);
    other.batch_execute("SELECT outbox.write('b', 't')").await.unwrap();
    open.batch_execute("BEGIN; SELECT outbox.write('a', 't')").await.unwrap();
    let pid: i32 = open.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let raising = tokio::spawn({
        let store = store.clone();
        async move { store.raise_incarnation(None, false).await }
    });
    while !raising.is_finished() {
        let written = tokio::time::timeout(SOON, other.batch_execute("SELECT outbox.write('b', 't')")).await;
        written.expect("nobody waits for the writer that is open").unwrap();
    }
    let refused = raising.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains(&format!("pg_terminate_backend({pid})")), "{refused}");
    open.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.raise_incarnation(None, false).await.unwrap(), 2);
}
