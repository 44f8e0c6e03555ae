//! `mapping` in `[store]`: a table that is laid out otherwise.

use outbox_sql::postgres::{Layout, Mapping};

use super::Section;

const LAYOUT: &str = "write \"polling-outbox\" or \"debezium\", or a table with `table`, `id`, `type` and `payload`";

/// A layout by its name, as `mapping = "polling-outbox"`.
pub(super) fn named(section: &Section<'_>) -> Option<Mapping> {
    layout(section, "mapping").map(Mapping::of)
}

fn layout(section: &Section<'_>, key: &'static str) -> Option<Layout> {
    let unknown = |_| section.problem(key, format!("`{}` is no layout that is known", section.written(key)), LAYOUT);
    section.text(key)?.parse().map_err(unknown).ok()
}

/// `[store.mapping]`: a layout and what is otherwise in it, or every column. Who reads the log needs no id.
pub(super) fn table(section: &Section<'_>, reads_log: bool) -> Option<Mapping> {
    let mut mapping =
        if section.has("layout") { layout(section, "layout").map(Mapping::of) } else { whole(section, reads_log) };
    let change = |mapping: &mut Option<Mapping>, key: &'static str, of: fn(Mapping, String) -> Mapping| {
        if let Some(text) = section.has(key).then(|| section.required_text(key, "name a column of the table")).flatten()
        {
            *mapping = mapping.take().map(|known| of(known, text));
        }
    };
    change(&mut mapping, "table", Mapping::table);
    let id = section.text("id");
    mapping = mapping.map(|known| match id.as_deref() {
        None => known,
        Some("") => known.without_id(),
        Some(column) => known.id(column),
    });
    change(&mut mapping, "type", Mapping::kind);
    change(&mut mapping, "payload", Mapping::payload);
    change(&mut mapping, "content_type", Mapping::content_type);
    change(&mut mapping, "event_id", Mapping::event_id);
    change(&mut mapping, "attributes", Mapping::attributes);
    let key = key(section);
    let time = section.text("time");
    mapping = mapping.map(|known| match time.as_deref() {
        None => known,
        Some("") => known.without_time(),
        Some(column) => known.time(column),
    });
    let status = status(section);
    section.finish();
    let mapping = if key.is_empty() { mapping? } else { mapping?.key(key) };
    Some(status(mapping))
}

/// What has to be said where no layout is.
fn whole(section: &Section<'_>, reads_log: bool) -> Option<Mapping> {
    let table = section.required_text("table", "name the table, as `table = \"app.events\"`; or a `layout`");
    if !reads_log {
        let help = "name the column of the growing id, as `id = \"id\"`; without one, read the server's log by `read = \"wal\"`";
        section.required_text("id", help)?;
    }
    let kind = section.required_text("type", "name the column of the events' types, as `type = \"event_type\"`");
    let payload = section.required_text("payload", "name the column of the payloads, as `payload = \"payload\"`");
    Some(Mapping::new(table?, "", kind?, payload?).without_id())
}

/// One column, or several.
fn key(section: &Section<'_>) -> Vec<String> {
    let Some(columns) = section.text_or_texts("key") else { return Vec::new() };
    if columns.is_empty() || columns.iter().any(String::is_empty) {
        section.problem("key", "names no column", "write `key = \"user_id\"`, or several: [\"kind\", \"id\"]");
    }
    columns
}

/// The column that others look at, and its two words.
fn status(section: &Section<'_>) -> impl FnOnce(Mapping) -> Mapping + use<> {
    let (column, words) = (section.text("status"), section.texts("statuses"));
    let pair = match &words[..] {
        [] if !section.has("statuses") => Some(("PENDING".to_owned(), "PROCESSED".to_owned())),
        [waiting, done] if waiting != done => Some((waiting.clone(), done.clone())),
        _ => None,
    };
    if pair.is_none() {
        let help = "write what a row has before and after, as [\"PENDING\", \"PROCESSED\"]";
        section.problem("statuses", "are not two words", help);
    }
    if column.is_none() && section.has("statuses") {
        section.problem("statuses", "belong to no column", "name it by `status`, or leave them out");
    }
    move |mapping| match (column.as_deref(), pair) {
        (None, _) | (_, None) => mapping,
        (Some(""), _) => mapping.without_status(),
        (Some(column), Some((waiting, done))) => mapping.status(column, waiting, done),
    }
}
