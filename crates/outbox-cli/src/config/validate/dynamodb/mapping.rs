//! `[store.mapping]` with tables of DynamoDB: one that others lay out.

use outbox_aws::dynamodb::{Layout, Mapping};

use super::Section;

const LAYOUT: &str =
    "write [store.mapping] with a `table` and `layout = \"dynamo-outbox\"`, or with `partition`, `type` and `payload`";
const AS_IT_IS: &str = "as-it-is";

/// The mapping that `[store]` has, if it can be read.
pub(super) fn of(store: &Section<'_>) -> Option<Mapping> {
    match store.section_or_text("mapping")? {
        Err(_) => {
            store.problem("mapping", "names no table of DynamoDB", LAYOUT);
            None
        }
        Ok(section) => table(&section),
    }
}

fn table(section: &Section<'_>) -> Option<Mapping> {
    let table = section.required_text("table", "name the table, as `table = \"outbox\"`");
    let mut mapping = if section.has("layout") { layout(section, table) } else { whole(section, table) };
    for (key, of) in ATTRIBUTES {
        if let Some(text) = section.has(key).then(|| section.required_text(key, "name an attribute")).flatten() {
            mapping = mapping.map(|known| of(known, text));
        }
    }
    let expires = section.text("expires");
    mapping = mapping.map(|known| match expires.as_deref() {
        None => known,
        Some("") => known.without_expiry(),
        Some(attribute) => known.expires(attribute),
    });
    if section.flag("changes", false) {
        mapping = mapping.map(Mapping::takes_changes);
    }
    let recovery = section.text("recovery");
    match recovery.as_deref() {
        None => {}
        Some(AS_IT_IS) => mapping = mapping.map(Mapping::recovered_as_it_is),
        Some(other) => {
            let help = "leave it out, or write \"as-it-is\": what is read again from the table comes as it is there";
            section.problem("recovery", format!("`{other}` is no way to recover"), help);
        }
    }
    section.finish();
    if let Some(Err(error)) = mapping.as_ref().map(Mapping::check) {
        section.problem_here(error.to_string(), "see docs/dynamodb.md, \"A table of your own\"");
        return None;
    }
    mapping
}

/// Takes an attribute's name into a mapping.
type Named = fn(Mapping, String) -> Mapping;

/// What names an attribute, and nothing else.
const ATTRIBUTES: [(&str, Named); 8] = [
    ("partition", Mapping::partition),
    ("sort", Mapping::sort),
    ("type", Mapping::kind),
    ("payload", Mapping::payload),
    ("content_type", Mapping::content_type),
    ("event_id", Mapping::event_id),
    ("key", Mapping::key),
    ("time", Mapping::time),
];

fn layout(section: &Section<'_>, table: Option<String>) -> Option<Mapping> {
    let written = section.text("layout")?;
    let unknown = |_| section.problem("layout", format!("`{written}` is no layout that is known"), LAYOUT);
    let layout: Layout = written.parse().map_err(unknown).ok()?;
    Some(Mapping::of(layout, table?))
}

/// What has to be said where no layout is.
fn whole(section: &Section<'_>, table: Option<String>) -> Option<Mapping> {
    let partition = section.required_text("partition", "name the table's partition key; or a `layout`");
    let kind = section.required_text("type", "name the attribute of the events' types");
    let payload = section.required_text("payload", "name the attribute of the payloads");
    Some(Mapping::new(table?, partition?, kind?, payload?))
}
