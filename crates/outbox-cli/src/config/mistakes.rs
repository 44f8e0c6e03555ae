//! Every mistake that a configuration can hold names file, line, field and remedy.

use std::path::Path;

use super::{Config, Problems};

#[cfg(feature = "aws")]
mod dynamodb;
#[cfg(feature = "aws")]
mod eventbridge;

/// A mistake, and what has to be said about it.
struct Mistake {
    /// The whole file; the line with the mistake is the one that holds `<-`.
    text: &'static str,
    field: &'static str,
    message: &'static str,
    help: &'static str,
}

const fn mistake(text: &'static str, field: &'static str, message: &'static str, help: &'static str) -> Mistake {
    Mistake { text, field, message, help }
}

const MISTAKES: &[Mistake] = &[
    mistake("[store\n", "", "this is not TOML", "toml.io"),
    mistake("[store]\nsqlite = 'a.db'\nsqlite = 'b.db' # <-\n", "", "this is not TOML", "toml.io"),
    mistake("[[route]]\nname = 'a'\nstdout = true\n", "store", "is missing", "`sqlite ="),
    mistake("[store] # <-\n[[route]]\nname = 'a'\nstdout = true\n", "store.sqlite", "is missing", "orders.db"),
    mistake(
        "[store]\nsqlite = '' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.sqlite",
        "is empty",
        "orders.db",
    ),
    mistake(
        "[store]\nsqlite = 1 # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.sqlite",
        "found a whole number",
        "in quotes",
    ),
    mistake("[store]\nsqlite = 'a.db'\n", "route", "there is no route", "[[route]]"),
    mistake(
        "[store]\nsqlite = 'a.db'\n[route] # <-\nname = 'a'\nstdout = true\n",
        "route",
        "list of tables",
        "[[route]]",
    ),
    mistake(
        "[store]\nsqlite = 'a.db'\n[[routes]] # <-\nname = 'a'\nstdout = true\n",
        "routes",
        "unknown key",
        "did you mean `route`?",
    ),
    mistake(
        "[store]\nsqlit = 'a.db' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.sqlit",
        "unknown key",
        "did you mean `sqlite`?",
    ),
    mistake(
        "[store]\nsqlite = 'a.db'\nproducer = 'a b' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.producer",
        "cannot be a producer",
        "URI reference",
    ),
    mistake(
        "[store]\nsqlite = 'a.db'\nretention = 'week' # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.retention",
        "`week` is not a retention",
        "{ age =",
    ),
    mistake(
        "[store]\nsqlite = 'a.db'\nretention = { age = 7 } # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.retention.age",
        "without a unit (7)",
        "age = \"7d\"",
    ),
    mistake(
        "[store]\nsqlite = 'a.db'\nretention = { age = '7d', newest = 1 } # <-\n[[route]]\nname = 'a'\nstdout = true\n",
        "store.retention",
        "both",
        "{ newest =",
    ),
];

