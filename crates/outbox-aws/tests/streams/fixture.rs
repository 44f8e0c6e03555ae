//! Tables of the emulator, or of AWS, that nobody else uses.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::Client;
use outbox::NewEvent;
use outbox_aws::dynamodb::{InitOptions, Tables, Writer, schema};

use crate::server;

/// A prefix for names of tables that nobody else has.
pub(crate) fn unused_prefix() -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    format!("outbox-streams-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

/// A service's tables, removed in the end.
pub(crate) struct Store {
    pub(crate) client: Client,
    pub(crate) tables: Tables,
}

impl Store {
    pub(crate) async fn new() -> Self {
        let client = server::client().await;
        let tables = Tables::with_prefix(&unused_prefix());
        schema::init(&client, &tables, &InitOptions::new("/carts")).await.unwrap();
        Self { client, tables }
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer::new(&self.client, self.tables.clone())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let names = [self.tables.entries().to_owned(), self.tables.heads().to_owned()];
        server::drop_tables(names.to_vec());
    }
}

/// An event of a cart.
pub(crate) fn event(key: &str) -> NewEvent {
    NewEvent::builder("cart.changed").key(key).json(&key).build().unwrap()
}
