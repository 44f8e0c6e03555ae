//! What runs inside one of the demo's processes.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use axum::{Router, serve::ListenerExt as _};
use outbox_sql::postgres::ConnectOptions;
use tokio::net::TcpListener;

use super::{
    chaos::Role,
    consumer, ledger, notifications,
    server::STORE_VARIABLE,
    stage::{PRODUCER, database},
};
use crate::cli::{Command, Global};

/// How long a port may be taken by what is left of a killed process.
const PORT_LIMIT: Duration = Duration::from_secs(30);

/// Which process, and where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Which process
    role: Role,
    /// The demo's folder
    #[arg(long)]
    folder: PathBuf,
    /// Where to listen on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Refuse orders of more units
    #[arg(long)]
    refuse_above: Option<i64>,
}

/// Is the process, until it is ended.
pub(crate) fn run(args: Args) -> ExitCode {
    if args.role == Role::Relay {
        return relay(&args.folder);
    }
    until_ended(serve(args))
}

/// Runs what a process serves, until the demo ends or the process cannot go on.
pub(crate) fn until_ended(served: impl Future<Output = Result<(), String>>) -> ExitCode {
    end_with_parent();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(served)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Standard input is a pipe that nobody writes to: it ends when the demo does, even by SIGKILL.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

/// The ordinary relay, as `outbox relay --config FILE` with the file in this folder, until the demo ends.
pub(crate) fn relay(folder: &Path) -> ExitCode {
    end_with_parent();
    let global = Global { config: folder.join("outbox.toml"), json: false, verbose: 0, log: None };
    let outcome = crate::process::run(&global, Command::Relay(crate::commands::relay::Args::default()));
    crate::process::finish(&global, outcome)
}

async fn serve(args: Args) -> Result<(), String> {
    let router = router(&args).await?;
    let listener = bind(args.port).await?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection goes on with Nagle's algorithm");
        }
    });
    axum::serve(listener, router).await.map_err(|error| error.to_string())
}

async fn router(args: &Args) -> Result<Router, String> {
    let switches = consumer::Switches::new(args.refuse_above);
    match args.role {
        Role::Ledger => consumer::router(&args.folder, args.role, switches, ledger::inbox(&args.folder)?),
        Role::Notifications => consumer::router(&args.folder, args.role, switches, notifications::inbox(&args.folder)?),
        Role::Orders | Role::Relay => {
            let service = match std::env::var(STORE_VARIABLE) {
                Ok(url) => {
                    let options = ConnectOptions::parse(&url).map_err(|error| error.to_string())?;
                    orders::Service::connect(options, PRODUCER).await
                }
                Err(_) => orders::Service::open(&database(&args.folder, Role::Orders), PRODUCER),
            };
            Ok(orders::router(service.map_err(|error| error.to_string())?))
        }
    }
}

pub(crate) async fn bind(port: u16) -> Result<TcpListener, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let bound = tokio::time::timeout(PORT_LIMIT, async {
        loop {
            match TcpListener::bind(address).await {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                bound => return bound,
            }
        }
    });
    match bound.await {
        Ok(Ok(listener)) => Ok(listener),
        Ok(Err(error)) => Err(format!("cannot listen on {address}: {error}")),
        Err(_) => Err(format!("cannot listen on {address}: the port stays in use")),
    }
}
