//! A service on PostgreSQL: the same commands, on a real server.

use std::{collections::BTreeMap, time::Duration};

use outbox_sql::postgres::{ConnectOptions, connect};
use tokio::sync::RwLock;

use crate::{
    mapping::drop_slots,
    place::{Place, Ran},
    server::{self, Database},
};

/// A slot is made once every transaction that is open in the cluster has ended: who leaves one open has the cluster to
/// themselves among those who make one.
pub(crate) static LEFT_OPEN: RwLock<()> = RwLock::const_new(());

/// A service's database, and a folder with a configuration for it.
struct Service {
    database: Database,
    place: Place,
}

impl Service {
    async fn new() -> Self {
        let service = Self { database: Database::new().await, place: Place::new() };
        service.configure("");
        service
    }

    /// Writes a configuration with `more` in its section of the store.
    fn configure(&self, more: &str) {
        let text = format!(
            "[store]\npostgres = '{}'\nproducer = '/orders'\n{more}\n[relay]\nfailover = '1s'\n\
             [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\n",
            self.database.url()
        );
        self.place.write("outbox.toml", &text);
    }

    async fn initialised() -> Self {
        let service = Self::new().await;
        let ran = service.place.run(&["init"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        service
    }

    /// Commits `count` orders of one customer.
    async fn write(&self, count: u32) {
        let sql = format!(
            "SELECT outbox.write('customer/1', 'order.placed', '{{\"units\": 3}}') FROM generate_series(1, {count})"
        );
        self.database.session().await.batch_execute(&sql).await.unwrap();
    }

    /// Lets a relay publish all that is there.
    fn publish(&self) {
        let relay = self.place.relay();
        self.place.wait_until(|status| status["routes"][0]["backlog"] == 0);
        let ran = relay.stop();
        assert_eq!(ran.code, 0, "{}", ran.err);
    }

    /// Waits until a relay reads the log.
    async fn log_is_read(&self) {
        let session = self.database.session().await;
        let sql = "SELECT FROM pg_replication_slots WHERE active AND NOT temporary AND database = current_database()";
        let reads = async {
            while session.query(sql, &[]).await.unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reads).await.expect("the log is read");
    }

    /// How often rows of each table were written.
    async fn writes(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT relid::regclass::text, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables";
        let rows = self.database.session().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    fn lines(&self) -> usize {
        self.place.read("ledger.jsonl").lines().count()
    }

    /// Runs `sql` where no session of this database is in the way.
    async fn beside(sql: &[String]) {
        let session = server::session(server::url()).await;
        for statement in sql {
            session.batch_execute(statement).await.unwrap();
        }
    }
}

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_sql_call_wrote_is_published_in_order_once() {
    let service = Service::initialised().await;
    assert_eq!(service.place.run(&["check"]).code, 0);
    service.write(50).await;
    service.publish();
    service.write(50).await;
    service.publish();
    let text = service.place.read("ledger.jsonl");
    let places: Vec<_> = text.lines().filter_map(|line| line.split("\"id\":\"").nth(1)?.split('"').next()).collect();
    let expected: Vec<_> = (1..=100).map(|number| format!("customer/1@1.{number}.0")).collect();
    assert_eq!(places, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_with_a_url_writes_a_configuration_that_works_and_a_second_init_changes_nothing() {
    let (database, place) = (Database::new().await, Place::new());
    let first = place.run(&["init", database.url(), "--producer", "/orders"]);
    assert_eq!(first.code, 0, "{}", first.err);
    assert!(first.out.contains("outbox.write("), "{}", first.out);
    assert_eq!(place.run(&["check"]).code, 0);
    let meta = |client: tokio_postgres::Client| async move {
        client.query_one("SELECT store_id FROM outbox.meta", &[]).await.unwrap().get::<_, String>(0)
    };
    let before = meta(database.session().await).await;
    let second = place.run(&["init"]);
    assert_eq!(second.code, 0, "{}", second.err);
    assert!(second.out.contains("already"), "{}", second.out);
    assert_eq!(meta(database.session().await).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_written_into_a_configuration() {
    let place = Place::new();
    let ran = place.run(&["init", "postgres://relay:hush-hush@127.0.0.1:1/orders"]);
    assert_eq!(ran.code, 2, "{}", said(&ran));
    assert!(ran.err.contains("PGPASSWORD") && !said(&ran).contains("hush"), "{}", said(&ran));
    assert!(!place.path("outbox.toml").exists());
}

/// What a command says that knows its database by `url`, with passwords out of made-up AWS credentials.
fn checked_with_tokens(url: &str, region: &str) -> Ran {
    let place = Place::new();
    let text = format!("[store]\npostgres = '{url}'\nrds_iam = '{region}'\n[[route]]\nname = 'a'\nfile = 'a.jsonl'\n");
    place.write("outbox.toml", &text);
    let credentials = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "not-a-secret")];
    let output = place.command(&["check"]).envs(credentials).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_rds_is_given_a_token_in_place_of_a_password() {
    // The one that the server asks for a password; who runs beside this may have made it.
    let role = "DO $$ BEGIN CREATE ROLE with_password LOGIN PASSWORD 'right-one'; \
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
    Service::beside(&[role.to_owned()]).await;
    let url = server::url().replacen("postgres@", "with_password@", 1);
    let ran = checked_with_tokens(&url, "eu-west-1");
    assert_eq!(ran.code, 1, "{}", said(&ran));
    assert!(ran.out.contains("28P01"), "the server was given one that is wrong: {}", said(&ran));
    assert!(!said(&ran).contains("X-Amz") && !said(&ran).contains("not-a-secret"), "{}", said(&ran));
}

#[test]
fn tokens_beside_a_password_or_for_no_region_or_for_several_hosts_are_refused() {
    for (url, region, why) in [
        ("postgres://relay:hush@127.0.0.1:1/orders", "eu-west-1", "there is a password in the URL already"),
        ("postgres://relay@127.0.0.1:1/orders", "Ireland", "`Ireland` is no Region"),
        ("postgres://relay@127.0.0.1:1,127.0.0.1:2/orders", "eu-west-1", "the URL names several hosts"),
    ] {
        let ran = checked_with_tokens(url, region);
        assert_eq!(ran.code, 2, "{}", said(&ran));
        assert!(ran.err.contains("rds_iam") && ran.err.contains(why), "{}", said(&ran));
        assert!(!said(&ran).contains("hush"), "{}", said(&ran));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_statements_make_what_init_makes_and_the_roles_need_no_more() {
    let service = Service::new().await;
    let (writer, relay) = (format!("w_{}", std::process::id()), format!("r_{}", std::process::id()));
    Service::beside(&[format!("CREATE ROLE {writer} LOGIN"), format!("CREATE ROLE {relay} LOGIN")]).await;
    let ran = service.place.run(&["init", "--sql", "--writer", &writer, "--relay", &relay]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    service.database.session().await.batch_execute(&ran.out).await.unwrap();
    let made = service.place.run(&["init"]);
    assert_eq!(made.code, 0, "{}", said(&made));

    let as_role = |role: &str| {
        let (scheme, rest) = service.database.url().split_once("://").unwrap();
        format!("{scheme}://{role}@{}", rest.rsplit_once('@').unwrap().1)
    };
    let session = connect(&ConnectOptions::parse(&as_role(&writer)).unwrap()).await.unwrap();
    session.batch_execute("SELECT outbox.write('customer/1', 'order.placed', '{}')").await.unwrap();
    let config = service.place.read("outbox.toml").replace(service.database.url(), &as_role(&relay));
    service.place.write("outbox.toml", &config);
    service.publish();
    assert_eq!(service.lines(), 1);
    drop(session);
    let session = service.database.session().await;
    session.batch_execute(&format!("DROP OWNED BY {writer}, {relay}; DROP ROLE {writer}, {relay}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_with_its_bookkeeping_in_it_is_noticed_and_adopted() {
    let service = Service::initialised().await;
    service.write(5).await;
    service.publish();
    let name = service.database.url().rsplit('/').next().unwrap().to_owned();
    let backup = format!("{name}_backup");
    Service::beside(&[format!("CREATE DATABASE {backup} TEMPLATE {name}")]).await;
    service.write(5).await;
    service.publish();
    let put_back = [format!("DROP DATABASE {name} WITH (FORCE)"), format!("ALTER DATABASE {backup} RENAME TO {name}")];
    Service::beside(&put_back).await;

    for command in ["relay", "check"] {
        let ran = service.place.run(&[command]);
        assert_eq!(ran.code, 4, "{command}: {}", said(&ran));
        assert!(said(&ran).contains("outbox adopt"), "{command}: {}", said(&ran));
    }
    let adopted = service.place.json(&["adopt", "--yes", "--entries", "keep"]);
    assert_eq!(adopted["done"], true, "{adopted:#}");
    let before = service.lines();
    service.write(3).await;
    service.publish();
    let text = service.place.read("ledger.jsonl");
    let new = text.lines().skip(before).filter(|line| line.contains("\"place\":\"2.")).count();
    assert_eq!(new, 3, "{text}");
    assert_eq!(service.place.run(&["check"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_under_a_database_that_holds_everything_is_adopted() {
    let service = Service::initialised().await;
    service.write(5).await;
    service.publish();
    // As behind an upgrade of a server that had been promoted.
    let promoted = "UPDATE outbox_relay.checkpoints SET position = regexp_replace(position, '/[0-9]+/', '/999/')";
    service.database.session().await.batch_execute(promoted).await.unwrap();
    for command in ["relay", "check"] {
        let ran = service.place.run(&[command]);
        assert_eq!(ran.code, 4, "{command}: {}", said(&ran));
        assert!(said(&ran).contains("outbox adopt"), "{command}: {}", said(&ran));
    }
    let dry = service.place.json(&["adopt"]);
    assert!(dry["done"] == false && dry["found"].to_string().contains("1 checkpoint"), "{dry:#}");
    assert_eq!(service.place.json(&["adopt", "--yes"])["done"], true);
    assert_eq!(service.place.run(&["check"]).code, 0);
    service.write(3).await;
    service.publish();
    let text = service.place.read("ledger.jsonl");
    assert_eq!(text.lines().count(), 8, "nothing twice: {text}");
    assert!(!text.contains("\"place\":\"2."), "the incarnation is as it was: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_bookkeeping_is_noticed() {
    let service = Service::initialised().await;
    service.write(2).await;
    service.publish();
    service.database.session().await.batch_execute("DROP SCHEMA outbox_relay CASCADE").await.unwrap();
    let ran = service.place.run(&["relay"]);
    assert_eq!(ran.code, 4, "{}", said(&ran));
    assert!(ran.err.contains("is not there") && ran.err.contains("outbox adopt"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_server_is_said_with_a_remedy() {
    let service = Service::new().await;
    let unmade = service.place.run(&["relay"]);
    assert_eq!(unmade.code, 1, "{}", said(&unmade));
    assert!(unmade.err.contains("outbox init"), "{}", unmade.err);
    let text = service.place.read("outbox.toml");
    let (url, gone) = (service.database.url(), "postgres://relay@127.0.0.1:1/orders?connect_timeout=2");
    service.place.write("outbox.toml", &text.replace(url, gone));
    let unreachable = service.place.run(&["check"]);
    assert_eq!(unreachable.code, 1, "{}", said(&unreachable));
    assert!(said(&unreachable).contains("127.0.0.1:1"), "{}", said(&unreachable));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_of_two_places_stand_in_for_each_other() {
    let service = Service::initialised().await;
    let elsewhere = Place::new();
    elsewhere.write("outbox.toml", &service.place.read("outbox.toml"));
    let owner = service.place.relay();
    service.place.wait_until(|status| status["relay"]["epoch"] == 1);
    let standby = elsewhere.relay();
    service.write(5).await;
    service.place.until("the owner publishes", |_| (service.lines() == 5).then_some(()));
    assert_eq!(owner.stop().code, 0);
    service.write(5).await;
    elsewhere.until("the other goes on", |place| (place.read("ledger.jsonl").lines().count() == 5).then_some(()));
    assert_eq!(standby.stop().code, 0);
    assert_eq!(service.lines(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_database_is_read_can_be_changed_and_changed_back() {
    let _nobody_leaves_one_open = LEFT_OPEN.read().await;
    let service = Service::initialised().await;
    for read in ["poll", "wal", "poll", "wal"] {
        service.configure(&format!("read = '{read}'"));
        let ran = service.place.run(&["init"]);
        assert_eq!(ran.code, 0, "{}", said(&ran));
        let ran = service.place.run(&["check"]);
        assert_eq!(ran.code, 0, "{}", said(&ran));
        service.write(20).await;
        let relay = service.place.relay();
        if read == "wal" {
            service.log_is_read().await;
        }
        service.write(20).await;
        service.place.wait_until(|status| status["routes"][0]["backlog"] == 0);
        let ran = relay.stop();
        assert_eq!(ran.code, 0, "{}", said(&ran));
    }
    let text = service.place.read("ledger.jsonl");
    let places: Vec<_> = text.lines().filter_map(|line| line.split("\"id\":\"").nth(1)?.split('"').next()).collect();
    let expected: Vec<_> = (1..=160).map(|number| format!("customer/1@1.{number}.0")).collect();
    assert_eq!(places, expected);
    service.configure("read = 'poll'");
    for command in ["check", "status"] {
        let told = |place: &Place| place.run(&[command]).out.contains("pg_drop_replication_slot(").then_some(());
        service.place.until("the slot that is left behind is named", told);
    }
    service.write(1).await;
    let relay = service.place.relay();
    let status = service.place.wait_until(|status| status["routes"][0]["backlog"] == 0);
    assert!(status["store"]["unread_slots"][0]["held_bytes"].is_u64(), "{status:#}");
    let ran = relay.stop();
    assert!(ran.err.contains("pg_drop_replication_slot('outbox_"), "{}", said(&ran));
    drop_slots(&service.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_tell_of_the_entries_is_refused_with_what_to_run() {
    let service = Service::initialised().await;
    service.configure("read = 'wal'");
    for command in ["relay", "check"] {
        let ran = service.place.run(&[command]);
        assert_eq!(ran.code, 1, "{command}: {}", said(&ran));
        assert!(said(&ran).contains("CREATE PUBLICATION"), "{command}: {}", said(&ran));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_left_prepared_is_named_in_the_status_and_delays_only_its_own_entries() {
    let _nobody_makes_a_slot = LEFT_OPEN.write().await;
    let service = Service::initialised().await;
    let session = service.database.session().await;
    let gid = format!("left_{}", std::process::id());
    let prepared =
        format!("BEGIN; SELECT outbox.write('customer/2', 'order.placed', '{{}}'); PREPARE TRANSACTION '{gid}'");
    session.batch_execute(&prepared).await.unwrap();
    service.write(3).await;
    service.publish();
    assert_eq!(service.lines(), 3);
    let shown = service.place.until("it is named", |place| {
        let shown = place.run(&["status"]).out;
        shown.contains(&gid).then_some(shown)
    });
    assert!(shown.contains("ROLLBACK PREPARED"), "{shown}");
    session.batch_execute(&format!("COMMIT PREPARED '{gid}'")).await.unwrap();
    service.publish();
    assert_eq!(service.lines(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_relay_writes_nothing_but_its_lease() {
    let _nobody_leaves_one_open = LEFT_OPEN.read().await;
    for read in ["poll", "wal"] {
        let service = Service::new().await;
        service.configure(&format!("read = '{read}'"));
        let ran = service.place.run(&["init"]);
        assert_eq!(ran.code, 0, "{}", said(&ran));
        service.write(20).await;
        let relay = service.place.relay();
        if read == "wal" {
            service.log_is_read().await;
        }
        service.place.wait_until(|status| status["routes"][0]["backlog"] == 0);
        // A session that has nothing to do tells of what it wrote ten seconds later (PostgreSQL's `PGSTAT_IDLE_INTERVAL`).
        let told = Duration::from_secs(11);
        let lease = "outbox_relay.leases";
        let others = |writes: &BTreeMap<String, i64>| {
            writes.iter().filter(|(table, _)| *table != lease).map(|(_, writes)| writes).sum::<i64>()
        };
        let mut before = service.writes().await;
        let settled = async {
            loop {
                tokio::time::sleep(told).await;
                let now = service.writes().await;
                let is_same = others(&now) == others(&before) && now[lease] > before[lease];
                before = now;
                if is_same {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(2), settled).await.expect("it comes to rest");
        tokio::time::sleep(told).await;
        let after = service.writes().await;
        assert_eq!(others(&after), others(&before), "{read}: {before:?}, then {after:?}");
        // Every third of a second.
        let renewals = after[lease] - before[lease];
        assert!((1..=55).contains(&renewals), "{read}: the lease was renewed {renewals} times in eleven seconds");
        assert_eq!(relay.stop().code, 0);
        if read == "wal" {
            drop_slots(&service.database).await;
        }
    }
}
