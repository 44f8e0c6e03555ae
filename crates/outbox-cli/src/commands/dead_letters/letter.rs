//! A dead letter as people and programs see it.

use outbox::{
    Key,
    bookkeeping::{DeadLetter, KeptContent},
};
use serde_json::{Value, json};

use crate::output::{Align, Cell, Output, Table, age, counted, hex, number, plain, short, since, wrapped};

/// Letters under each other, each with its reason.
pub(super) fn table(letters: &[DeadLetter], now: jiff::Timestamp, out: Output) -> String {
    let mut table = Table::new([
        ("ID", Align::Right),
        ("ROUTE", Align::Left),
        ("KEY", Align::Left),
        ("TYPE", Align::Left),
        ("TRIES", Align::Right),
        ("SINCE", Align::Right),
        ("PARKED", Align::Right),
    ]);
    for letter in letters {
        let (key, kind) = match &letter.kept.content {
            KeptContent::Event(event) => (event.key().map(Key::as_str), short(event.kind(), 24)),
            KeptContent::Undecodable(row) => (row.key.as_ref().map(Key::as_str), "(unreadable row)".to_owned()),
        };
        table.row([
            letter.kept.id.0.to_string().into(),
            short(letter.route.as_str(), 16).into(),
            key.map_or_else(|| "-".to_owned(), |key| short(key, 20)).into(),
            kind.into(),
            number(letter.front.attempts.into()).into(),
            age(since(letter.front.failed_since, now)).into(),
            Cell::from(number(letter.parked)),
        ]);
        for line in wrapped(&letter.front.reason, 72) {
            table.note(out.paint.faint(&format!("      {line}")));
        }
    }
    table.render(out.paint)
}

/// One letter whole, for people.
pub(super) fn describe(letter: &DeadLetter, payload: bool, out: Output) {
    let title = format!("dead letter {} of route {}", letter.kept.id.0, letter.route);
    out.line(out.paint.strong(&title));
    let field = |name: &str, value: &str| {
        if !value.is_empty() {
            out.line(format!("  {name:<14}{}", plain(value)));
        }
    };
    for (name, value) in envelope(&letter.kept.content) {
        field(&name, &value);
    }
    field("failed since", &format!("{:.0}", letter.front.failed_since));
    field("attempts", &letter.front.attempts.to_string());
    field("reason", &letter.front.reason);
    field("parked behind", &counted(letter.parked, "event", "events"));
    let data = data(&letter.kept.content);
    match data.map(|data| (data, std::str::from_utf8(data))) {
        None => field("payload", "none"),
        Some((data, _)) if !payload => field("payload", &format!("{} bytes; --payload shows them", data.len())),
        Some((_, Ok(text))) => {
            field("payload", " ");
            for line in text.lines() {
                out.line(format!("    {}", plain(line)));
            }
        }
        Some((data, Err(_))) => field("payload", &format!("{} bytes, not text; --json gives them in hex", data.len())),
    }
}

fn data(content: &KeptContent) -> Option<&[u8]> {
    match content {
        KeptContent::Event(event) => event.data().map(|data| &**data),
        KeptContent::Undecodable(row) => Some(&row.raw),
    }
}

/// The attributes of an event by their CloudEvents names, or what is known of an unreadable row.
fn envelope(content: &KeptContent) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            fields.push((name.to_owned(), value));
        }
    };
    match content {
        KeptContent::Event(event) => {
            add("id", Some(event.id().to_owned()));
            add("type", Some(event.kind().to_owned()));
            add("source", Some(event.source().to_owned()));
            add("key", event.key().map(Key::to_string));
            add("place", event.placing().map(outbox::Placing::wire));
            add("subject", event.subject().map(str::to_owned));
            add("time", event.time().map(|time| time.to_string()));
            add("content type", event.content_type().map(str::to_owned));
            add("schema", event.schema().map(str::to_owned));
            for (name, value) in event.extensions() {
                add(name, Some(value.text().to_string()));
            }
        }
        KeptContent::Undecodable(row) => {
            add("row", Some(row.id.to_string()));
            add("key", row.key.as_ref().map(Key::to_string));
            add("unreadable", Some(row.reason.clone()));
        }
    }
    fields
}

/// One letter, for programs.
pub(super) fn as_json(letter: &DeadLetter, payload: bool) -> Value {
    let envelope: serde_json::Map<String, Value> = envelope(&letter.kept.content)
        .into_iter()
        .map(|(name, value)| (name.replace(' ', "_"), value.into()))
        .collect();
    let data = data(&letter.kept.content);
    let mut value = json!({
        "id": letter.kept.id.0,
        "route": letter.route.as_str(),
        "event": envelope,
        "attempts": letter.front.attempts,
        "failed_since": letter.front.failed_since.to_string(),
        "reason": letter.front.reason,
        "parked": letter.parked,
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
