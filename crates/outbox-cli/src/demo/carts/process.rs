//! What runs inside one of the processes.

use std::{path::PathBuf, process::ExitCode};

use axum::{Router, routing::get};
use carts::{
    Carts, Names, local, make_tables,
    totals::{Consumer, Queue, queue_client},
};

use super::{cloud, emulator, plan::Role};
use crate::demo::process::{bind, relay, until_ended};

/// The environment variable that names the queue which the consumer reads.
pub(crate) const QUEUE_VARIABLE: &str = "OUTBOX_DEMO_QUEUE";

/// How many batches of events the consumer applies at the same time; the inbox keeps each cart's order.
const READERS: usize = 6;

/// Which process, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Which process
    role: Role,
    /// The demo's folder
    #[arg(long)]
    folder: PathBuf,
    /// Where AWS is
    #[arg(long)]
    endpoint: String,
    /// What the names of the tables begin with
    #[arg(long)]
    prefix: String,
    /// Where to listen on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// The emulator's program
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Is the process, until it is ended.
pub(crate) fn run(args: Args) -> ExitCode {
    if let (Role::Emulator, Some(program)) = (args.role, &args.program) {
        return emulator::guard(program, &args.folder, args.port);
    }
    if args.role == Role::Relay {
        return relay(&args.folder);
    }
    crate::logs::start(crate::config::LogFormat::Text, 0);
    until_ended(serve(args))
}

async fn serve(args: Args) -> Result<(), String> {
    let port = args.port;
    let router = match args.role {
        Role::Totals => totals(args).await?,
        Role::Carts | Role::Emulator | Role::Relay => shop(args).await?,
    };
    axum::serve(bind(port).await?, router).await.map_err(|error| error.to_string())
}

/// The service, with its tables.
async fn shop(args: Args) -> Result<Router, String> {
    let client = outbox_aws::dynamodb::connect(&cloud::settings(args.endpoint)).await;
    let names = Names::with_prefix(&args.prefix);
    make_tables(&client, &names).await.map_err(|error| error.to_string())?;
    Ok(local::router(Carts::new(&client, names)))
}

/// The consumer, which reads its queue.
async fn totals(args: Args) -> Result<Router, String> {
    let settings = cloud::settings(args.endpoint);
    let client = outbox_aws::dynamodb::connect(&settings).await;
    let url = std::env::var(QUEUE_VARIABLE).map_err(|_| format!("{QUEUE_VARIABLE} is not set"))?;
    let opened = Consumer::open(&client, &args.prefix, &args.folder.join("events.jsonl")).await;
    let consumer = opened.map_err(|error| error.to_string())?;
    let sweeping = consumer.clone();
    let queue = Queue::new(&queue_client(&settings).await, url);
    for _ in 0..READERS {
        let (queue, reading) = (queue.clone(), consumer.clone());
        tokio::spawn(async move { queue.run(reading, std::future::pending()).await });
    }
    tokio::spawn(async move { sweeping.run(std::future::pending()).await });
    Ok(consumer.sums().route("/health", get(async || "ok")))
}
