//! `outbox dead-letters`: events that a route gave up on.

use clap::{Args, Subcommand};
use outbox::{
    Clock as _, Key, RouteName, System,
    bookkeeping::{DeadLetter, KeptId, Selector},
};
use serde_json::json;

use crate::{
    commands::{self, listed},
    config::Config,
    exit::{Exit, Failure, Outcome},
    output::{Output, counted},
    wiring::Stores,
};

mod letter;

/// Letters asked for at a time.
const PAGE: usize = 500;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them, oldest first, with what waits behind each
    List {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Show them whole: envelope, reasons, and with --payload what they say
    Show {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// Show the payload too
        #[arg(long)]
        payload: bool,
        /// At most so many
        #[arg(long, default_value_t = 10, value_name = "N")]
        limit: usize,
    },
    /// Publish them again, and in order what is parked behind them
    Redrive {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// Whether
        #[command(flatten)]
        consent: Consent,
    },
    /// With --yes: give them up for good, so that what is parked behind them goes on
    Discard {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// Whether
        #[command(flatten)]
        consent: Consent,
        /// Why, for the marker that consumers get in its place
        #[arg(long, default_value = "discarded by an operator", value_name = "TEXT")]
        reason: String,
    },
}

/// Which dead letters.
#[derive(Clone, Debug, Args)]
pub(crate) struct Pick {
    /// Their numbers, as `list` shows them
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// Only of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only of this event type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

/// Whether to act on more than one, or for good.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Consent {
    /// Act on every one that matches; a discard needs it always
    #[arg(long)]
    yes: bool,
    /// Act on every one there is
    #[arg(long, conflicts_with_all = ["ids", "key", "kind"])]
    all: bool,
}

impl Pick {
    fn selectors(&self) -> Result<Vec<Selector>, Failure> {
        let key = self.key.as_deref().map(Key::new).transpose();
        let key = key.map_err(|error| Failure::usage(format!("--key: {error}")))?;
        let base = Selector { id: None, key, kind: self.kind.clone() };
        if self.ids.is_empty() {
            return Ok(vec![base]);
        }
        Ok(self.ids.iter().map(|id| Selector { id: Some(KeptId(*id)), ..base.clone() }).collect())
    }

    fn is_open(&self) -> bool {
        self.ids.is_empty() && self.key.is_none() && self.kind.is_none()
    }
}

/// Carries out `command`.
pub(crate) async fn run(config: Config, out: Output, command: Command) -> Outcome {
    let stores = commands::stores(&config).await?;
    match command {
        Command::List { pick, limit } => list(&config, &stores, out, &pick, limit).await,
        Command::Show { pick, payload, limit } => show(&config, &stores, out, &pick, payload, limit).await,
        Command::Redrive { pick, consent } => act(&config, &stores, out, &pick, consent, &Action::Redrive).await,
        Command::Discard { pick, consent, reason } => {
            act(&config, &stores, out, &pick, consent, &Action::Discard(reason)).await
        }
    }
}

