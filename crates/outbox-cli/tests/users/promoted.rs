//! A standby takes over under a relay that runs, and lacks what that has published.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tokio_postgres::Client;

use crate::{
    cluster::Cluster,
    company::{log_is_read, until},
    place::Place,
};

async fn write(session: &Client, count: u32) {
    let sql =
        format!("SELECT outbox.write('customer/' || n % 3, 'order.placed', '1') FROM generate_series(1, {count}) AS n");
    session.batch_execute(&sql).await.unwrap();
}

/// The ids that were published, each where it came first.
fn published(place: &Place) -> Vec<String> {
    let text = place.read("ledger.jsonl");
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut known = BTreeSet::new();
    let ids = events.map(|event| event["id"].as_str().unwrap().to_owned());
    ids.filter(|id| known.insert(id.clone())).collect()
}

/// The ids that the table has, in the order of the keys' numbers.
async fn committed(session: &Client) -> Vec<String> {
    let sql = "SELECT key || '@' || incarnation || '.' || sequence || '.0' FROM outbox.entries ORDER BY id";
    session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn a_lagging_standby_is_adopted(read: &str) {
    let mut cluster = Cluster::start("").await;
    let standby = cluster.standby().await;
    let (proxy, url) = cluster.proxied().await;
    let place = Place::new();
    place.write(
        "outbox.toml",
        &format!(
            "[store]\npostgres = '{url}'\nproducer = '/orders'\nread = '{read}'\n[relay]\nfailover = '1s'\n\
             [[route]]\nname = 'ledger'\nfile = 'ledger.jsonl'\n"
        ),
    );
    let ran = place.run(&["init"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let mut relay = place.relay();
    if read == "wal" {
        log_is_read(&url).await;
    }
    write(&cluster.session().await, 20).await;
    until("all is published", async || published(&place).len() == 20).await;
    until("the standby has it", async || committed(&standby.session().await).await.len() == 20).await;
    standby.stop_following().await;
    write(&cluster.session().await, 10).await;
    until("what the standby lacks is published", async || published(&place).len() == 30).await;
    cluster.stop();
    standby.take_over(&proxy);
    let ending = async {
        while !relay.has_ended() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ending).await.expect("the relay ends");
    let ran = relay.wait();
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("outbox adopt"), "{}", ran.err);
    let again = place.run(&["relay"]);
    assert_eq!(again.code, 4, "nor does another begin: {}", again.err);
    assert_eq!(published(&place).len(), 30, "nothing of it is published");
    let ran = place.run(&["adopt", "--yes", "--entries", "keep"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);

    let relay = place.relay();
    let session = standby.session().await;
    // As many as were lost, and with their numbers, but for the incarnation.
    write(&session, 10).await;
    let mut committed = committed(&session).await;
    until("what it has is published", async || {
        let published = published(&place);
        committed.iter().all(|id| published.contains(id))
    })
    .await;
    let ran = relay.stop();
    assert_eq!(ran.code, 0, "{}", ran.err);
    let mut there = published(&place);
    assert_eq!(there.len(), 40, "what was lost stays published, and what came in its place has ids of its own");
    there.retain(|id| committed.contains(id));
    for ids in [&mut there, &mut committed] {
        ids.sort_by_key(|id| id.split_once('@').map(|(key, _)| key.to_owned()));
    }
    assert_eq!(there, committed, "each key's in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_without_what_was_published_stops_the_relay_and_is_adopted() {
    a_lagging_standby_is_adopted("poll").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_takes_over_without_what_was_published_from_the_log_stops_the_relay_and_is_adopted() {
    a_lagging_standby_is_adopted("wal").await;
}
