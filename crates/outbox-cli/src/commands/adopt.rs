//! `outbox adopt`: puts a database and a bookkeeping together again that no longer agree.
//!
//! Four things happen to files: a database is replaced by an older copy, a bookkeeping is lost, a bookkeeping is doubled,
//! or both are replaced by older copies together, which nothing in them can tell. Each has its choices; none is made
//! without being asked for.

use std::sync::Arc;

use outbox::{Operator, System, memory::MemoryBookkeeping};
use serde::Serialize;

use crate::{
    commands::without_relay,
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::{Output, plain, wrapped},
    wiring::{self, Business, Stores},
};

mod carrying_out;
mod findings;
mod plan;

use findings::Findings;

/// What to choose.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Stop the relay first, and, where the database was restored, the service that writes to it. Without \
--yes nothing is changed. docs/runbook.md has the whole procedure.")]
pub(crate) struct Args {
    /// Do it, rather than explain what would be done
    #[arg(long)]
    yes: bool,
    /// Database and bookkeeping were both put back from backups, which cannot be told from the files: raise the
    /// incarnation, so that consumers tell what is written from now on from what was lost
    #[arg(long)]
    restored: bool,
    /// What becomes of entries behind the last agreement that are in an older copy of the database
    #[arg(long, value_name = "WHAT")]
    entries: Option<Entries>,
    /// With a new bookkeeping: publish nothing that is in the database already
    #[arg(long)]
    from_now: bool,
}

/// What becomes of entries behind the last agreement: older than the copy, or written since it was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Entries {
    /// They keep their numbers, for nothing was written since; consumers take them for the duplicates they are
    Keep,
    /// They get new numbers, for some were written since; consumers take all of them as new, the older ones again
    Renumber,
}

/// What was found, and what is or would be done about it.
#[derive(Debug, Default, Serialize)]
struct Report {
    found: Vec<String>,
    actions: Vec<String>,
    undecided: Vec<String>,
    done: bool,
}

impl Report {
    /// Whether there is something to do, and how is clear.
    fn is_decided(&self) -> bool {
        !self.actions.is_empty() && self.undecided.is_empty()
    }
}

/// Explains, and with `--yes` carries out.
pub(crate) async fn run(config: Config, out: Output, args: &Args) -> Outcome {
    let Business { source, store } = wiring::business(&config).await?;
    let kept = &config.relay.bookkeeping;
    let missing = !wiring::is_there(kept).await?;
    // An empty one stands for one that is not there: making it would be a decision already.
    let bookkeeping: Arc<dyn Operator> =
        if missing { Arc::new(MemoryBookkeeping::new(&System)) } else { wiring::bookkeeping(kept, false).await? };
    let mut stores = Stores { source, business: store, bookkeeping };
    if missing || !args.yes {
        let (_, report) = look(&stores, &config, args, missing).await?;
        if !args.yes || !report.is_decided() {
            return end(out, &report, args);
        }
        stores.bookkeeping = wiring::bookkeeping(kept, true).await?;
    }
    let work = async |lease: &_| {
        // Looked at under the lease: until then a relay may have changed what there was.
        let (findings, mut report) = look(&stores, &config, args, missing).await?;
        if report.is_decided() {
            carrying_out::carry_out(&stores, lease, &findings, args).await?;
            report.done = true;
        }
        Ok(report)
    };
    let report = without_relay(&config, &stores, out, "outbox adopt", work).await?;
    end(out, &report, args)
}

/// What there is, and what is to be done about it. `missing` says that the bookkeeping's file was not there.
async fn look(stores: &Stores, config: &Config, args: &Args, missing: bool) -> Result<(Findings, Report), Failure> {
    let mut report = Report::default();
    let findings = findings::gather(stores, config, args.restored, missing, &mut report).await?;
    plan::check_options(&findings, args)?;
    plan::plan(config, &findings, args, missing, &mut report);
    Ok((findings, report))
}

fn end(out: Output, report: &Report, args: &Args) -> Outcome {
    show(out, report, args);
    if args.yes && !report.undecided.is_empty() {
        return Err(Failure::usage("something has to be decided first; nothing was done").help("see `undecided` above"));
    }
    Ok(Exit::Ok)
}

fn show(out: Output, report: &Report, args: &Args) {
    if out.json {
        out.value(report);
        return;
    }
    let paint = out.paint;
    let block = |title: String, list: &[String]| {
        if list.is_empty() {
            return;
        }
        out.line(title);
        for text in list {
            for (index, line) in wrapped(&plain(text), 76).iter().enumerate() {
                out.line(format!("{}{line}", if index == 0 { "- " } else { "  " }));
            }
        }
    };
    block(paint.strong("found"), &report.found);
    block(paint.strong(if report.done { "done" } else { "would be done" }), &report.actions);
    block(paint.bad("undecided"), &report.undecided);
    if report.done {
        out.line(paint.good("\nnow start the relay, and, where it was stopped, the service"));
    } else if !report.actions.is_empty() && !args.yes {
        out.line(paint.faint("\nnothing was changed; --yes does it"));
    }
}
