//! A scripted stream of DynamoDB: shards that split, roll over, end and are trimmed, iterators that expire, pages that are
//! empty or doubled, listings that contradict each other, a stream that is disabled and enabled again.
//!
//! It speaks as much of the JSON protocol as `dynamodb::StreamsSource` and a store that only reads need:
//! `DescribeStream`, `GetShardIterator` and `GetRecords`, and for the table behind the stream `DescribeTable`, `GetItem` and
//! `Scan`. Nothing is written through it: a test puts items and shards there by its methods.
//!
//! Rule: the API references of DynamoDB Streams and of DynamoDB, 2012-08-10; what no document says, the services were seen to
//! do.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use outbox::Clock;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::http::{Connection, Message, Sent};

mod answer;
mod iterator;
mod shard;
mod table;
mod world;

pub use world::Habits;

use world::World;

/// What the protocol calls itself.
const JSON: &str = "application/x-amz-json-1.0";

/// A table with a stream, for as long as it lives. Cheap methods; none waits.
pub struct StreamServer {
    url: String,
    prefix: String,
    world: Arc<Mutex<World>>,
    listening: JoinHandle<()>,
}

impl Drop for StreamServer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl StreamServer {
    /// The tables `PREFIX-entries` and `PREFIX-heads` as `outbox init` makes them for the producer `/carts`, empty, on
    /// loopback. Records are created by `clock`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(prefix: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let world = Arc::new(Mutex::new(World::new(prefix, clock)));
        let served = world.clone();
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, served.clone()));
            }
        });
        Ok(Self { url, prefix: prefix.to_owned(), world, listening })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.world)
    }

    /// Its endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The prefix of its tables' names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// An entry of `key` as a writer makes it, with one event of the type `cart.changed`, recorded now.
    pub fn entry(&self, key: &str, sequence: u64) -> Value {
        self.world().entry(key, sequence)
    }

    /// Puts an item into the table of entries, and a record of that into the stream: of an insertion, or of a modification
    /// where the item was there.
    pub fn put(&self, item: &Value) {
        let mut world = self.world();
        let kind = if world.store(item) { "MODIFY" } else { "INSERT" };
        world.add(kind, item, true);
    }

    /// Puts items into the table, and their records into the stream in the reverse order.
    pub fn put_reversed(&self, items: &[Value]) {
        let mut world = self.world();
        for item in items {
            world.store(item);
        }
        items.iter().rev().for_each(|item| world.record_insert(item));
    }

    /// Puts an item into the table, of which the stream tells nothing.
    pub fn put_unseen(&self, item: &Value) {
        self.world().store(item);
    }

    /// Puts the record of an insertion into the stream, once more or though there is no such item.
    pub fn record(&self, item: &Value) {
        self.world().record_insert(item);
    }

    /// Has an item expire: it is removed, and the stream tells so, as the service's own doing.
    pub fn expire(&self, key: &str, sequence: u64) {
        self.world().expire(key, sequence);
    }

    /// The shards that take records now.
    pub fn open_shards(&self) -> Vec<String> {
        self.world().open_shards()
    }

    /// The shard that takes the records of `key` now.
    pub fn shard_of(&self, key: &str) -> String {
        self.world().shard_of(key)
    }

    /// Closes a shard; two children take half of its keys each.
    ///
    /// # Panics
    /// If it is not an open shard.
    pub fn split(&self, shard: &str) -> [String; 2] {
        self.world().split(shard)
    }

    /// Closes a shard; a child takes its keys, as every few hours.
    ///
    /// # Panics
    /// If it is not an open shard.
    pub fn roll(&self, shard: &str) -> String {
        self.world().roll(shard)
    }

    /// Lists a child of a shard that looks open still, as listings may for a while. Gives the child.
    pub fn announce(&self, shard: &str) -> String {
        self.world().announce(shard)
    }

    /// Forgets the oldest `records` of a shard.
    pub fn trim(&self, shard: &str, records: usize) {
        self.world().trim(shard, records);
    }

    /// Forgets a shard: it is not listed any more.
    pub fn forget(&self, shard: &str) {
        self.world().forget(shard);
    }

    /// Leaves a shard out of the next `times` pages of a listing that would hold it.
    pub fn hide(&self, shard: &str, times: u32) {
        self.world().hide(shard, times);
    }

    /// Disables the stream: its shards are closed, and can be read on.
    pub fn disable(&self) {
        self.world().disable();
    }

    /// Enables the stream again: another one, with one shard. Gives its label.
    pub fn enable(&self) -> String {
        self.world().enable()
    }

    /// Every iterator that was given so far has expired.
    pub fn expire_iterators(&self) {
        self.world().expire_iterators();
    }

    /// The next `times` calls of `operation` fail with this code.
    pub fn fail(&self, operation: &str, code: &str, times: usize) {
        self.world().fail(operation, code, times);
    }

    /// What it does from now on that nobody would wish for.
    pub fn habits(&self, habits: Habits) {
        self.world().habits = habits;
    }

    /// Says that the table has so many read units a second, items and bytes.
    pub fn say_capacity(&self, units: i64, items: u64, bytes: i64) {
        self.world().said = Some((units, items, bytes));
    }

    /// How many calls of `operation` were made so far.
    pub fn calls(&self, operation: &str) -> usize {
        self.world().calls.iter().filter(|(called, _)| called == operation).count()
    }

    /// The most requests for records that were being answered at a time.
    pub fn most_readers(&self) -> usize {
        self.world().reading.1
    }

    /// The requests of `operation` so far.
    pub fn requests(&self, operation: &str) -> Vec<Value> {
        let world = self.world();
        let calls = world.calls.iter().filter(|(called, _)| called == operation);
        calls.map(|(_, request)| request.clone()).collect()
    }
}

fn locked(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers calls until the client ends the connection.
async fn serve(client: TcpStream, world: Arc<Mutex<World>>) {
    let _ = client.set_nodelay(true);
    let mut client = Connection::new(client);
    while let Ok(Some(request)) = client.receive(Sent::Whole).await {
        let operation = request.header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let operation = operation.unwrap_or_default().to_owned();
        let asked = serde_json::from_slice(&request.body).unwrap_or_default();
        let (answer, delay) = {
            let mut world = locked(&world);
            let (reading, most) = world.reading;
            let reading = reading + usize::from(operation == "GetRecords");
            world.reading = (reading, most.max(reading));
            (world.answer(&operation, &asked), world.habits.delay)
        };
        tokio::time::sleep(delay).await;
        if operation == "GetRecords" {
            locked(&world).reading.0 -= 1;
        }
        let message = match answer {
            Ok(answer) => Message::answer(200, JSON, answer),
            Err(refusal) => Message::answer(400, JSON, refusal.body()),
        };
        if client.send(&message, Sent::Whole).await.is_err() {
            return;
        }
    }
}

/// A call that is refused.
struct Refusal {
    code: String,
    message: String,
}

impl Refusal {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    fn body(&self) -> String {
        json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{}", self.code), "message": self.message })
            .to_string()
    }
}
