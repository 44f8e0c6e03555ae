//! A service's database with its own tables, and a role that may write events and use these tables, and nothing else.

use outbox::{Content, Event, Filter, PartitionId, RouteName, Source, Start, source::Limit, store::Registration};
use outbox_sql::postgres::{ConnectOptions, Grants, InitOptions, PostgresStore, StoreOptions, init};
use tokio_postgres::Client;

use crate::{
    language::file,
    server::{Database, session, url},
};

pub(crate) struct Service {
    // Dropped before the role, which has rights there.
    pub(crate) database: Database,
    role: Role,
}

struct Role(String);

impl Service {
    pub(crate) async fn new() -> Self {
        let database = Database::new().await;
        let mut client = database.session().await;
        init(&mut client, &InitOptions::new("/orders")).await.unwrap();
        client.batch_execute(&std::fs::read_to_string(file("orders.sql")).unwrap()).await.unwrap();
        let name = database.url().rsplit_once('/').unwrap().1.replace("outbox_test", "outbox_writer");
        let role = Role(name.split('?').next().unwrap().to_owned());
        let name = &role.0;
        client.batch_execute(&format!("DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN")).await.unwrap();
        let own = format!("GRANT SELECT, INSERT, UPDATE ON customers, orders TO {name};\n");
        client.batch_execute(&(own + &Grants::new().writer(name).sql())).await.unwrap();
        Self { database, role }
    }

    /// The database's URL for the role that writes.
    pub(crate) fn url(&self) -> String {
        let (scheme, rest) = self.database.url().split_once("://").unwrap();
        format!("{scheme}://{}@{}", self.role.0, rest.rsplit_once('@').unwrap().1)
    }

    /// The same by way of `address`, without TLS, so that who is there sees what is said.
    pub(crate) fn url_by_way_of(&self, address: &str) -> String {
        let url = self.url().replacen(&self.address(), address, 1);
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}sslmode=disable")
    }

    /// Host and port of the server.
    pub(crate) fn address(&self) -> String {
        let (_, rest) = self.database.url().rsplit_once('@').unwrap();
        rest.split('/').next().unwrap().to_owned()
    }

    pub(crate) async fn session(&self) -> Client {
        self.database.session().await
    }

    /// The events that a relay reads, as it reads them.
    pub(crate) async fn events(&self) -> Vec<Event> {
        let options = ConnectOptions::parse(self.database.url()).unwrap();
        let store = PostgresStore::open(options, StoreOptions::default()).await.unwrap();
        let entries = PartitionId::new("entries");
        let mut position = store.start(&entries, &registration()).await.unwrap();
        let mut events = Vec::new();
        loop {
            let page = store.read(&entries, &position, Limit { events: 1_000, bytes: 16 << 20 }).await.unwrap();
            if page.records.is_empty() {
                return events;
            }
            for record in &page.records {
                match &record.content {
                    Content::Events(found) => events.extend(found.iter().cloned()),
                    Content::Undecodable(row) => panic!("a row of rubbish: {}", row.reason),
                }
            }
            position = page.next;
        }
    }

    /// The rows that `sql` gives, each as text.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let sql = format!("SELECT row_to_json(one)::text FROM ({sql}) AS one");
        self.session().await.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

fn registration() -> Registration {
    Registration {
        route: RouteName::new("ledger").unwrap(),
        filter: Filter::default(),
        start: Start::Beginning,
        start_position: None,
        max_event_bytes: 1 << 20,
        gapless: true,
        registered: "2026-11-21T09:30:00Z".parse().unwrap(),
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let sql = format!("DROP ROLE {}", self.0);
        // A runtime within a runtime is not allowed, but on a thread of its own.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { session(url()).await.batch_execute(&sql).await })
        });
        if !std::thread::panicking() {
            dropped.join().unwrap().unwrap();
        }
    }
}
