//! A writer in another language: Python with boto3, by `docs/dynamodb.md` alone.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use outbox::Place;

use crate::{fixture::Store, server};

/// The example of the documentation's page, as it stands there.
fn example() -> String {
    let page = include_str!("../../../../docs/dynamodb.md");
    let blocks = page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// Calls what the page defines.
const CALLS: &str = r#"
import sys

connection = dict(endpoint_url=sys.argv[1]) if sys.argv[1] else {}
client = boto3.client("dynamodb", **connection)
tables = Tables(entries=sys.argv[2], heads=sys.argv[3])
item = {"Put": {"TableName": sys.argv[4], "Item": {"id": {"S": "1"}}}}
write(client, tables, "cart/1", [{"type": {"S": "cart.created"}, "data": {"S": '{"n": 1}'}}], [item])
write(client, tables, "cart/1", [
    {"type": {"S": "cart.items-added"}, "data": {"B": b"\xff\x00"}, "content_type": {"S": "application/octet-stream"}},
    {"type": {"S": "cart.checked-out"}, "attributes": {"M": {"subject": {"S": "1"}, "tenant": {"S": "north"}}}},
])
write_without_key(client, tables, {"type": {"S": "shop.opened"}, "id": {"S": "first-day"}})
try:
    write(client, tables, "cart/1", [{"type": {"S": "late"}}], expected=1)
    sys.exit("a late write was taken")
except Conflict:
    pass
"#;

/// Goes on until it has written 20 entries of a key after it saw that somebody else writes there, too, and says how many.
const MEANWHILE: &str = r#"
import sys

connection = dict(endpoint_url=sys.argv[1]) if sys.argv[1] else {}
client = boto3.client("dynamodb", **connection)
tables = Tables(entries=sys.argv[2], heads=sys.argv[3])
written = since = 0
while since < 20:
    try:
        write(client, tables, "cart/1", [{"type": {"S": "from-python"}}])
    except (Conflict, client.exceptions.TransactionCanceledException):
        continue
    written += 1
    # Others get a turn.
    time.sleep(0.02)
    since += int(read(client, tables.heads, "k:cart/1")["sequence"]["N"]) > written
print(written)
"#;

/// A process that runs the page's code, and then `calls`.
fn python(store: &Store, calls: &str) -> Command {
    let mut python = Command::new(server::python());
    python.args(["-c", &format!("{}\n{calls}", example()), server::endpoint().unwrap_or("")]);
    python.args([store.tables.entries(), store.tables.heads(), &store.carts]);
    if server::endpoint().is_some() {
        for (name, value) in
            [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "eu-west-1")]
        {
            if std::env::var_os(name).is_none() {
                python.env(name, value);
            }
        }
    }
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_write_one_key_at_once_leave_no_gap_and_overwrite_nothing() {
    let store = Store::new().await;
    let mut meanwhile = python(&store, MEANWHILE);
    let meanwhile = meanwhile.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = async {
        while store.source().all().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), begun).await.expect("Python writes something within a minute");
    let writer = store.writer().patience(Duration::from_mins(2));
    for _ in 0..20 {
        let mut transaction = writer.transaction();
        transaction.write([crate::fixture::event("cart/1")]);
        transaction.commit().await.unwrap();
    }
    let ran = meanwhile.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let theirs: u64 = String::from_utf8(ran.stdout).unwrap().trim().parse().unwrap();
    let records = store.source().all().await;
    let events = records.iter().flat_map(|record| record.events());
    let places: Vec<_> = events.clone().map(|event| event.placing().unwrap().place).collect();
    assert_eq!(places, (1..=theirs + 20).map(|number| Place::new(1, number, 0)).collect::<Vec<_>>());
    assert_eq!(events.filter(|event| event.kind() == "cart.changed").count(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_written_from_python_are_read_as_ours() {
    let store = Store::new().await;
    let ran = python(&store, CALLS).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(store.cart("1").await.is_some(), "the item of the same transaction");

    // And ours goes on where Python's stopped.
    let mut transaction = store.writer().transaction();
    transaction.write([crate::fixture::event("cart/1")]);
    transaction.commit().await.unwrap();

    let records = store.source().all().await;
    let events: Vec<_> = records.iter().flat_map(|record| record.events().to_vec()).collect();
    let of_cart: Vec<_> = events.iter().filter(|event| event.key().is_some()).collect();
    let shape: Vec<_> = of_cart.iter().map(|event| (event.kind(), event.placing().unwrap().place)).collect();
    let expected = [
        ("cart.created", Place::new(1, 1, 0)),
        ("cart.items-added", Place::new(1, 2, 0)),
        ("cart.checked-out", Place::new(1, 2, 1)),
        ("cart.changed", Place::new(1, 3, 0)),
    ];
    assert_eq!(shape, expected);
    assert_eq!(of_cart[3].placing().unwrap().after, Place::new(1, 2, 1));
    assert_eq!(of_cart[0].data().unwrap().as_ref(), b"{\"n\": 1}");
    assert_eq!(of_cart[1].data().unwrap().as_ref(), b"\xff\x00");
    assert_eq!((of_cart[2].subject(), of_cart[2].extension_text("tenant")), (Some("1"), Some("north")));
    let keyless: Vec<_> = events.iter().filter(|event| event.key().is_none()).map(outbox::Event::id).collect();
    assert_eq!(keyless, ["first-day"]);
}
