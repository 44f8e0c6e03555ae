//! What is to be done about what was found.

use outbox::{Position, relay::adoption::Loss};

use super::{Args, Entries, Report, findings::Findings};
use crate::{config::Config, exit::Failure, output::counted};

const RAISE: &str = "raise the incarnation, so that consumers tell new events from lost ones of the same number";

/// Refuses options that would do nothing: whoever gives one expects something of it.
///
/// # Errors
/// [`Failure`] that names the option.
pub(super) fn check_options(findings: &Findings, args: &Args) -> Result<(), Failure> {
    if args.entries.is_some() && findings.losses.is_empty() {
        return Err(Failure::usage("--entries is for an older copy of the database, and nothing that was read is gone from this one; nothing was done")
            .help("leave it out; if database and bookkeeping were both put back from backups, say --restored"));
    }
    if args.from_now && findings.fresh.is_empty() {
        return Err(Failure::usage("--from-now is for routes of which a new bookkeeping knows nothing, and every registered route goes on where it stopped; nothing was done")
            .help("leave it out; a route that is not registered yet begins at the `start` of its configuration"));
    }
    Ok(())
}

/// Says what is to be done, and what the operator has to decide first.
pub(super) fn plan(config: &Config, findings: &Findings, args: &Args, missing: bool, report: &mut Report) {
    if findings.disown {
        if missing {
            let file = &config.relay.bookkeeping;
            report.actions.push(format!("make a new, empty bookkeeping {file}"));
        }
        report.actions.push(
            "give the database to this bookkeeping, and that a new id: the next relay that uses it takes over, and any \
             other one, with a copy of it, too, stops"
                .to_owned(),
        );
        if !findings.fresh.is_empty() {
            report.actions.push(if args.from_now {
                "let every registered route begin behind what is in the database now: what the lost bookkeeping had not published is never published".to_owned()
            } else {
                "let every registered route begin at its start: what was published before is published again, with the same ids; inboxes suppress it (--from-now publishes none of it)".to_owned()
            });
        }
    }
    if findings.refused > 0 {
        report.actions.push(
            "let these routes go on by the rows: from where they stood; but where numbers of transactions are missing, from \
             the first row that was not read, some of what follows again, under a raised incarnation; and end replays that were to go further"
                .to_owned(),
        );
    }
    for loss in &findings.losses {
        plan_for(loss, args.entries, report);
    }
}

fn plan_for(loss: &Loss, entries: Option<Entries>, report: &mut Report) {
    let from = loss.agreed.as_ref().map_or_else(|| "the beginning".to_owned(), Position::to_string);
    let behind = counted(loss.behind, "entry", "entries");
    report.actions.push(RAISE.to_owned());
    if loss.lost.is_some() {
        report.actions.push(format!("let every route that was further go on behind {from}"));
    }
    match entries {
        Some(Entries::Renumber) => {
            report.actions.push(format!("renumber {behind} behind {from} into the new incarnation"));
        }
        Some(Entries::Keep) => report.actions.push(format!("leave {behind} behind {from} as they are")),
        None if loss.behind > 0 => report.undecided.push(format!(
            "{behind} behind {from}: if the service has not written since the copy was put back, say --entries keep; they are published again as duplicates, which inboxes suppress. If it has, say --entries renumber: consumers take them all as new, those from before the copy a second time"
        )),
        None => {}
    }
}
