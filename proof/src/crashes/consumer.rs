//! A consumer with an inbox in its own database: relay and consumer are killed, and every order counts once.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use fastrand::Rng;
use orders::NewOrder;
use outbox_sql::sqlite;
use rusqlite::{Connection, OpenFlags};

use super::{
    plan::ConsumerFault,
    process::RelayProcess,
    rig::{PATIENCE, Rig, eventually},
    tally::{COMMIT, CONSUMER, CONSUMER_CLOCK, Tally},
    world::LOOK,
};

/// The consumer of the demo that wants every order once and in its order.
const CONSUMER_NAME: &str = "ledger";
/// Signs what the relay sends. It protects nothing here.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CUSTOMERS: usize = 6;
/// Orders that are placed ahead of the consumer at most.
const AHEAD: usize = 40;
/// Ports below the range from which systems take those of outgoing connections, so that a killed consumer finds its own
/// free when it comes back.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

struct Shop {
    rig: Rig,
    rng: Rng,
    orders: Connection,
    port: u16,
    /// Orders of each customer, in the order of their commits.
    placed: BTreeMap<String, Vec<String>>,
    count: usize,
    consumers: usize,
}

/// Kills relay and consumer as `faults` says, has everything published, and holds the consumer's database against what
/// was committed.
pub(super) fn play(binary: &Path, folder: &Path, seed: u64, faults: &[ConsumerFault]) -> Tally {
    let mut shop = Shop::new(binary, folder, seed);
    let mut tally = Tally { worlds: 1, ..Tally::default() };
    let mut relay = shop.relay();
    let mut consumer = shop.consumer(&[]);
    for fault in faults {
        match fault {
            ConsumerFault::Commit(side, nth) => {
                // At its first commits, whatever they are: events, or what was kept.
                consumer.kill();
                consumer = shop.consumer(&[("OUTBOX_CRASH_AT", &format!("Transact:{side}:{nth}"))]);
                shop.until("the consumer has died", |_| consumer.has_ended().is_some());
                let status = consumer.has_ended().unwrap();
                assert_eq!(status.signal(), Some(9), "the consumer ended by itself: {}", consumer.log());
                consumer = shop.consumer(&[]);
                tally.note(COMMIT);
                tally.deaths += 2;
            }
            ConsumerFault::Consumer(after) => {
                shop.apply(*after);
                consumer.kill();
                consumer = shop.consumer(&[]);
                tally.note(CONSUMER);
                tally.deaths += 1;
            }
            ConsumerFault::Clock(hours) => {
                consumer.kill();
                let file = shop.rig.shift(0);
                consumer = shop.consumer(&[("OUTBOX_WALL_SHIFT", file.to_str().unwrap())]);
                shop.jump(*hours);
                consumer.kill();
                consumer = shop.consumer(&[]);
                tally.note(CONSUMER_CLOCK);
                tally.deaths += 2;
            }
            ConsumerFault::Relay(after) => {
                shop.apply(*after);
                relay.kill();
                relay = shop.relay();
                tally.kill();
            }
        }
    }
    shop.settle();
    assert_eq!(relay.stop().code, 0);
    consumer.kill();
    tally.committed = shop.count as u64;
    tally.accepted = shop.count as u64;
    shop.judge();
    tally
}

impl Shop {
    fn new(binary: &Path, folder: &Path, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let port = std::iter::repeat_with(|| rng.u16(PORTS))
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .unwrap();
        let config = format!(
            "[[route]]\nname = '{CONSUMER_NAME}'\nwindow = {{ events = 32, key_share = 16 }}\n\
             retry = {{ base_delay = '10ms', max_delay = '100ms' }}\n\
             webhook = {{ url = 'http://127.0.0.1:{port}/events', secrets = ['{SECRET}'], encoding = 'batch', max_events = 8, timeout = '5s' }}\n"
        );
        let rig = Rig::new(binary, folder, &config);
        let orders = rig.database();
        Self { rig, rng, orders, port, placed: BTreeMap::new(), count: 0, consumers: 0 }
    }

    fn relay(&self) -> RelayProcess {
        self.rig.relay()
    }

