//! `outbox inbox`: a consumer's inbox, in the consumer's own database, while the consumer runs or not.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use outbox::{Clock as _, ErrorKind, InboxStore, Key, Place, System, inbox::InboxOperator};
use serde_json::json;

use crate::{
    commands::listed,
    exit::{Exit, Failure, Outcome},
    output::{Output, Paint, age, counted, number, since},
    wiring::{self, ConsumerDatabase},
};

mod letters;

/// What to do with an inbox.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the inbox holds and what it has done
    Status {
        /// Which
        #[command(flatten)]
        inbox: Inbox,
    },
    /// Look at events that the consumer gave up on; try them again or give them up for good
    #[command(subcommand)]
    DeadLetters(letters::Command),
    /// Set marks back, so that events that are published again are applied again
    Rewind {
        /// Which
        #[command(flatten)]
        inbox: Inbox,
        /// Whose events: the CloudEvents `source`
        #[arg(long, value_name = "URI")]
        producer: String,
        /// Only of this key
        #[arg(long, value_name = "KEY", requires = "to")]
        key: Option<String>,
        /// Apply again what is behind this place, as `1.42.0`; `0.0.0` for all
        #[arg(long, value_name = "PLACE", requires = "key")]
        to: Option<String>,
        /// Without --key: forget every mark and id of the producer
        #[arg(long)]
        yes: bool,
    },
    /// Go on without what is missing: move a key's mark, to just before what is parked unless told where to
    Skip {
        /// Which
        #[command(flatten)]
        inbox: Inbox,
        /// Whose events: the CloudEvents `source`
        #[arg(long, value_name = "URI")]
        producer: String,
        /// The key
        #[arg(long, value_name = "KEY")]
        key: String,
        /// The last place to go without, as `1.42.0`
        #[arg(long, value_name = "PLACE")]
        to: Option<String>,
    },
}

/// Which inbox.
#[derive(Clone, Debug, Args)]
pub(crate) struct Inbox {
    /// The consumer's database: an SQLite file, a URL as `postgres://user@host/ledger`, or a table as `dynamodb:ledger-inbox`
    #[arg(long, value_name = "DATABASE")]
    db: PathBuf,
    /// Which consumer's, if the database holds several inboxes
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// A PostgreSQL server on RDS: its Region, as eu-west-1. The password is then a token made of AWS credentials
    #[arg(long, value_name = "REGION")]
    rds_iam: Option<String>,
}

/// Carries out `command`.
pub(crate) async fn run(out: Output, command: Command) -> Outcome {
    match command.inbox().open().await? {
        wiring::Inbox::Sqlite(operator) => carry_out(&operator, out, command).await,
        wiring::Inbox::Postgres(operator) => carry_out(&operator, out, command).await,
        #[cfg(feature = "aws")]
        wiring::Inbox::Dynamo(operator) => carry_out(&operator, out, command).await,
    }
}

async fn carry_out<S: InboxStore>(operator: &InboxOperator<S>, out: Output, command: Command) -> Outcome {
    match command {
        Command::Status { .. } => status(operator, out).await,
        Command::DeadLetters(command) => letters::run(operator, out, command).await,
        Command::Rewind { producer, key: Some(key), to: Some(to), .. } => {
            rewind(operator, out, &producer, &key, &to).await
        }
        Command::Rewind { producer, yes, .. } => forget(operator, out, &producer, yes).await,
        Command::Skip { producer, key, to, .. } => skip(operator, out, &producer, &key, to.as_deref()).await,
    }
}

impl Command {
    fn inbox(&self) -> &Inbox {
        match self {
            Self::Status { inbox } | Self::Rewind { inbox, .. } | Self::Skip { inbox, .. } => inbox,
            Self::DeadLetters(command) => command.inbox(),
        }
    }
}

impl Inbox {
    /// Opens the inbox, which has to be there.
    async fn open(&self) -> Result<wiring::Inbox, Failure> {
        let database = ConsumerDatabase::named(&self.db, self.rds_iam.as_deref(), |name| std::env::var(name).ok())?;
        let consumers = database.consumers().await?;
        let known = listed(consumers.iter().map(String::as_str));
        let consumer = match (&self.consumer, consumers.as_slice()) {
            (Some(name), names) if names.contains(name) => name,
            (_, []) => {
                return Err(Failure::not_found(format!("{database} has no inbox yet"))
                    .help("name the consumer's own database with --db; its service makes the inbox when it starts"));
            }
            (Some(name), _) => {
                return Err(
                    Failure::not_found(format!("{database} has no inbox of `{name}`")).help(format!("known: {known}"))
                );
            }
            (None, [only]) => only,
            (None, _) => {
                return Err(Failure::usage(format!("{database} has several inboxes"))
                    .help(format!("say which with --consumer: {known}")));
            }
        };
        database.inbox(consumer).await
    }
}

