//! A service with a relay inside that publishes to a list of Redis: `cargo run -p custom-sink 127.0.0.1:6379`. Look at
//! what arrives with `redis-cli LRANGE orders 0 -1`.

use std::{path::Path, sync::Arc};

use custom_sink::RedisList;
use outbox::{NewEvent, Relay, RouteName, RouteSettings};
use outbox_sql::sqlite::{BookkeepingOptions, InitOptions, SqliteBookkeeping, SqliteStore, StoreOptions, Writer, init};
use rusqlite::Connection;

const DATABASE: &str = "custom-sink.db";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("name the host and port of Redis")?;
    let is_new = !Path::new(DATABASE).exists();
    let mut service = Connection::open(DATABASE)?;
    if is_new {
        init(&service, &InitOptions::new("/orders"))?;
    }
    let transaction = service.transaction()?;
    let placed = NewEvent::builder("order.placed").key("order/7").json(&"two apples").build()?;
    Writer::new().write_all(&transaction, [placed])?;
    transaction.commit()?;

    let store = SqliteStore::open(DATABASE, StoreOptions::default())?;
    let options = BookkeepingOptions { create: true, ..BookkeepingOptions::default() };
    let bookkeeping = SqliteBookkeeping::open(format!("{DATABASE}.relay"), options)?;
    let sink = RedisList { address, list: "orders".to_owned(), idle: Vec::new().into() };
    let relay = Relay::builder()
        .source(Arc::new(store.clone()))
        .store(Arc::new(store))
        .bookkeeping(Arc::new(bookkeeping))
        .route(RouteSettings::new(RouteName::new("redis")?), Arc::new(sink))
        .build()?;
    relay.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
    Ok(())
}