    /// The consumer's process, with these variables.
    fn consumer(&mut self, variables: &[(&str, &str)]) -> RelayProcess {
        self.consumers += 1;
        let mut command = Command::new(self.rig.binary());
        command
            .args(["demo-process", CONSUMER_NAME, "--port", &self.port.to_string(), "--folder"])
            .arg(self.rig.folder())
            .env("OUTBOX_DEMO_SECRET", SECRET)
            .envs(variables.iter().copied())
            // It ends with its standard input.
            .stdin(Stdio::piped());
        RelayProcess::start(command, self.rig.path(&format!("consumer-{}.log", self.consumers)))
    }

    /// Places orders until `is_so`.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        eventually(what, || {
            thread::sleep(LOOK);
            if self.count < self.applied().len() + AHEAD {
                self.place();
            }
            is_so(self).then_some(())
        });
    }

    /// Has the consumer apply so many more.
    fn apply(&mut self, more: usize) {
        let before = self.applied().len();
        self.until("the consumer applies", |shop| shop.applied().len() >= before + more);
    }

    /// The consumer's clock jumps while an order waits for another attempt at its effect.
    fn jump(&mut self, hours: i64) {
        self.apply(1);
        let order = format!("order-{}", self.count + 1);
        let refusing = format!(
            "CREATE TRIGGER not_yet BEFORE INSERT ON applied WHEN NEW.order_id = '{order}' \
             BEGIN SELECT RAISE(ABORT, 'not yet'); END"
        );
        self.ledger().unwrap().execute_batch(&refusing).unwrap();
        self.place();
        self.until("an order waits for another attempt", |shop| shop.inbox()["retrying"] != 0);
        self.rig.shift(hours);
        self.ledger().unwrap().execute_batch("DROP TRIGGER not_yet").unwrap();
        let what = format!("it is applied, the clock being off by {hours} hours");
        self.until(&what, |shop| shop.applied().contains(&order));
    }

    /// What the inbox holds.
    fn inbox(&self) -> serde_json::Value {
        self.rig.json(&["inbox", "status", "--db", self.rig.path("ledger.db").to_str().unwrap()])
    }

    fn settle(&self) {
        eventually("everything is applied", || (self.applied().len() >= self.count).then_some(()));
        self.rig.wait_published();
    }

    fn place(&mut self) {
        let customer = format!("c{}", self.rng.usize(..CUSTOMERS));
        self.count += 1;
        let order_id = format!("order-{}", self.count);
        let (date, amount) = ("1997-01-12".to_owned(), format!("{}.50", self.rng.u8(..)));
        let new = NewOrder { order_id: order_id.clone(), customer: customer.clone(), date, quantity: 1, amount };
        let transaction = self.orders.transaction().unwrap();
        sqlite::write(&transaction, [new.check().unwrap().placed().unwrap()]).unwrap();
        transaction.commit().unwrap();
        self.placed.entry(customer).or_default().push(order_id);
    }

    fn ledger(&self) -> Option<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(self.rig.path("ledger.db"), flags).ok()?;
        connection.busy_timeout(PATIENCE).unwrap();
        Some(connection)
    }

    /// Orders that the consumer has applied, in its order; none before it has its tables.
    fn applied(&self) -> Vec<String> {
        let Some(connection) = self.ledger() else { return Vec::new() };
        let Ok(mut statement) = connection.prepare("SELECT order_id FROM applied ORDER BY id") else {
            return Vec::new();
        };
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Each order once, and those of each customer in the order of their commits.
    fn judge(&self) {
        let applied = self.applied();
        assert_eq!(applied.len(), self.count, "effects against orders");
        for (customer, orders) in &self.placed {
            let found: Vec<_> = applied.iter().filter(|order| orders.contains(order)).collect();
            assert!(found.iter().copied().eq(orders), "effects of {customer}: {found:?}, and its orders {orders:?}");
        }
        let counted: i64 =
            self.ledger().unwrap().query_row("SELECT sum(orders) FROM accounts", [], |row| row.get(0)).unwrap();
        assert_eq!(counted.unsigned_abs(), self.count as u64, "orders in the accounts");
        let status = self.inbox();
        assert_eq!((&status["parked"], &status["dead"]), (&0.into(), &0.into()), "nothing is kept: {status:#}");
    }
}