/// Mistakes in `mapping`, put behind a database and before a route.
const MAPPING: &[Mistake] = &[
    mistake("mapping = 'polling' # <-", "store.mapping", "`polling` is no layout", "\"debezium\""),
    mistake("mapping = { layout = 'x' } # <-", "store.mapping.layout", "`x` is no layout", "\"polling-outbox\""),
    mistake("mapping = 7 # <-", "store.mapping", "found a whole number", "a table"),
    mistake(
        "[store.mapping]\ntable = 'events'\nid = 'id'\ntyp = 'kind' # <-\npayload = 'body'",
        "store.mapping.typ",
        "unknown key",
        "did you mean `type`?",
    ),
    mistake(
        "[store.mapping] # <-\ntable = 'events'\ntype = 'kind'\npayload = 'body'",
        "store.mapping.id",
        "is missing",
        "growing id",
    ),
    mistake("mapping = { layout = 'debezium', key = [] } # <-", "store.mapping.key", "no column", "several"),
    mistake(
        "mapping = { layout = 'debezium', statuses = ['NEW', 'DONE'] } # <-",
        "store.mapping.statuses",
        "no column",
        "`status`",
    ),
    mistake(
        "mapping = { layout = 'polling-outbox', status = 'S', statuses = ['NEW'] } # <-",
        "store.mapping.statuses",
        "not two words",
        "PROCESSED",
    ),
    mistake("poll = '1s' # <-\nread = 'wal'\nmapping = 'debezium'", "store.poll", "never polled", "`id`"),
    mistake(
        "wal_cap = '1 GiB' # <-\nread = 'wal'\nmapping = 'debezium'",
        "store.wal_cap",
        "never let go of",
        "leave it out",
    ),
    mistake(
        "retention = { newest = 9 } # <-\nread = 'wal'\nmapping = 'debezium'",
        "store.retention",
        "not Outbox's to remove",
        "owner",
    ),
    mistake(
        "read = 'wal'\nmapping = { layout = 'polling-outbox', id = '' } # <-",
        "store.mapping",
        "status",
        "`status = \"\"`",
    ),
    mistake(
        "retention = { age = '7d' } # <-\nmapping = { layout = 'debezium', id = 'seq' }",
        "store.retention",
        "no time",
        "`time`",
    ),
];

/// Mistakes in `[relay]`, put behind a store and a route that are well.
const RELAY: &[Mistake] = &[
    mistake("failover = 10 # <-", "relay.failover", "without a unit (10)", "failover = \"10s\""),
    mistake("failover = '10 parsecs' # <-", "relay.failover", "`10 parsecs` is not a duration", "1h30m"),
    mistake("failover = '10ms' # <-", "relay.failover", "10ms is out of range", "the default is 10s"),
    mistake("listen = '9464' # <-", "relay.listen", "`9464` is not an address", "127.0.0.1:9464"),
    mistake("listen = '0.0.0.0:9464' # <-", "relay.listen", "from other machines", "allow_remote = true"),
    mistake("allow_remote = 'yes' # <-", "relay.allow_remote", "found a text", "`true` or `false`"),
    mistake("bookkeeping = 'a.db' # <-", "relay.bookkeeping", "business database itself", "file of its own"),
    mistake("log = 'xml' # <-", "relay.log", "`xml` is not a log format", "\"json\""),
    mistake("name = '' # <-", "relay.name", "cannot name a relay", "1 to 64"),
    mistake("drian = '10s' # <-", "relay.drian", "unknown key", "did you mean `drain`?"),
];

