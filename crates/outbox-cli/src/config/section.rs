//! One table of a configuration, asked key by key: what was not asked for is unknown.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    document::{Problem, Secrets, Shared},
    substitute::substitute,
    units,
};

/// One table of the document.
pub(crate) struct Section<'a> {
    shared: &'a Shared<'a>,
    table: &'a DeTable<'a>,
    path: String,
    line: Option<usize>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The table at `path`, which begins on `line`.
    pub(crate) fn new(shared: &'a Shared<'a>, table: &'a DeTable<'a>, path: String, line: Option<usize>) -> Self {
        Self { shared, table, path, line, known: RefCell::default() }
    }

    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, which becomes known by it.
    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    fn given(&self, key: &str) -> bool {
        self.table.iter().any(|(name, _)| name.get_ref().as_ref() == key)
    }

    /// Whether `key` is given; it becomes known by it.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// An environment variable.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.shared.lookup)(name)
    }

    /// Whether the secret `key` has to be read; it becomes known by it.
    pub(crate) fn reads_secret(&self, key: &'static str) -> bool {
        self.has(key) && self.shared.secrets == Secrets::Read
    }

    /// Notes a mistake in the value of `key`, or, if that is not given, in this section.
    pub(crate) fn problem(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let value = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value);
        let line = value.map(|value| self.shared.line(&value.span())).or(self.line);
        self.note(line, self.field(key), message, help);
    }

    /// Notes a mistake in this section as a whole.
    pub(crate) fn problem_here(&self, message: impl Into<String>, help: impl Into<String>) {
        self.note(self.line, self.path.clone(), message, help);
    }

    fn note(&self, line: Option<usize>, field: String, message: impl Into<String>, help: impl Into<String>) {
        let problem = Problem { line, field, message: message.into(), help: help.into() };
        self.shared.problems.borrow_mut().push(problem);
    }

    fn wrong_type(&self, key: &str, value: &DeValue<'_>, help: &str) {
        self.problem(
            key,
            format!("expected {help}, found {}", article(value.type_str())),
            format!("write it as {help}"),
        );
    }

    /// A text, with its environment variables put in.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        let value = self.get(key)?.get_ref();
        let Some(text) = value.as_str() else {
            self.wrong_type(key, value, "a text in quotes");
            return None;
        };
        self.substituted(key, text)
    }

    /// The text of `key` as it stands in the file, for a message: what the environment puts in may be a secret.
    pub(crate) fn written(&self, key: &str) -> &'a str {
        let value = self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key);
        value.and_then(|(_, value)| value.get_ref().as_str()).unwrap_or_default()
    }

    fn substituted(&self, key: &str, text: &str) -> Option<String> {
        substitute(text, self.shared.lookup).map_err(|(message, help)| self.problem(key, message, help)).ok()
    }

    /// A text that has to be given and may not be empty.
    pub(crate) fn required_text(&self, key: &'static str, help: &str) -> Option<String> {
        if !self.has(key) {
            self.problem(key, "is missing", help);
            return None;
        }
        let text = self.text(key)?;
        if text.trim().is_empty() {
            self.problem(key, "is empty", help);
            return None;
        }
        Some(text)
    }

    /// A text that `parse` makes something of. Its error ends a sentence that begins with the text.
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(key)?.get_ref();
        let Some(text) = value.as_str() else {
            let found = article(value.type_str());
            let written = match value {
                DeValue::Integer(number) => format!("{found} without a unit ({number})"),
                DeValue::Float(number) => format!("{found} ({number})"),
                _ => found.to_owned(),
            };
            self.problem(
                key,
                format!("expected a text as `{example}`, found {written}"),
                format!("write `{key} = \"{example}\"`"),
            );
            return None;
        };
        match parse(&self.substituted(key, text)?) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let (message, help) = wrong
                    .split_once(": ")
                    .map_or((wrong.as_str(), "see docs/configuration.md"), |(message, help)| (message, help));
                self.problem(key, format!("`{text}` {message}"), help);
                None
            }
        }
    }

    /// A duration within `range`, or `default`.
    pub(crate) fn duration(&self, key: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let value = self.parsed(key, &units::show_duration(default), units::duration).unwrap_or(default);
        if !range.contains(&value) {
            let (low, high) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
            self.problem(
                key,
                format!("{} is out of range", units::show_duration(value)),
                format!("use {low} to {high}; the default is {}", units::show_duration(default)),
            );
        }
        value
    }

    /// A size of at least one byte, or `default`.
    pub(crate) fn size(&self, key: &'static str, default: u64, example: &str) -> u64 {
        let value = self.parsed(key, example, units::size).unwrap_or(default);
        if value == 0 {
            self.problem(key, "a size of 0 lets nothing through", format!("use at least 1 B, as `{example}`"));
        }
        value
    }

    /// A whole number within `range`, or `default`.
    pub(crate) fn count(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.get(key) else { return default };
        let help = format!("use {} to {}; the default is {default}", range.start(), range.end());
        let DeValue::Integer(number) = value.get_ref() else {
            self.problem(key, format!("expected a whole number, found {}", article(value.get_ref().type_str())), help);
            return default;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(key, format!("{number} is out of range"), help);
                default
            }
        }
    }

    /// `true` or `false`, or `default`.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value.get_ref(), "`true` or `false`");
            default
        })
    }

    /// A list of texts; none if it is not given.
    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value.get_ref(), "a list of texts, as [\"a\", \"b\"]");
            return Vec::new();
        };
        let texts = array.iter().map(|item| item.get_ref().as_str().and_then(|text| self.substituted(key, text)));
        let found: Vec<_> = texts.collect();
        if array.iter().any(|item| !item.get_ref().is_str()) {
            self.problem(
                key,
                "the list holds something that is not a text",
                "put every item in quotes, as [\"a\", \"b\"]",
            );
        }
        found.into_iter().flatten().collect()
    }

    /// A text, or a list of texts.
    pub(crate) fn text_or_texts(&self, key: &'static str) -> Option<Vec<String>> {
        if self.get(key)?.get_ref().is_str() {
            return self.text(key).map(|text| vec![text]);
        }
        Some(self.texts(key))
    }

    /// A table of texts with names of the user's own; none if it is not given.
    pub(crate) fn named_texts(&self, key: &'static str) -> BTreeMap<String, String> {
        let Some(value) = self.get(key) else { return BTreeMap::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value.get_ref(), "a table of texts, as { name = \"value\" }");
            return BTreeMap::new();
        };
        let mut named = BTreeMap::new();
        for (name, value) in table {
            match value.get_ref().as_str() {
                Some(text) => {
                    if let Some(text) = self.substituted(key, text) {
                        named.insert(name.get_ref().to_string(), text);
                    }
                }
                None => self.problem(
                    key,
                    format!("`{}` is not a text", name.get_ref()),
                    format!("put its value in quotes: {} = \"…\"", name.get_ref()),
                ),
            }
        }
        named
    }

    /// A table within this one.
    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.get(key)?;
        let line = Some(self.shared.line(&value.span()));
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value.get_ref(), "a table, as { name = \"value\" }");
            return None;
        };
        Some(Section::new(self.shared, table, self.field(key), line))
    }

    /// A table within this one, or a text in its place.
    pub(crate) fn section_or_text(&self, key: &'static str) -> Option<Result<Section<'a>, String>> {
        if self.table.iter().any(|(name, value)| name.get_ref().as_ref() == key && value.get_ref().is_str()) {
            return self.text(key).map(Err);
        }
        self.section(key).map(Ok)
    }

    /// The tables of a list `[[key]]`, each called by its `name` if it has one.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let tables = value.get_ref().as_array().map(|array| {
            array.iter().map(|item| item.get_ref().as_table().map(|table| (item.span(), table))).collect::<Vec<_>>()
        });
        let Some(tables) = tables.filter(|tables| tables.iter().all(Option::is_some)) else {
            self.problem(
                key,
                format!("`{key}` is a list of tables"),
                format!("write each as `[[{key}]]`, in double brackets"),
            );
            return Vec::new();
        };
        let named = |(index, (span, table)): (usize, (Range<usize>, &'a DeTable<'a>))| {
            let name = table.iter().find(|(name, _)| name.get_ref().as_ref() == "name");
            let name = name.and_then(|(_, value)| value.get_ref().as_str()).filter(|name| !name.is_empty());
            let shown = name.map_or_else(|| (index + 1).to_string(), str::to_owned);
            Section::new(self.shared, table, self.field(&format!("{key}[{shown}]")), Some(self.shared.line(&span)))
        };
        tables.into_iter().flatten().enumerate().map(named).collect()
    }

    /// Notes every key that nobody asked for, with the nearest that is known.
    pub(crate) fn finish(&self) {
        let known = self.known.borrow();
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            if known.contains(&key) {
                continue;
            }
            let mut sorted: Vec<_> = known.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let all = format!("known here: {}", sorted.join(", "));
            let near = nearest(key, &sorted);
            if let Some(near) = near.filter(|near| !self.given(near)) {
                // That it is missing is the same mistake.
                let missing = self.field(near);
                self.shared.problems.borrow_mut().retain(|problem| problem.field != missing);
            }
            let help = near.map_or_else(|| all.clone(), |near| format!("did you mean `{near}`? {all}"));
            self.note(Some(self.shared.line(&name.span())), self.field(key), "unknown key", help);
        }
    }
}

/// The known word that `word` most likely stands for, if any is near.
pub(crate) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let scored = known.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate));
    let (distance, best) = scored.min()?;
    let near = distance <= (best.len().max(word.len()) / 2).clamp(1, 3);
    let contained = best.len() >= 3 && word.len() >= 3 && (word.contains(best) || best.contains(word));
    (near || contained).then_some(best)
}

fn article(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "float" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "table" => "a table",
        _ => "a date",
    }
}
