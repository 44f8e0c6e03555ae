//! `[store]` with tables of DynamoDB.

use std::time::Duration;

use super::{DAY, Section, aws};

mod mapping;

use crate::config::{BookkeepingConfig, DynamoConfig};

/// What begins the name of a table where a file or a URL could stand.
pub(super) const SCHEME: &str = "dynamodb:";
const PREFIX: &str =
    "name the tables by what their names begin with: `dynamodb = \"orders\"` for `orders-entries` and `orders-heads`";
/// The longest prefix: with `-entries` it still names a table.
const LONGEST_PREFIX: usize = 200;

pub(super) fn store(section: &Section<'_>) -> Option<DynamoConfig> {
    let prefix = section.required_text("dynamodb", PREFIX);
    let prefix = prefix.and_then(|prefix| named(section, "dynamodb", &prefix, LONGEST_PREFIX));
    let aws = aws::settings(section);
    let recovery_share = share(section);
    let expiry = expiry(section);
    // One that cannot be read is a problem, and said.
    let mapping = mapping::of(section);
    Some(DynamoConfig { prefix: prefix?, mapping, aws, recovery_share, expiry, accept_loss: false })
}

/// The bookkeeping in the table that `text` names, where the store's tables are.
pub(super) fn bookkeeping(section: &Section<'_>, text: &str, store: &DynamoConfig) -> Option<BookkeepingConfig> {
    let table = named(section, "bookkeeping", text.strip_prefix(SCHEME)?, 255)?;
    let own = store.tables();
    if [own.entries(), own.heads()].contains(&table.as_str()) {
        let help = "name a table of its own; the default is the store's prefix, the relay's name, and `-bookkeeping`";
        section.problem("bookkeeping", "is one of the service's own tables", help);
        return None;
    }
    Some(BookkeepingConfig::Dynamo { table, aws: store.aws.clone() })
}

/// A table's name, or the beginning of one.
///
/// Rule: "Naming rules" of DynamoDB: 3 to 255 of letters, digits, `-`, `_` and `.`.
fn named(section: &Section<'_>, key: &'static str, text: &str, longest: usize) -> Option<String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if !text.is_empty() && text.len() <= longest && text.chars().all(allowed) {
        return Some(text.to_owned());
    }
    let written = section.written(key);
    let help = format!("use up to {longest} letters, digits, `-`, `_` and `.`");
    section.problem(key, format!("`{written}` cannot name tables of DynamoDB"), help);
    None
}

/// Which share of the table's read capacity a recovery takes: a percentage.
fn share(section: &Section<'_>) -> f64 {
    let share = section.parsed("recovery_share", "25%", |text| {
        let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<u8>().ok());
        let percent = percent.filter(|percent| (1..=100).contains(percent));
        percent.map(|percent| f64::from(percent) / 100.0).ok_or_else(|| "is no share: write 1% to 100%".to_owned())
    });
    share.unwrap_or(0.25)
}

/// How long entries of new tables live.
fn expiry(section: &Section<'_>) -> Option<Duration> {
    const HELP: &str = "write { age = \"30d\" }: DynamoDB deletes an entry that old, published or not";
    match section.section_or_text("retention")? {
        Err(_) => {
            section.problem("retention", format!("`{}` is no age", section.written("retention")), HELP);
            None
        }
        Ok(inner) => {
            let given = inner.has("age");
            let age = inner.duration("age", 30 * DAY, DAY..=3_650 * DAY);
            if given {
                inner.finish();
            } else {
                section.problem("retention", "names no `age`", HELP);
            }
            Some(age)
        }
    }
}
