//! `outbox inbox dead-letters`: events that a consumer gave up on.

use clap::{Args, Subcommand};
use outbox::{
    Clock as _, InboxStore, Key, Lane, System,
    bookkeeping::KeptId,
    inbox::{Chosen, InboxOperator},
    inbox_store::{KeptLane, KeptMessage},
};
use serde_json::{Value, json};

use super::{Inbox, key};
use crate::{
    exit::{Exit, Failure, Outcome},
    output::{Align, Output, Table, age, counted, hex, number, plain, short, since, wrapped},
};

/// What to do with a consumer's dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List them, with what waits behind each
    List {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Show one whole
    Show {
        /// Which inbox
        #[command(flatten)]
        inbox: Inbox,
        /// Its number, as `list` shows it
        id: u64,
        /// Show the payload too
        #[arg(long)]
        payload: bool,
    },
    /// Try them again, with what is parked behind them after them
    Redrive {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// Every one that matches, if more than one does
        #[arg(long, visible_alias = "all")]
        yes: bool,
    },
    /// Drop them for good: the mark moves past them, and what is parked behind them goes on
    Discard {
        /// Which
        #[command(flatten)]
        pick: Pick,
        /// Every one that matches, if more than one does
        #[arg(long, visible_alias = "all")]
        yes: bool,
        /// Why, for the log
        #[arg(long, default_value = "discarded by an operator", value_name = "TEXT")]
        reason: String,
    },
}