fn key(text: &str) -> Result<Key, Failure> {
    Key::new(text).map_err(|error| Failure::usage(format!("--key: {error}")))
}

fn place(text: &str) -> Result<Place, Failure> {
    text.parse().map_err(|error: outbox::PlaceError| Failure::usage(format!("--to: {error}")))
}

async fn status<S: InboxStore>(operator: &InboxOperator<S>, out: Output) -> Outcome {
    let totals = operator.totals().await?;
    if out.json {
        out.value(&totals);
        return Ok(Exit::Ok);
    }
    let line = |name: &str, count: u64, loud: Option<fn(Paint, &str) -> String>, note: &str| {
        let shown = number(count);
        let pad = " ".repeat(14_usize.saturating_sub(shown.len()));
        let painted = loud.filter(|_| count > 0).map_or_else(|| shown.clone(), |paint| paint(out.paint, &shown));
        out.line(format!("{name:<16}{pad}{painted}  {}", out.paint.faint(note)));
    };
    let counts = totals.counts;
    line("applied", counts.applied, None, "effects, once each");
    line("duplicates", counts.duplicates, None, "suppressed");
    line("superseded", counts.superseded, None, "older than what was applied");
    line("ignored", counts.ignored, None, "discarded before, or after a removal");
    line("early", counts.early, None, "came before their turn and were parked");
    line("history back", counts.history_back, Some(Paint::bad), "times that a producer's history went back");
    line("marks", totals.marks, None, "keys whose last place is remembered");
    line("ids", totals.ids, None, "remembered for a while");
    line("parked", totals.parked, Some(Paint::warn), "wait for their predecessor or their cause");
    line("awaiting cause", totals.awaiting_cause, Some(Paint::warn), "of these, for the event that caused them");
    line("retrying", totals.retrying, Some(Paint::warn), "will be tried again");
    let oldest = totals.oldest_dead.map(|time| format!(", the oldest for {}", age(since(time, System.wall()))));
    let dead = format!("were given up on{}", oldest.unwrap_or_default());
    line("dead letters", totals.dead, Some(Paint::bad), &dead);
    Ok(Exit::Ok)
}

async fn rewind<S: InboxStore>(
    operator: &InboxOperator<S>,
    out: Output,
    producer: &str,
    text: &str,
    to: &str,
) -> Outcome {
    let (key, to) = (key(text)?, place(to)?);
    operator.rewind(producer, &key, to).await?;
    if out.json {
        out.value(&json!({ "producer": producer, "key": key.as_str(), "mark": to.to_string() }));
    } else {
        out.line(format!("the mark of {key} is {to} again; now replay: outbox replay --route NAME --key '{key}'"));
    }
    Ok(Exit::Ok)
}

async fn forget<S: InboxStore>(operator: &InboxOperator<S>, out: Output, producer: &str, yes: bool) -> Outcome {
    if !yes {
        let marks = operator.totals().await?.marks;
        return Err(Failure::usage(format!(
            "this forgets every mark of {producer}, of {} in all; nothing was done",
            number(marks)
        ))
        .help("--yes does it; --key and --to set one key back"));
    }
    let forgotten = operator.rewind_producer(producer).await?;
    if forgotten == 0 {
        return Err(Failure::not_found(format!("the inbox remembers nothing of {producer}")));
    }
    if out.json {
        out.value(&json!({ "producer": producer, "forgotten": forgotten }));
    } else {
        let what = counted(forgotten, "mark or id", "marks and ids");
        out.line(format!("{what} of {producer} forgotten; now replay from the beginning"));
    }
    Ok(Exit::Ok)
}

async fn skip<S: InboxStore>(
    operator: &InboxOperator<S>,
    out: Output,
    producer: &str,
    text: &str,
    to: Option<&str>,
) -> Outcome {
    let key = key(text)?;
    let to = to.map(place).transpose()?;
    let mark = operator.skip(producer, &key, to).await.map_err(|error| match error.kind() {
        ErrorKind::Invalid if to.is_none() => Failure::not_found(error.to_string())
            .help("`outbox inbox dead-letters list` and `outbox inbox status` show what waits"),
        _ => error.into(),
    })?;
    if out.json {
        out.value(&json!({ "producer": producer, "key": key.as_str(), "mark": mark.to_string() }));
    } else {
        out.line(format!("the mark of {key} is {mark} now; what is parked behind it goes on with the next sweep"));
    }
    Ok(Exit::Ok)
}
