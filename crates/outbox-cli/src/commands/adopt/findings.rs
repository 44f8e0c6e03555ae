//! What is wrong between database and bookkeeping.

use outbox::{
    StoreError,
    relay::adoption::{self, Loss},
    store::{Registration, StoreIdentity},
};

use super::Report;
use crate::{config::Config, output::counted, wiring::Stores};

/// What was found.
pub(super) struct Findings {
    /// Whether this bookkeeping is to take the database over: it is another's, or another copy's of this one, or the
    /// operator says that both are older copies.
    pub(super) disown: bool,
    /// What is gone, by partition.
    pub(super) losses: Vec<Loss>,
    /// If the database is taken over, the registered routes without a checkpoint, which would begin at their start.
    pub(super) fresh: Vec<Registration>,
    /// How many checkpoints the database refuses, whatever it holds.
    pub(super) refused: usize,
}

/// Looks, changing nothing. `missing` says that the bookkeeping's file was not there.
pub(super) async fn gather(
    stores: &Stores,
    config: &Config,
    restored: bool,
    missing: bool,
    report: &mut Report,
) -> Result<Findings, StoreError> {
    let identity = stores.business.identity().await?;
    let foreign = if missing {
        orphaned(config, &identity, report)
    } else {
        foreign(stores, &identity, &config.relay.name, report).await?
    };
    let mut losses = losses(stores, config, report).await?;
    if restored && losses.is_empty() {
        losses = unseen_losses(stores, report).await?;
    }
    // An older copy says it all: what is set back to the last agreement is refused no more.
    let is_lost = losses.iter().any(|loss| loss.lost.is_some());
    let refused = if is_lost { 0 } else { refused(stores, report).await? };
    let disown = foreign || restored;
    if !disown && losses.is_empty() && refused == 0 && !missing {
        report.found.push("database and bookkeeping belong together and agree on history".to_owned());
        report.found.push("if both were put back from backups, say --restored: nothing in the files tells".to_owned());
    }
    let fresh = if disown { unstarted(stores).await? } else { Vec::new() };
    Ok(Findings { disown, losses, fresh, refused })
}

/// Whether the database belongs to a bookkeeping, whose file is not there.
fn orphaned(config: &Config, identity: &StoreIdentity, report: &mut Report) -> bool {
    let file = &config.relay.bookkeeping;
    let Some(owner) = identity.bookkeeping() else {
        report
            .found
            .push(format!("{file} is not there, and no bookkeeping has read the database: just start the relay"));
        return false;
    };
    report.found.push(format!("the bookkeeping {file} is not there; the database is read by bookkeeping {owner}"));
    report.found.push("if the file is only elsewhere, put it back and all is well".to_owned());
    report.found.push("dead letters and parked events that were only in the lost file are gone for good".to_owned());
    true
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

async fn losses(stores: &Stores, config: &Config, report: &mut Report) -> Result<Vec<Loss>, StoreError> {
    let losses = adoption::losses(&*stores.source, &*stores.business, &*stores.bookkeeping).await?;
    if config.store.database.is_log_alone() {
        if !losses.is_empty() {
            report.found.push(
                "the server's log is not whole any more: its slot was dropped, invalidated or moved on by others, its \
                 publication was changed, or the database is an older copy; the relay's log says which"
                    .to_owned(),
            );
            report.found.push(
                "what was committed meanwhile is in the log alone, and cannot be read: find it by the service's own tables, and \
                 publish it by hand; what the slot does hold is published from its beginning, some of it again"
                    .to_owned(),
            );
        }
        return Ok(losses);
    }
    for Loss { agreed, lost, behind, .. } in &losses {
        let last =
            agreed.as_ref().map_or_else(|| "at no position that is still kept".to_owned(), |at| format!("up to {at}"));
        let gone = lost.as_ref().map_or_else(String::new, |lost| format!(", but not at {lost}"));
        report.found.push(format!("the database is an older copy: it agrees with what was read {last}{gone}"));
        let entries = counted(*behind, "entry", "entries");
        report.found.push(format!(
            "behind the last agreement it holds {entries}: older than the copy, or written since it was put back"
        ));
        report.found.push(
            "events that were published and are not in the copy: consumers have them, the database does not".to_owned(),
        );
    }
    Ok(losses)
}

/// How many checkpoints are refused.
async fn refused(stores: &Stores, report: &mut Report) -> Result<usize, StoreError> {
    let refused = adoption::refused(&*stores.source, &*stores.business, &*stores.bookkeeping).await?;
    if !refused.is_empty() {
        report.found.push(format!(
            "the server's log, or the numbers of its transactions, do not reach {}: as behind a failover, an upgrade, or where \
             a dump was loaded",
            counted(refused.len() as u64, "checkpoint", "checkpoints")
        ));
    }
    Ok(refused.len())
}

/// What `--restored` says: history is gone behind what the bookkeeping has seen last.
async fn unseen_losses(stores: &Stores, report: &mut Report) -> Result<Vec<Loss>, StoreError> {
    report.found.push(
        "the operator says that database and bookkeeping were both put back from backups: what was written and \
         published since then is in neither"
            .to_owned(),
    );
    adoption::unseen_losses(&*stores.source, &*stores.business, &*stores.bookkeeping).await
}

/// Registered routes without a checkpoint.
async fn unstarted(stores: &Stores) -> Result<Vec<Registration>, StoreError> {
    let mut fresh = Vec::new();
    for registration in stores.business.routes().await? {
        if stores.bookkeeping.checkpoints(&registration.route).await?.is_empty() {
            fresh.push(registration);
        }
    }
    Ok(fresh)
}