/// Mistakes in a route called `ledger`.
const ROUTE: &[Mistake] = &[
    mistake(
        "webhook = { url = 'https://a.example', secrets = ['${NOT_SET}'] } # <-",
        "route[ledger].webhook.secrets",
        "`NOT_SET` is not set",
        "${NOT_SET:-",
    ),
    mistake(
        "webhook = { url = 'https://a.example', secrets = ['secret'] } # <-",
        "route[ledger].webhook.secrets",
        "number 1",
        "whsec_",
    ),
    mistake(
        "webhook = { url = 'ftp://a.example' } # <-",
        "route[ledger].webhook.url",
        "neither http nor https",
        "https://",
    ),
    mistake(
        "webhook = { url = 'https://u:p@a.example' } # <-",
        "route[ledger].webhook.url",
        "user or password",
        "headers",
    ),
    mistake(
        "webhook = { urll = 'https://a.example' } # <-",
        "route[ledger].webhook.urll",
        "unknown key",
        "did you mean `url`?",
    ),
    mistake(
        "webhook = { url = 'https://a.example', timeout = 5 } # <-",
        "route[ledger].webhook.timeout",
        "without a unit (5)",
        "20s",
    ),
    mistake(
        "webhook = { url = 'https://a.example', timeout = '1s' } # <-",
        "route[ledger].webhook.timeout",
        "shorter than `connect_timeout`",
        "longer",
    ),
    mistake(
        "webhook = { url = 'https://a.example', encoding = 'xml' } # <-",
        "route[ledger].webhook.encoding",
        "`xml` is not an encoding",
        "\"batch\"",
    ),
    mistake(
        "webhook = { url = 'https://a.example', max_bytes = 1000 } # <-",
        "route[ledger].webhook.max_bytes",
        "without a unit (1000)",
        "1 MiB",
    ),
    mistake(
        "webhook = { url = 'https://a.example', max_bytes = '1 megabyte' } # <-",
        "route[ledger].webhook.max_bytes",
        "is not a size",
        "MiB",
    ),
    mistake(
        "webhook = { url = 'https://a.example', concurrency = 0 } # <-",
        "route[ledger].webhook.concurrency",
        "0 is out of range",
        "the default is 16",
    ),
    mistake(
        "webhook = { url = 'https://a.example', max_events = 10 } # <-",
        "route[ledger].webhook.max_events",
        "only a batch",
        "encoding = \"batch\"",
    ),
    mistake(
        "webhook = { url = 'https://a.example', headers = { ce-id = 'x' } } # <-",
        "route[ledger].webhook.headers",
        "ce-id",
        "leave it out",
    ),
    mistake(
        "webhook = { url = 'https://a.example', root_certificates = 'not-there.pem' } # <-",
        "route[ledger].webhook.root_certificates",
        "cannot be read",
        "PEM",
    ),
    mistake("stdout = true\nfile = 'a.jsonl'", "route[ledger]", "more than one sink", "one of"),
    mistake("types = ['a']", "route[ledger]", "no sink", "stdout = true"),
    mistake("file = '' # <-", "route[ledger].file", "is empty", "events.jsonl"),
    mistake("stdout = true\ntypes = 'order.*' # <-", "route[ledger].types", "found a text", "[\"a\", \"b\"]"),
    mistake("stdout = true\nkeys = [1] # <-", "route[ledger].keys", "not a text", "in quotes"),
    mistake(
        "stdout = true\nattributes = { 'Not Valid' = 'x' } # <-",
        "route[ledger].attributes",
        "cannot be an attribute",
        "a-z",
    ),
    mistake("stdout = true\nstart = 'yesterday' # <-", "route[ledger].start", "`yesterday` is not a start", "\"now\""),
    mistake("stdout = true\nrate_limit = 500 # <-", "route[ledger].rate_limit", "without a unit (500)", "500/s"),
    mistake("stdout = true\nrate_limit = '5/m' # <-", "route[ledger].rate_limit", "`5/m` is not a rate", "500/s"),
    mistake("stdout = true\nafter_dead_letter = 'stop' # <-", "route[ledger].after_dead_letter", "`stop`", "\"park\""),
    mistake(
        "stdout = true\nretry = { attempts = 0 } # <-",
        "route[ledger].retry.attempts",
        "0 is out of range",
        "the default is 10",
    ),
    mistake(
        "stdout = true\nretry = { base_delay = '2m' } # <-",
        "route[ledger].retry.max_delay",
        "shorter than `base_delay`",
        "at least as long",
    ),
    mistake("stdout = true\nwindow = { bytes = 8 } # <-", "route[ledger].window.bytes", "without a unit (8)", "8 MiB"),
    mistake(
        "stdout = true\nwindow = { events = 10 } # <-",
        "route[ledger].window.key_share",
        "more than the whole window",
        "`events` (10)",
    ),
    mistake("stdout = true\nretries = 5 # <-", "route[ledger].retries", "unknown key", "known here:"),
];

fn problems(text: &str) -> Problems {
    let lookup = |name: &str| (name == "SET").then(|| "value".to_owned());
    Config::parse(Path::new("outbox.toml"), text, &lookup).expect_err(text)
}

