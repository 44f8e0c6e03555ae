//! The carts' API as a server: `carts [serve | init]`.

use std::error::Error;

use carts::{Carts, Names, local, make_tables};
use outbox_aws::Settings;

const USAGE: &str = "say `serve` to serve the API, or `init` to make its tables only";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let only_tables = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["serve"] => false,
        ["init"] => true,
        _ => return Err(USAGE.into()),
    };
    let set = |name: &str, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let (prefix, address) = (set("CARTS_TABLES", "carts"), set("CARTS_LISTEN", "127.0.0.1:8080"));
    let client = outbox_aws::dynamodb::connect(&Settings::default()).await;
    let names = Names::with_prefix(&prefix);
    make_tables(&client, &names).await?;
    if only_tables {
        return Ok(());
    }
    let listener = tokio::net::TcpListener::bind(&address).await?;
    tracing::info!(address = %listener.local_addr()?, "carts are served");
    let end = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, local::router(Carts::new(&client, names))).with_graceful_shutdown(end).await?;
    Ok(())
}
