//! `outbox adopt`: puts a database and a bookkeeping together again that no longer agree.
//!
//! Four things happen to files: a database is replaced by an older copy, a bookkeeping is lost, a bookkeeping is doubled,
//! or both are replaced by older copies together, which nothing in them can tell. Each has its choices; none is made
//! without being asked for.

use outbox::{
    BusinessStore as _, Clock as _, Position, RouteName, Start, StoreError, System,
    bookkeeping::{Checkpoint, Replay},
    store::{Agreement, Registration, StoreIdentity},
};
use serde::Serialize;

use crate::{
    commands::{standing, without_relay},
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::{Output, counted, plain, wrapped},
    wiring::{self, Stores},
};

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

/// History that is gone: the database is an older copy than the bookkeeping has seen, or both are older copies.
struct Loss {
    partition: outbox::PartitionId,
    agreed: Option<Position>,
    behind: u64,
    /// Whether the bookkeeping has seen it; otherwise there is nothing that it could have to forget.
    seen: bool,
}

/// Explains, and with `--yes` carries out.
pub(crate) async fn run(config: Config, out: Output, args: &Args) -> Outcome {
    let business = wiring::business(&config)?;
    let identity = business.identity().await?;
    let file = &config.relay.bookkeeping;
    let missing = !file.exists();
    if missing && !args.yes {
        explain_missing(&config, &identity, args, out);
        return Ok(Exit::Ok);
    }
    let bookkeeping = wiring::bookkeeping(file, true)?;
    let stores = Stores {
        source: std::sync::Arc::new(business.clone()),
        business: std::sync::Arc::new(business),
        bookkeeping: std::sync::Arc::new(bookkeeping),
    };
    let mut report = Report::default();
    let foreign = foreign(&stores, &identity, &config.relay.name, &mut report).await?;
    let mut losses = losses(&stores, &mut report).await?;
    if args.restored && losses.is_empty() {
        losses = unseen_losses(&stores, &mut report).await?;
    }
    let disown = foreign || args.restored;
    if !disown && losses.is_empty() {
        report.found.push("database and bookkeeping belong together and agree on history".to_owned());
        report.found.push("if both were put back from backups, say --restored: nothing in the files tells".to_owned());
        show(out, &report, args);
        return Ok(Exit::Ok);
    }
    plan(&stores, &losses, disown, args, &mut report).await?;
    let undecided = !report.undecided.is_empty();
    if args.yes && !undecided {
        without_relay(&config, &stores, out).await?;
        carry_out(&stores, &losses, disown, args).await?;
        report.done = true;
    }
    show(out, &report, args);
    if args.yes && undecided {
        return Err(Failure::usage("something has to be decided first; nothing was done").help("see `undecided` above"));
    }
    Ok(Exit::Ok)
}

/// Without making the file: that alone would be a decision.
fn explain_missing(config: &Config, identity: &StoreIdentity, args: &Args, out: Output) {
    let mut report = Report::default();
    let file = config.relay.bookkeeping.display();
    match identity.bookkeeping() {
        None => report
            .found
            .push(format!("{file} is not there, and no bookkeeping has read the database: just start the relay")),
        Some(owner) => {
            report
                .found
                .push(format!("the bookkeeping {file} is not there; the database is read by bookkeeping {owner}"));
            report.found.push("if the file is only elsewhere, put it back and all is well".to_owned());
            report.actions.push(format!("make a new, empty bookkeeping {file}, and give it the database"));
            new_bookkeeping(args, &mut report);
            if args.restored {
                report.actions.push(RAISE.to_owned());
            }
            report
                .found
                .push("dead letters and parked events that were only in the lost file are gone for good".to_owned());
        }
    }
    show(out, &report, args);
}

fn new_bookkeeping(args: &Args, report: &mut Report) {
    report.actions.push(if args.from_now {
        "let every registered route begin behind what is in the database now: what the lost bookkeeping had not published is never published".to_owned()
    } else {
        "let every registered route begin at its start: what was published before is published again, with the same ids; inboxes suppress it (--from-now publishes none of it)".to_owned()
    });
}