fn check(mistake: &Mistake, text: &str) {
    let problems = problems(text);
    let shown = problems.to_string();
    let [problem] = problems.list.as_slice() else { panic!("more than the one mistake in\n{text}\n{shown}") };
    assert_eq!(problem.field, mistake.field, "{text}\n{shown}");
    assert!(problem.message.contains(mistake.message), "{text}\n{shown}");
    assert!(problem.help.contains(mistake.help), "{text}\n{shown}");
    assert!(shown.starts_with("error: outbox.toml"), "{shown}");
    if let Some(line) = text.lines().position(|line| line.contains("<-")) {
        assert_eq!(problem.line, Some(line + 1), "{text}\n{shown}");
    }
}

#[test]
fn a_value_of_the_environment_is_in_no_message() {
    for line in ["retention = '${X}'", "producer = '${X} '"] {
        let text = format!("[store]\nsqlite = 'a.db'\n{line}\n[[route]]\nname = 'a'\nstdout = true\n");
        assert_not_shown(&text);
    }
    for line in
        ["start = '${X}'", "rate_limit = '${X}'", "name = '${X}'", "webhook = { url = 'http://a', encoding = '${X}' }"]
    {
        let text = format!("[store]\nsqlite = 'a.db'\n[relay]\nlog = '${{X}}'\nlisten = '${{X}}'\n[[route]]\n{line}\n");
        assert_not_shown(&text);
    }
}

fn assert_not_shown(text: &str) {
    let read = Config::parse(Path::new("outbox.toml"), text, &|_| Some("Hush hush".to_owned()));
    let said = read.unwrap_err().to_string();
    assert!(said.contains("${X}") && !said.contains("Hush"), "{text}{said}");
}

#[test]
fn each_mistake_names_line_field_and_remedy() {
    for mistake in MISTAKES {
        check(mistake, mistake.text);
    }
    for mistake in MAPPING {
        let route = "[[route]]\nname = 'a'\nstdout = true";
        check(mistake, &format!("[store]\npostgres = 'postgres://me@localhost/a'\n{}\n{route}\n", mistake.text));
    }
    for mistake in RELAY {
        let text =
            format!("[store]\nsqlite = 'a.db'\n[relay]\n{}\n[[route]]\nname = 'a'\nstdout = true\n", mistake.text);
        check(mistake, &text);
    }
    for mistake in ROUTE {
        check(mistake, &format!("[store]\nsqlite = 'a.db'\n[[route]]\nname = 'ledger'\n{}\n", mistake.text));
    }
}

#[test]
fn a_route_needs_a_plain_name_of_its_own() {
    let unnamed = problems("[store]\nsqlite = 'a.db'\n[[route]]\nstdout = true\n");
    assert_eq!((unnamed.list[0].field.as_str(), unnamed.list[0].line), ("route[1].name", Some(3)));
    let bad = problems("[store]\nsqlite = 'a.db'\n[[route]]\nname = 'My Route'\nstdout = true\n");
    assert!(bad.to_string().contains("outbox.toml:4: route[My Route].name: `My Route` cannot name a route"), "{bad}");
    let twice =
        problems("[store]\nsqlite = 'a.db'\n[[route]]\nname = 'a'\nstdout = true\n[[route]]\nname = 'a'\nfile = 'x'\n");
    assert_eq!(twice.list[0].line, Some(7), "{twice}");
    let file =
        problems("[store]\nsqlite = 'a.db'\n[[route]]\nname = 'a'\nfile = 'x'\n[[route]]\nname = 'b'\nfile = 'x'\n");
    assert!(file.to_string().contains("same file"), "{file}");
}

#[test]
fn all_mistakes_are_named_at_once_in_the_order_of_the_file() {
    let found = problems("[store]\nsqlte = 'a'\n[relay]\nfailover = 1\n[[route]]\nname = 'x'\nstdot = true\n");
    let lines: Vec<_> = found.list.iter().map(|problem| problem.line).collect();
    assert!(lines.is_sorted(), "{found}");
    assert!(lines.len() >= 4, "{found}");
}