/// The routes that `pick` means: configured, registered, or those of replays that keep something.
async fn routes(config: &Config, stores: &Stores, pick: &Pick) -> Result<Vec<RouteName>, Failure> {
    let mut names: Vec<_> = stores.business.routes().await?.into_iter().map(|route| route.route).collect();
    names.extend(config.routes.iter().map(|route| route.settings.name.clone()));
    for replay in stores.bookkeeping.replays().await? {
        let name = replay.route.replay(&replay.id);
        if stores.bookkeeping.kept_counts(&name).await?.lanes > 0 {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    let Some(wanted) = &pick.route else { return Ok(names) };
    names.iter().find(|name| name.as_str() == wanted).cloned().map(|name| vec![name]).ok_or_else(|| {
        let known = listed(names.iter().map(RouteName::as_str));
        Failure::not_found(format!("there is no route `{wanted}`")).help(format!("known: {known}"))
    })
}

/// Up to `limit` letters that match, in the order of routes and numbers.
async fn collect(
    stores: &Stores,
    routes: &[RouteName],
    selectors: &[Selector],
    limit: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    for (route, selector) in routes.iter().flat_map(|route| selectors.iter().map(move |selector| (route, selector))) {
        let mut after = None;
        while letters.len() < limit {
            let wanted = PAGE.min(limit - letters.len());
            let page = stores.bookkeeping.dead_letters(route, selector, after, wanted).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.kept.id);
            let full = page.len() >= wanted;
            letters.extend(page);
            if !full {
                break;
            }
        }
    }
    Ok(letters)
}

async fn list(config: &Config, stores: &Stores, out: Output, pick: &Pick, limit: usize) -> Outcome {
    let routes = routes(config, stores, pick).await?;
    let mut letters = collect(stores, &routes, &pick.selectors()?, limit.saturating_add(1)).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    if out.json {
        let list: Vec<_> = letters.iter().map(|letter| letter::as_json(letter, false)).collect();
        out.value(&json!({ "dead_letters": list, "more": more }));
        return Ok(Exit::Ok);
    }
    if letters.is_empty() {
        out.line("no dead letters");
        return Ok(Exit::Ok);
    }
    out.line(letter::table(&letters, System.wall(), out));
    if more {
        out.line(format!("\nmore than {limit}: narrow it down, or raise --limit"));
    }
    out.line("\noutbox dead-letters show|redrive|discard ID");
    Ok(Exit::Ok)
}

async fn show(config: &Config, stores: &Stores, out: Output, pick: &Pick, payload: bool, limit: usize) -> Outcome {
    let routes = routes(config, stores, pick).await?;
    let letters = collect(stores, &routes, &pick.selectors()?, limit).await?;
    if letters.is_empty() {
        return Err(nothing());
    }
    if out.json {
        let list: Vec<_> = letters.iter().map(|letter| letter::as_json(letter, payload)).collect();
        out.value(&json!({ "dead_letters": list }));
        return Ok(Exit::Ok);
    }
    for (index, letter) in letters.iter().enumerate() {
        if index > 0 {
            out.line("");
        }
        letter::describe(letter, payload, out);
    }
    Ok(Exit::Ok)
}

fn nothing() -> Failure {
    Failure::not_found("no dead letter matches").help("`outbox dead-letters list` shows those there are")
}

/// What is done to dead letters.
enum Action {
    Redrive,
    Discard(String),
}

impl Action {
    const fn verb(&self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard(_) => "discard",
        }
    }

    const fn done(&self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Discard(_) => "discarded",
        }
    }
}

async fn act(config: &Config, stores: &Stores, out: Output, pick: &Pick, consent: Consent, action: &Action) -> Outcome {
    if pick.is_open() && !consent.all && !(consent.yes && pick.route.is_some()) {
        let verb = action.verb();
        let all = match action {
            Action::Redrive => "redrive --all",
            Action::Discard(_) => "discard --all --yes",
        };
        return Err(Failure::usage(format!("which dead letters to {verb} is not said"))
            .help(format!("name their numbers, --key or --type, or say `outbox dead-letters {all}`")));
    }
    let routes = routes(config, stores, pick).await?;
    let selectors = pick.selectors()?;
    let found = collect(stores, &routes, &selectors, 2).await?.len();
    if found == 0 {
        return Err(nothing());
    }
    if found > 1 && pick.ids.is_empty() && !consent.yes && !consent.all {
        return Err(Failure::usage("more than one dead letter matches; nothing was done")
            .help("`outbox dead-letters list` with the same options shows them; --yes takes them all"));
    }
    if matches!(action, Action::Discard(_)) && !consent.yes {
        return Err(Failure::usage("what is discarded is never published; nothing was done")
            .help("`outbox dead-letters show` with the same options shows what it is; --yes does it"));
    }
    let mut done = 0;
    let bar = out.waiting(&format!("{} dead letters", action.done()));
    for (route, selector) in routes.iter().flat_map(|route| selectors.iter().map(move |selector| (route, selector))) {
        done += match action {
            Action::Redrive => stores.bookkeeping.redrive(route, selector, System.wall()).await?,
            Action::Discard(reason) => stores.bookkeeping.discard(route, selector, reason).await?,
        };
    }
    bar.finish_and_clear();
    if out.json {
        out.value(&json!({ action.done(): done }));
    } else {
        out.line(format!("{} {}", counted(done, "dead letter", "dead letters"), action.done()));
        out.line(out.paint.faint("a running relay sees it within a second; otherwise the next one does"));
    }
    Ok(Exit::Ok)
}