/// Whether the database belongs to another bookkeeping, or to another copy of this one.
async fn foreign(
    stores: &Stores,
    identity: &StoreIdentity,
    lease: &str,
    report: &mut Report,
) -> Result<bool, StoreError> {
    let id = stores.bookkeeping.id().await?;
    let noted = stores.bookkeeping.claims(lease).await?;
    let Some(held) = identity.claim.as_ref().filter(|held| !held.is_followed_by(&id, &noted)) else {
        return Ok(false);
    };
    report.found.push(if held.bookkeeping == id {
        format!(
            "another copy of bookkeeping {id} has read the database under epoch {}, or this one is an old backup",
            held.epoch
        )
    } else {
        format!("the database is read by bookkeeping {}, but the file given is bookkeeping {id}", held.bookkeeping)
    });
    Ok(true)
}

async fn losses(stores: &Stores, report: &mut Report) -> Result<Vec<Loss>, StoreError> {
    let mut losses = Vec::new();
    for partition in stores.source.partitions().await? {
        let witnesses = stores.bookkeeping.witnesses(&partition.id).await?;
        let Agreement::Lost { agreed, lost, behind } = stores.business.agreement(&witnesses).await? else { continue };
        let last =
            agreed.as_ref().map_or_else(|| "at no position that is still kept".to_owned(), |at| format!("up to {at}"));
        report
            .found
            .push(format!("the database is an older copy: it agrees with what was read {last}, but not at {lost}"));
        let entries = counted(behind, "entry", "entries");
        report.found.push(format!(
            "behind the last agreement it holds {entries}: older than the copy, or written since it was put back"
        ));
        report.found.push(
            "events that were published and are not in the copy: consumers have them, the database does not".to_owned(),
        );
        losses.push(Loss { partition: partition.id, agreed, behind, seen: true });
    }
    Ok(losses)
}

/// What `--restored` says: history is gone behind what the bookkeeping has seen last.
async fn unseen_losses(stores: &Stores, report: &mut Report) -> Result<Vec<Loss>, StoreError> {
    report.found.push(
        "the operator says that database and bookkeeping were both put back from backups: what was written and \
         published since then is in neither"
            .to_owned(),
    );
    let mut losses = Vec::new();
    for partition in stores.source.partitions().await? {
        let positions = stores.bookkeeping.witnesses(&partition.id).await?.into_iter().map(|witness| witness.position);
        let agreed = positions.max_by(|one, other| stores.source.order(one, other));
        let from = match &agreed {
            Some(agreed) => agreed.clone(),
            None => beginning(stores, &partition.id).await?,
        };
        let behind = stores.source.backlog(&partition.id, &from).await?.entries;
        losses.push(Loss { partition: partition.id, agreed, behind, seen: false });
    }
    Ok(losses)
}

/// The position before everything that is retained.
async fn beginning(stores: &Stores, partition: &outbox::PartitionId) -> Result<Position, StoreError> {
    let registration = Registration {
        route: RouteName::stored("adopt"),
        filter: outbox::Filter::default(),
        start: Start::Beginning,
        start_position: None,
        max_event_bytes: 0,
        gapless: true,
        registered: System.wall(),
    };
    stores.source.start(partition, &registration).await
}

const RAISE: &str = "raise the incarnation, so that consumers tell new events from lost ones of the same number";

async fn plan(
    stores: &Stores,
    losses: &[Loss],
    disown: bool,
    args: &Args,
    report: &mut Report,
) -> Result<(), StoreError> {
    if disown {
        report.actions.push(
            "give the database to this bookkeeping: the next relay that uses it takes over, and any other one stops"
                .to_owned(),
        );
        let fresh = unstarted(stores).await?;
        if !fresh.is_empty() {
            new_bookkeeping(args, report);
        }
    }
    for loss in losses {
        let from = loss.agreed.as_ref().map_or_else(|| "the beginning".to_owned(), Position::to_string);
        report.actions.push(RAISE.to_owned());
        if loss.seen {
            report.actions.push(format!("let every route that was further go on behind {from}"));
        }
        if args.entries == Some(Entries::Renumber) {
            let entries = counted(loss.behind, "entry", "entries");
            report.actions.push(format!("renumber {entries} behind {from} into the new incarnation"));
        } else if loss.behind > 0 && args.entries.is_none() {
            report.undecided.push(format!(
                "{} behind {from}: if the service has not written since the copy was put back, say --entries keep; they are published again as duplicates, which inboxes suppress. If it has, say --entries renumber: consumers take them all as new, those from before the copy a second time",
                counted(loss.behind, "entry", "entries")
            ));
        }
    }
    Ok(())
}

