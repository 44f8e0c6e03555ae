//! `users DATABASE [own|native] [ADDRESS]`: the service on its own.

use outbox_sql::postgres::ConnectOptions;
use tokio::net::TcpListener;
use users::{EventTable, Users, router};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let database =
        args.next().ok_or("name the database: users postgres://me@localhost/users [own|native] [ADDRESS]")?;
    let events = match args.next().as_deref() {
        None | Some("own") => EventTable::Own,
        Some("native") => EventTable::Native,
        Some(other) => return Err(format!("`{other}` is no table: say `own` or `native`").into()),
    };
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let users = Users::connect(ConnectOptions::parse(&database)?, events).await?;
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}/users", listener.local_addr()?);
    Ok(axum::serve(listener, router(users)).await?)
}
