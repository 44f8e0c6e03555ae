//! Who holds entries back is named.

use outbox::BusinessStore as _;

use crate::fixture::Service;

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
    let oldest = store.oldest_transaction().await.unwrap().expect("two are open");
    assert!(oldest.holder.contains(&format!("process {pid}, `import`")), "{}", oldest.holder);
    assert!(oldest.holder.contains(&format!("pg_terminate_backend({pid})")), "{}", oldest.holder);
    first.batch_execute("COMMIT").await.unwrap();
    let oldest = store.oldest_transaction().await.unwrap().expect("one is prepared");
    second.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).await.unwrap();
    assert!(oldest.holder.contains(&format!("ROLLBACK PREPARED '{gid}'")), "{}", oldest.holder);
}