/// Registered routes without a checkpoint, which would begin at their start.
async fn unstarted(stores: &Stores) -> Result<Vec<Registration>, StoreError> {
    let mut fresh = Vec::new();
    for registration in stores.business.routes().await? {
        if stores.bookkeeping.checkpoints(&registration.route).await?.is_empty() {
            fresh.push(registration);
        }
    }
    Ok(fresh)
}

async fn carry_out(stores: &Stores, losses: &[Loss], disown: bool, args: &Args) -> Result<(), Failure> {
    // First the checkpoints, for a route that stands behind the loss could skip what is written next. Raising twice,
    // after a crash in between, does no harm; it only skips a number.
    for loss in losses {
        if loss.seen {
            set_back(stores, loss).await?;
        }
        stores.business.raise_incarnation(loss.agreed.as_ref(), args.entries == Some(Entries::Renumber)).await?;
    }
    if disown {
        if args.from_now {
            for registration in unstarted(stores).await? {
                skip_to_end(stores, &registration).await?;
            }
        }
        stores.business.disown().await?;
    }
    Ok(())
}

/// Sets every route that is further than the last agreement back to it, and forgets what was seen behind it.
async fn set_back(stores: &Stores, loss: &Loss) -> Result<(), Failure> {
    for registration in stores.business.routes().await? {
        let target = match &loss.agreed {
            Some(agreed) => agreed.clone(),
            None => beginning(stores, &loss.partition).await?,
        };
        let standings = standing::standings(stores, &registration).await?;
        for standing in standings.iter().filter(|standing| standing.stored && standing.partition == loss.partition) {
            // Those that are not further, too: it makes the bookkeeping forget what it saw of the lost history.
            let further = stores.source.order(&standing.position, &target).is_gt();
            let position = if further { target.clone() } else { standing.position.clone() };
            let checkpoint = Checkpoint { partition: loss.partition.clone(), position, finished: false };
            stores.bookkeeping.reset_checkpoint(&registration.route, &checkpoint).await?;
        }
        set_replays_back(stores, loss, &registration.route, &target).await?;
    }
    Ok(())
}

/// The same for the replays of `route`. One that was to go further than `target` ends, for that history is gone.
async fn set_replays_back(stores: &Stores, loss: &Loss, route: &RouteName, target: &Position) -> Result<(), Failure> {
    let beyond = |position: &Position| stores.source.order(position, target).is_gt();
    for replay in stores.bookkeeping.replays().await?.into_iter().filter(|replay| replay.route == *route) {
        let name = route.replay(&replay.id);
        for checkpoint in stores.bookkeeping.checkpoints(&name).await? {
            if checkpoint.partition == loss.partition {
                let position = if beyond(&checkpoint.position) { target.clone() } else { checkpoint.position.clone() };
                let checkpoint = Checkpoint { position, ..checkpoint };
                stores.bookkeeping.reset_checkpoint(&name, &checkpoint).await?;
            }
        }
        let cut_off = replay.ends.iter().any(|(partition, end)| *partition == loss.partition && beyond(end));
        if cut_off && !replay.finished {
            stores.bookkeeping.put_replay(&Replay { finished: true, ..replay }).await?;
        }
    }
    Ok(())
}

/// Lets a route begin behind everything that is there now.
async fn skip_to_end(stores: &Stores, registration: &Registration) -> Result<(), Failure> {
    let now = Registration { start: Start::Now, start_position: None, ..registration.clone() };
    for partition in stores.source.partitions().await? {
        let position = stores.source.start(&partition.id, &now).await?;
        let checkpoint = Checkpoint { partition: partition.id, position, finished: false };
        stores.bookkeeping.reset_checkpoint(&registration.route, &checkpoint).await?;
    }
    Ok(())
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