#[test]
fn a_secret_that_is_wrong_is_not_repeated() {
    let found = problems(
        "[store]\nsqlite = 'a.db'\n[[route]]\nname = 'a'\nwebhook = { url = 'https://a.example', secrets = ['hunter2'] }\n",
    );
    assert!(!found.to_string().contains("hunter2") && !format!("{found:?}").contains("hunter2"), "{found}");
}

#[test]
fn ten_lines_make_a_relay() {
    let text = "[store]\nsqlite = \"orders.db\"\n\n[[route]]\nname = \"ledger\"\ntypes = [\"order.*\"]\n\
                webhook = { url = \"https://ledger.example.com/events\", secrets = [\"${LEDGER_SECRET}\"] }\n";
    let secret = |_: &str| Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
    let config = Config::parse(Path::new("/etc/outbox/outbox.toml"), text, &secret).unwrap();
    assert!(text.lines().count() <= 10);
    assert_eq!(config.store.database.file(), Some(Path::new("/etc/outbox/orders.db")));
    assert_eq!(config.relay.bookkeeping.file(), Some(Path::new("/etc/outbox/orders.db.relay")));
    assert_eq!(config.routes[0].settings.filter.types, ["order.*"]);
}

#[test]
fn ten_lines_map_a_table_that_is_laid_out_otherwise() {
    let text = "[store]\npostgres = \"postgres://me@localhost/users\"\n[store.mapping]\ntable = \"app.events\"\nid = \"seq\"\n\
                type = \"kind\"\npayload = \"body\"\n[[route]]\nname = \"first\"\nstdout = true\n";
    assert!(text.lines().count() <= 10);
    let parse = |text: &str| Config::parse(Path::new("outbox.toml"), text, &|_| None).unwrap().store.database;
    assert!(parse(text).is_mapped());
    let short = "[store]\npostgres = \"postgres://me@localhost/users\"\nmapping = \"polling-outbox\"\n\
                 [[route]]\nname = \"first\"\nstdout = true\n";
    let long = short.replace("\"polling-outbox\"", "{ layout = \"polling-outbox\", key = \"UserId\", time = \"\" }");
    let (short, long) = (parse(short), parse(&long));
    let alone = parse(&text.replace("id = \"seq\"\n", "").replace("users\"\n", "users\"\nread = \"wal\"\n"));
    assert!(alone.is_log_alone() && !short.is_log_alone());
    assert!(short.is_mapped() && format!("{long:?}").contains("UserId") && !format!("{long:?}").contains("CreatedAt"));
}

#[test]
fn what_init_writes_is_valid() {
    let text = include_str!("../commands/init/outbox.toml")
        .replace("@STORE@", "sqlite = \"orders.db\"")
        .replace("@PRODUCER@", "\"/orders\"")
        .replace("@ROUTE@", "\"first\"")
        .replace("@SINK@", "stdout = true");
    let config = Config::parse(Path::new("outbox.toml"), &text, &|_| None).unwrap();
    // The defaults that its comments show are the defaults.
    let defaults: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).collect();
    let shown = |key: &str| defaults.iter().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}"));
    let with_defaults = format!(
        "[store]\nsqlite = 'orders.db'\n{}\n[relay]\n{}\n{}\n{}\n[[route]]\nname = 'first'\nstdout = true\n{}\n{}\n{}\n{}\n",
        shown("retention"),
        shown("failover"),
        shown("drain"),
        shown("log"),
        shown("start"),
        shown("after_dead_letter"),
        shown("retry"),
        shown("window"),
    );
    let explicit = Config::parse(Path::new("outbox.toml"), &with_defaults, &|_| None).unwrap();
    assert_eq!(format!("{:?}", config.routes[0].settings), format!("{:?}", explicit.routes[0].settings));
    assert_eq!(format!("{:?}", config.relay), format!("{:?}", explicit.relay));
    assert_eq!(config.store.retention, explicit.store.retention);
}