/// Which dead letters.
#[derive(Clone, Debug, Args)]
pub(crate) struct Pick {
    /// Which inbox
    #[command(flatten)]
    inbox: Inbox,
    /// Its number, as `list` shows it
    #[arg(value_name = "ID")]
    id: Option<u64>,
    /// Only of this producer
    #[arg(long, value_name = "URI")]
    producer: Option<String>,
    /// Only of this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only of this event type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

impl Pick {
    fn chosen(&self) -> Result<Chosen, Failure> {
        Ok(Chosen {
            id: self.id.map(KeptId),
            producer: self.producer.clone(),
            key: self.key.as_deref().map(key).transpose()?,
            kind: self.kind.clone(),
        })
    }
}

impl Command {
    /// Which inbox it is about.
    pub(super) fn inbox(&self) -> &Inbox {
        match self {
            Self::List { pick, .. } | Self::Redrive { pick, .. } | Self::Discard { pick, .. } => &pick.inbox,
            Self::Show { inbox, .. } => inbox,
        }
    }
}

/// Carries out `command`.
pub(crate) async fn run<S: InboxStore>(operator: &InboxOperator<S>, out: Output, command: Command) -> Outcome {
    match command {
        Command::List { pick, limit } => list(operator, out, &pick, limit).await,
        Command::Show { id, payload, .. } => show(operator, out, id, payload).await,
        Command::Redrive { pick, yes } => {
            consent(operator, &pick, yes).await?;
            done(out, "redriven", operator.redrive(&pick.chosen()?).await?)
        }
        Command::Discard { pick, yes, reason } => {
            consent(operator, &pick, yes).await?;
            done(out, "discarded", operator.discard(&pick.chosen()?, &reason).await?)
        }
    }
}

/// More than one needs to be asked for. A number names one, whatever its state.
async fn consent<S: InboxStore>(operator: &InboxOperator<S>, pick: &Pick, yes: bool) -> Result<(), Failure> {
    if yes || pick.id.is_some() {
        return Ok(());
    }
    match operator.dead_letters(&pick.chosen()?, 2).await?.len() {
        0 => Err(nothing()),
        1 => Ok(()),
        _ => Err(Failure::usage("more than one dead letter matches; nothing was done")
            .help("`outbox inbox dead-letters list` with the same options shows them; --yes takes them all")),
    }
}

fn nothing() -> Failure {
    Failure::not_found("no dead letter matches").help("`outbox inbox dead-letters list` shows those there are")
}

fn done(out: Output, word: &str, count: u64) -> Outcome {
    if count == 0 {
        return Err(nothing());
    }
    if out.json {
        out.value(&json!({ word: count }));
    } else {
        out.line(format!(
            "{} {word}; the consumer's next sweep carries it out",
            counted(count, "dead letter", "dead letters")
        ));
    }
    Ok(Exit::Ok)
}

async fn list<S: InboxStore>(operator: &InboxOperator<S>, out: Output, pick: &Pick, limit: usize) -> Outcome {
    let mut letters = operator.dead_letters(&pick.chosen()?, limit.saturating_add(1)).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    if out.json {
        let list: Vec<_> = letters.iter().map(|letter| as_json(letter, false)).collect();
        out.value(&json!({ "dead_letters": list, "more": more }));
        return Ok(Exit::Ok);
    }
    if letters.is_empty() {
        out.line("no dead letters");
        return Ok(Exit::Ok);
    }
    out.line(table(&letters, out));
    if more {
        out.line(format!("\nmore than {limit}: narrow it down, or raise --limit"));
    }
    Ok(Exit::Ok)
}

fn table(letters: &[KeptLane], out: Output) -> String {
    let mut table = Table::new([
        ("ID", Align::Right),
        ("PRODUCER", Align::Left),
        ("KEY", Align::Left),
        ("TYPE", Align::Left),
        ("TRIES", Align::Right),
        ("SINCE", Align::Right),
        ("PARKED", Align::Right),
    ]);
    for letter in letters {
        let trouble = letter.record.trouble.as_ref();
        table.row([
            letter.first.id.0.to_string().into(),
            short(&letter.lane.producer, 16).into(),
            short(key_text(letter), 20).into(),
            short(kind(letter), 24).into(),
            number(trouble.map_or(0, |trouble| trouble.attempts).into()).into(),
            trouble.map_or_else(|| "-".to_owned(), |trouble| age(since(trouble.since, System.wall()))).into(),
            number(trouble.map_or(0, |trouble| trouble.kept.saturating_sub(1))).into(),
        ]);
        for line in trouble.into_iter().flat_map(|trouble| wrapped(&trouble.reason, 72)) {
            table.note(out.paint.faint(&format!("      {line}")));
        }
    }
    table.render(out.paint)
}

fn key_text(letter: &KeptLane) -> &str {
    match &letter.lane.lane {
        Lane::Key(key) => key.as_str(),
        Lane::Event(_) => "-",
    }
}

fn kind(letter: &KeptLane) -> &str {
    match &letter.first.message {
        KeptMessage::Event(event) => event.kind(),
        KeptMessage::Raw { .. } => "(not decodable)",
    }
}

fn payload_of(message: &KeptMessage) -> Option<&[u8]> {
    match message {
        KeptMessage::Event(event) => event.data().map(|data| &**data),
        KeptMessage::Raw { message, .. } => Some(&message.body),
    }
}

async fn show<S: InboxStore>(operator: &InboxOperator<S>, out: Output, id: u64, payload: bool) -> Outcome {
    let letter = operator.show(KeptId(id)).await?.ok_or_else(nothing)?;
    if out.json {
        out.value(&as_json(&letter, payload));
        return Ok(Exit::Ok);
    }
    let Value::Object(fields) = as_json(&letter, payload) else { return Ok(Exit::Ok) };
    for (name, value) in fields {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text,
            other => other.to_string(),
        };
        out.line(format!("{:<16}{}", name.replace('_', " "), plain(&text)));
    }
    Ok(Exit::Ok)
}

fn as_json(letter: &KeptLane, payload: bool) -> Value {
    let trouble = letter.record.trouble.as_ref();
    let event = match &letter.first.message {
        KeptMessage::Event(event) => Some(event),
        KeptMessage::Raw { .. } => None,
    };
    let data = payload_of(&letter.first.message);
    let mut value = json!({
        "id": letter.first.id.0,
        "event": letter.first.message.id(),
        "type": event.map(outbox::Event::kind),
        "producer": &*letter.lane.producer,
        "key": event.and_then(outbox::Event::key).map(Key::as_str),
        "place": event.and_then(|event| event.placing()).map(|placing| placing.place.to_string()),
        "mark": letter.record.mark.to_string(),
        "state": trouble.map(|trouble| trouble.state),
        "attempts": trouble.map(|trouble| trouble.attempts),
        "since": trouble.map(|trouble| trouble.since.to_string()),
        "reason": trouble.map(|trouble| trouble.reason.as_str()),
        "parked": trouble.map(|trouble| trouble.kept.saturating_sub(1)),
        "arrived": letter.first.arrived.to_string(),
        "payload_bytes": data.map(<[u8]>::len),
    });
    if let Some(data) = data.filter(|_| payload) {
        match std::str::from_utf8(data) {
            Ok(text) => value["payload"] = text.into(),
            Err(_) => value["payload_hex"] = hex(data).into(),
        }
    }
    value
}
