//! A users service, who wants to hear of its users, and the configuration of the example.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use outbox_sql::postgres::ConnectOptions;
use proof::crashes::target::Target;
use serde_json::Value;
use users::{EventTable, Users};

use crate::{
    place::{Place, Running},
    server::{self, Database},
};

/// Events of a route that may be under way, and so be published again by whoever goes on. Its checkpoint is stored five times
/// a second, so that this is what it publishes in such a time at most.
pub(crate) const WINDOW: usize = 200;
/// Longer than anything takes here.
const DEADLINE: Duration = Duration::from_secs(120);

/// How the service's events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Its own table, by polling.
    Mapped,
    /// Outbox's table, by polling.
    Native,
    /// Outbox's table, from the server's log.
    NativeLog,
}

pub(crate) struct Company {
    pub(crate) database: Database,
    pub(crate) users: Users,
    pub(crate) mail: Target,
    pub(crate) place: Place,
    elsewhere: Place,
}

/// An event as somebody heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) id: String,
    pub(crate) user: i64,
    pub(crate) version: i64,
    pub(crate) kind: String,
}

impl Company {
    /// With the example's own configuration, made ready as its README says.
    pub(crate) async fn new(reading: Reading) -> Self {
        let (events, config) = match reading {
            Reading::Mapped => (EventTable::Own, include_str!("../../../../examples/users/mapped.toml")),
            Reading::Native | Reading::NativeLog => {
                (EventTable::Native, include_str!("../../../../examples/users/native.toml"))
            }
        };
        let (database, place) = (Database::new().await, Place::new());
        let users = Users::connect(ConnectOptions::parse(database.url()).unwrap(), events).await.unwrap();
        let read = if reading == Reading::NativeLog { "[store]\nread = \"wal\"\n" } else { "[store]\n" };
        // Not to wait long for a relay that was killed.
        let config =
            config.replacen("[store]\n", read, 1).replacen("[[route]]", "[relay]\nfailover = \"1s\"\n\n[[route]]", 1);
        let config =
            config.replace("[[route]]\n", &format!("[[route]]\nwindow = {{ events = {WINDOW}, key_share = 100 }}\n"));
        place.write("outbox.toml", &config);
        let company = Self { database, users, mail: Target::new(), place, elsewhere: Place::new() };
        company.prepare().await;
        company
    }

    async fn prepare(&self) {
        let made = self.outbox(&["--json", "init"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let session = self.database.session().await;
        for statement in made["statements"].as_array().unwrap() {
            session.batch_execute(statement.as_str().unwrap()).await.unwrap();
        }
    }

    /// The command, which finds database and webhook in its environment.
    pub(crate) fn outbox(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        let mail = format!("http://{}/events", self.mail.address());
        command.env("USERS_DATABASE", self.database.url()).env("MAIL_URL", mail);
        command
    }

    pub(crate) fn relay(&self) -> Running {
        Running::start(self.outbox(&["relay"]))
    }

    /// A relay of another machine, which has a file of its own.
    pub(crate) fn relay_elsewhere(&self) -> Running {
        self.elsewhere.write("outbox.toml", &self.place.read("outbox.toml"));
        let mut command = self.outbox(&["relay"]);
        command.current_dir(self.elsewhere.folder());
        Running::start(command)
    }

    /// What came by mail.
    pub(crate) fn mails(&self) -> Vec<Heard> {
        let arrivals = self.mail.arrivals();
        let heard = arrivals.iter().map(|arrival| {
            let data: Value = serde_json::from_slice(arrival.data.as_deref().unwrap_or_default()).unwrap_or_default();
            heard(&arrival.id, &arrival.kind, &data)
        });
        heard.collect()
    }

    /// What is in the file. The last line may be one that is being written.
    pub(crate) fn audited(&self) -> Vec<Heard> {
        let text = self.place.read("audit.jsonl");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|event| heard(event["id"].as_str().unwrap(), event["type"].as_str().unwrap(), &event["data"]))
            .collect()
    }

    /// How much came by mail: to wait for it must not cost as much as to read it.
    pub(crate) fn mailed(&self) -> usize {
        self.mail.count()
    }

    /// How many whole lines the file has.
    pub(crate) fn lines(&self) -> usize {
        self.place.read("audit.jsonl").matches('\n').count()
    }

    /// How many events about each user the service has committed.
    pub(crate) async fn committed(&self) -> BTreeMap<i64, i64> {
        let rows = self.database.session().await.query("SELECT user_id, version FROM users", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until mail and file have everything that was committed.
    pub(crate) async fn all_is_heard(&self) {
        let committed = self.committed().await;
        until("mail has everything", async || is_whole(self.mailed(), || self.mails(), &committed)).await;
        until("the file has everything", async || is_whole(self.lines(), || self.audited(), &committed)).await;
    }

    /// Makes sure that everything that was committed was heard, that of each user in order when it came first, and the same
    /// event by the same id whenever it came.
    pub(crate) async fn is_exact(&self) {
        let committed = self.committed().await;
        is_exact_of("mail", &self.mails(), &committed);
        is_exact_of("audit", &self.audited(), &committed);
    }
}

/// The same of what one of them heard.
pub(crate) fn is_exact_of(who: &str, all: &[Heard], committed: &BTreeMap<i64, i64>) {
    let mut first: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut ids: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for heard in all {
        let event = (heard.user, heard.version);
        match ids.insert(heard.id.clone(), event) {
            None => first.entry(heard.user).or_default().push(heard.version),
            Some(before) => assert_eq!(before, event, "{who}: one id, two events"),
        }
    }
    let expected: BTreeMap<_, Vec<_>> = committed.iter().map(|(user, last)| (*user, (1..=*last).collect())).collect();
    assert_eq!(first, expected, "{who}: everything, each user's in order");
}

/// Whether everything that was committed is among so many that were heard. They are read once there are enough.
pub(crate) fn is_whole(heard: usize, all: impl Fn() -> Vec<Heard>, committed: &BTreeMap<i64, i64>) -> bool {
    let committed = usize::try_from(committed.values().sum::<i64>()).unwrap();
    let unique = || all().iter().map(|heard| (heard.user, heard.version)).collect::<BTreeSet<_>>().len();
    heard >= committed && unique() >= committed
}

fn heard(id: &str, kind: &str, data: &Value) -> Heard {
    let number = |name: &str| data[name].as_i64().unwrap_or(-1);
    Heard { id: id.to_owned(), user: number("userId"), version: number("version"), kind: kind.to_owned() }
}

/// Waits until `is_so`.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "not in {DEADLINE:?}: {what}");
}

/// Makes sure that no more came again than `most`.
pub(crate) fn repeats_at_most(most: usize, who: &str, all: &[Heard]) {
    let unique: BTreeSet<_> = all.iter().map(|heard| &heard.id).collect();
    let again = all.len() - unique.len();
    assert!(again <= most, "{who}: {again} of {} came again, more than {most}", all.len());
}

/// Waits until a relay reads the log of the database at `url`.
pub(crate) async fn log_is_read(url: &str) {
    let session = server::session(url).await;
    let sql = "SELECT FROM pg_replication_slots WHERE active AND NOT temporary AND database = current_database()";
    until("the log is read", async || !session.query(sql, &[]).await.unwrap().is_empty()).await;
}
