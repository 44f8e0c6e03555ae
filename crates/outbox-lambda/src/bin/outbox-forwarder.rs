//! The forwarder of one route: the function on the stream of the entries. Configured by `OUTBOX_CONFIG`, or by
//! `OUTBOX_STORE`, `OUTBOX_BOOKKEEPING` and `OUTBOX_BUS`; of several routes `OUTBOX_ROUTE` names one.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use outbox::System;
use outbox_cli::functions::{Functions, Misconfigured};
use outbox_lambda::{Forwarder, batch::Answer, forwarder::Parts};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

#[tokio::main]
async fn main() -> Result<(), Error> {
    outbox_lambda::start_logs();
    let functions = Functions::from_environment(&|name| std::env::var(name).ok())?;
    // What is not there now may be there at the next invocation.
    let forwarder = OnceCell::new();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| -> Result<Answer, Error> {
        let forwarder = forwarder.get_or_try_init(|| Box::pin(open(&functions))).await?;
        let deadline = outbox_lambda::deadline(&System, event.context.deadline);
        Ok(Box::pin(forwarder.forward(event.payload.get(), deadline)).await?)
    }))
    .await
}

async fn open(functions: &Functions) -> Result<Forwarder, Misconfigured> {
    let route = std::env::var("OUTBOX_ROUTE").ok().filter(|route| !route.is_empty());
    let parts = functions.forwarding(route.as_deref()).await?;
    let watermarks = parts.bookkeeping.clone();
    let bookkeeping = Arc::new(parts.bookkeeping);
    Ok(Forwarder::new(Parts {
        route: parts.route,
        sink: parts.sink,
        store: Arc::new(parts.store),
        entries: Arc::new(parts.entries),
        redeliveries: bookkeeping.clone(),
        watermarks,
        bookkeeping,
        clock: Arc::new(System),
        entropy: Arc::new(System),
    }))
}
