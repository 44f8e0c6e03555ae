//! The keeper of all routes: the function on a timer. Configured as the forwarder.

use std::sync::Arc;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use outbox::{Clock as _, System};
use outbox_aws::dynamodb::{DynamoBookkeeping, TableSource};
use outbox_cli::functions::{Functions, Misconfigured};
use outbox_lambda::{
    Keeper,
    keeper::{Kept, Parts},
};
use serde_json::value::RawValue;
use tokio::sync::OnceCell;

/// A keeper, and what it sweeps besides.
struct Opened {
    keeper: Keeper,
    bookkeeping: DynamoBookkeeping,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    outbox_lambda::start_logs();
    let functions = Functions::from_environment(&|name| std::env::var(name).ok())?;
    let opened = OnceCell::new();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Box<RawValue>>| -> Result<Kept, Error> {
        let Opened { keeper, bookkeeping } = opened.get_or_try_init(|| Box::pin(open(&functions))).await?;
        let deadline = outbox_lambda::deadline(&System, event.context.deadline);
        let kept = Box::pin(keeper.keep(deadline)).await;
        // Both also, and above all, where it failed.
        let looked = keeper.look_at_stream(deadline).await;
        let measures = keeper.measures().await;
        if let Ok(measures) = &measures {
            println!("{}", measures.line(functions.store(), System.wall()));
        }
        let kept = kept?;
        measures?;
        looked?;
        if kept == Kept::StoodBy {
            tracing::error!("somebody else held the lease all the time: no relay may run beside the functions");
        }
        keeper.forget_discarded().await?;
        bookkeeping.sweep_redeliveries(System.wall()).await?;
        Ok(kept)
    }))
    .await
}

async fn open(functions: &Functions) -> Result<Opened, Misconfigured> {
    let parts = functions.keeping().await?;
    let keeper = Keeper::new(Parts {
        lease: parts.lease,
        failover: parts.failover,
        routes: parts.routes,
        store: Arc::new(parts.store),
        history: Arc::new(parts.table),
        published_elsewhere: TableSource::published_elsewhere(),
        bookkeeping: Arc::new(parts.bookkeeping.clone()),
        watermarks: parts.bookkeeping.clone(),
        stream: parts.stream,
        clock: Arc::new(System),
    });
    Ok(Opened { keeper, bookkeeping: parts.bookkeeping })
}
