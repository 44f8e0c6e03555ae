//! Rows that are in the log alone: deleted at once, or without a growing id.

use std::{sync::Arc, time::Duration};

use outbox::{
    BusinessStore, ErrorKind, Position, Source, Start,
    source::Limit,
    store::{Agreement, Witness},
};
use outbox_sql::postgres::{
    Layout, Mapping,
    wal::{LogStore, WalSettings},
};

use crate::{
    cluster::Cluster,
    fixture::until,
    foreign::{DEBEZIUM, Foreign, SEED, begin, insert, kinds, page, partition, read},
};

/// What reading behind `after` fails with.
async fn failure(store: &LogStore, after: &Position) -> (ErrorKind, String) {
    for _ in 0..200 {
        match page(store, after, 10).await {
            Err(error) => return (error.kind(), error.to_string()),
            Ok(page) => assert!(page.records.is_empty() && page.more, "it reads on: {page:?}"),
        }
    }
    panic!("nothing is said of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_deleted_by_the_transaction_that_wrote_it_is_read() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    service.sql(&format!("BEGIN; {}; DELETE FROM outboxevent; COMMIT", insert("1", "created"))).await;
    service.sql(&format!("BEGIN; {}; DELETE FROM outboxevent; ROLLBACK", insert("1", "never"))).await;
    service
        .sql(&format!("BEGIN; {}; {}; TRUNCATE outboxevent; COMMIT", insert("2", "created"), insert("1", "renamed")))
        .await;
    service.write("1", "stays").await;
    service.sql("UPDATE outboxevent SET type = 'changed'; DELETE FROM outboxevent").await;
    let (records, end) = read(&store, &start, 2).await;
    assert_eq!(kinds(&records), ["created", "created", "renamed", "stays"]);
    let event = &records[0].events()[0];
    assert_eq!(event.key().map(outbox::Key::as_str), Some("user/1"));
    assert!(event.id().len() == 36 && event.data().is_some(), "{event:?}");
    assert!(read(&store, &end, 2).await.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_place_is_read_on_from_by_any_process() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    for number in 0..4 {
        let rows: Vec<_> = (0..=number).map(|row| insert("1", &format!("{number}.{row}"))).collect();
        service.sql(&format!("BEGIN; {}; COMMIT", rows.join("; "))).await;
    }
    let (whole, _) = read(&store, &start, 3).await;
    assert_eq!(whole.len(), 10);
    let other = service.open().await.unwrap();
    for (index, record) in whole.iter().enumerate().rev() {
        let (behind, _) = read(&other, &record.position, 2).await;
        assert_eq!(kinds(&behind), kinds(&whole[index + 1..]), "behind {}", record.position);
        let same: Vec<_> = behind.iter().map(|record| (record.position.clone(), record.commit)).collect();
        let before: Vec<_> = whole[index + 1..].iter().map(|record| (record.position.clone(), record.commit)).collect();
        assert_eq!(same, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_an_id_of_its_own_gives_stable_ids() {
    let mapping = Mapping::new("events", "", "kind", "body").without_id().key(["whose"]);
    let service = Foreign::with("CREATE TABLE events (whose text, kind text, body text)", mapping).await;
    let (store, start) = service.begun().await;
    service.sql("INSERT INTO events VALUES ('a', 't', '1'), ('a', 't', '1'), ('a', 't', '{'), ('a', 't', '{')").await;
    let (first, _) = read(&store, &start, 10).await;
    let (second, _) = read(&service.open().await.unwrap(), &start, 1).await;
    let ids = |records: &[Arc<outbox::Record>]| {
        records
            .iter()
            .map(|record| match &record.content {
                outbox::Content::Events(events) => events.iter().map(|event| event.id().to_owned()).collect::<String>(),
                outbox::Content::Undecodable(row) => row.id.to_string(),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&second));
    let unique: std::collections::BTreeSet<_> = ids(&first).into_iter().collect();
    assert_eq!(unique.len(), 4, "two rows of rubbish are two dead letters: {unique:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_for_the_route_that_is_furthest_behind_and_let_go_of_behind_it() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    for number in 0..6 {
        service.write("1", &number.to_string()).await;
    }
    let (records, _) = read(&store, &start, 10).await;
    let passed = &records[2].position;
    store.keep_status(passed).await.unwrap();
    // The relay is started anew, with routes there and further.
    let again = service.open().await.unwrap();
    for index in 2..6 {
        let (behind, _) = read(&again, &records[index].position, 10).await;
        assert_eq!(kinds(&behind), kinds(&records[index + 1..]));
    }
    let (kind, said) = failure(&again, &records[1].position).await;
    assert_eq!(kind, ErrorKind::HistoryChanged, "what is let go of is not passed over in silence: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_stops_the_relay_and_is_settled_by_adopting() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    service.write("1", "read").await;
    let (records, end) = read(&store, &start, 10).await;
    let witness = Witness { position: records[0].position.clone(), commit: records[0].commit };
    store.keep_status(&end).await.unwrap();
    assert_eq!(store.agreement(std::slice::from_ref(&witness)).await.unwrap(), Agreement::Whole);
    drop(store);
    until("the copy is gone", async || {
        service.text(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name ^@ '{}_'", service.slot)).await
            == "0"
    })
    .await;
    service.sql(&format!("SELECT pg_drop_replication_slot('{}')", service.slot)).await;
    service.write("1", "lost").await;
    let store = service.open().await.unwrap();
    let (kind, said) = failure(&store, &end).await;
    assert!(kind == ErrorKind::HistoryChanged && said.contains("outbox adopt") && said.contains("dropped"), "{said}");
    let refused = begin(&store, "second", Start::Now).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::HistoryChanged, "{refused}");
    assert_eq!(store.keep_status(&end).await.unwrap_err().kind(), ErrorKind::HistoryChanged);
    let found = store.agreement(std::slice::from_ref(&witness)).await.unwrap();
    assert!(matches!(found, Agreement::Lost { agreed: None, .. }), "{found:?}");
    store.raise_incarnation(None, false).await.unwrap();
    service.write("1", "then").await;
    // A route goes on wherever it stood.
    for after in [&start, &end] {
        assert_eq!(kinds(&read(&store, after, 10).await.0), ["then"]);
    }
    assert_eq!(store.agreement(std::slice::from_ref(&witness)).await.unwrap(), Agreement::Whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_others_moved_on_is_noticed() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    service.write("1", "lost").await;
    let advance = "SELECT pg_replication_slot_advance('@', pg_current_wal_insert_lsn())".replace('@', &service.slot);
    service.sql(&advance).await;
    let (kind, said) = failure(&store, &start).await;
    assert!(kind == ErrorKind::HistoryChanged && said.contains("moved on"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_changed_meanwhile_is_noticed() {
    let changes = [
        "ALTER PUBLICATION outbox DROP TABLE outboxevent; ALTER PUBLICATION outbox ADD TABLE outboxevent",
        "ALTER PUBLICATION outbox SET (publish = 'update'); ALTER PUBLICATION outbox SET (publish = 'insert')",
        "DROP PUBLICATION outbox; CREATE PUBLICATION outbox FOR TABLE outboxevent WITH (publish_via_partition_root)",
    ];
    for change in changes {
        let service = Foreign::debezium().await;
        let (store, start) = service.begun().await;
        service.sql("CREATE TABLE other (id int PRIMARY KEY); ALTER PUBLICATION outbox ADD TABLE other").await;
        service.write("1", "read").await;
        let (records, end) = read(&store, &start, 10).await;
        assert_eq!(kinds(&records), ["read"], "another table beside ours is nobody's loss");
        service.sql(change).await;
        assert_eq!(store.keep_status(&end).await.unwrap_err().kind(), ErrorKind::HistoryChanged, "{change}");
        let (kind, said) = failure(&service.open().await.unwrap(), &end).await;
        assert!(kind == ErrorKind::HistoryChanged && said.contains("publication"), "{change}: {said}");
        // What it does hold is not given up by adopting.
        service.write("1", "kept").await;
        let store = service.open().await.unwrap();
        store.raise_incarnation(None, false).await.unwrap();
        assert_eq!(kinds(&read(&store, &end, 10).await.0), ["kept"], "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_without_a_publication_stops_the_relay_and_is_settled_by_adopting() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    service.write("1", "read").await;
    let (_, end) = read(&store, &start, 10).await;
    drop(store);
    service.sql("DROP PUBLICATION outbox").await;
    service.write("1", "lost").await;
    let publish = service.mapping.publication_sql(&service.client, "outbox").await.unwrap();
    service.sql(&publish).await;
    service.write("1", "behind it").await;
    let store = service.open().await.unwrap();
    let (kind, said) = failure(&store, &end).await;
    assert!(kind == ErrorKind::HistoryChanged && said.contains("outbox adopt"), "{said}");
    store.raise_incarnation(None, false).await.unwrap();
    service.write("1", "then").await;
    let came = kinds(&read(&store, &end, 10).await.0);
    assert_eq!(came.last().map(String::as_str), Some("then"), "{came:?}");
    // From PostgreSQL 18 on the server gives what was written before and since.
    assert!(came == ["then"] || came == ["behind it", "then"], "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_another_log_is_noticed() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    service.write("1", "a").await;
    service.write("1", "b").await;
    let (records, _) = read(&store, &start, 10).await;
    let at = records[0].position.as_str();
    let (name, rest) = at.split_once('@').unwrap();
    let (_, xid) = name.split_once('.').unwrap();
    let other_xid = at.replace(&format!(".{xid}@"), &format!(".{}@", xid.parse::<u64>().unwrap() + 1));
    let more_rows = format!("2.{xid}@{}", rest.replace("~1/", "~2/"));
    let (before, lsn) = at.rsplit_once('/').unwrap();
    let another_place = format!("{before}/{:X}", u64::from_str_radix(lsn, 16).unwrap() - 8);
    let ahead = format!("{before}/{:X}", u64::from_str_radix(lsn, 16).unwrap() + (1 << 32));
    for wrong in [other_xid, more_rows, another_place, ahead] {
        let (kind, said) = failure(&store, &Position::new(&wrong)).await;
        assert_eq!(kind, ErrorKind::HistoryChanged, "{wrong}: {said}");
        assert!(said.contains("outbox adopt"), "{said}");
    }
    assert_eq!(kinds(&read(&store, &start, 10).await.0), ["a", "b"], "and the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_table_lets_go_of_the_log_of_others() {
    let service = Foreign::on(Cluster::start(""), DEBEZIUM, Mapping::of(Layout::Debezium)).await;
    let (store, start) = service.begun().await;
    let mut at = start;
    service.sql("CREATE TABLE noise (text text)").await;
    for _ in 0..3 {
        service
            .sql("INSERT INTO noise SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) AS n; CHECKPOINT")
            .await;
        let before = at.clone();
        until("the position moves with the log of others", async || {
            let (records, next) = read(&store, &at, 10).await;
            assert!(records.is_empty());
            store.order(&next, &before).is_gt() && {
                store.keep_status(&next).await.unwrap();
                true
            }
        })
        .await;
        at = read(&store, &at, 10).await.1;
    }
    let held = async || -> u64 {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn) FROM pg_replication_slots WHERE slot_name = '@'";
        service.text(&sql.replace('@', &service.slot)).await.parse().unwrap()
    };
    let held = held().await;
    assert!(held < 40 << 20, "{held} bytes are held");
    // A relay that is started now finds nothing wrong, though it has read no row yet.
    let store = service.open().await.unwrap();
    assert_eq!(store.agreement(&[]).await.unwrap(), Agreement::Whole);
    service.write("1", "b").await;
    assert_eq!(kinds(&read(&store, &at, 10).await.0), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_history_is_refused_with_the_remedy() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    let second = begin(&store, "second", Start::Beginning).await.unwrap();
    assert_eq!(second, start, "nothing is past yet");
    service.write("1", "a").await;
    let (records, end) = read(&store, &start, 10).await;
    store.keep_status(&end).await.unwrap();
    let refused = begin(&store, "third", Start::Beginning).await.unwrap_err();
    assert!(refused.to_string().contains("start = \"now\""), "{refused}");
    let now = begin(&store, "third", Start::Now).await.unwrap();
    let then = begin(&store, "fourth", Start::Time(records[0].recorded)).await.unwrap_err();
    assert!(then.to_string().contains("mapping.id"), "{then}");
    service.write("1", "b").await;
    assert_eq!(kinds(&read(&store, &now, 10).await.0), ["b"]);
    assert_eq!(begin(&store, "first", Start::Beginning).await.unwrap(), start, "what is registered stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_in_the_log_alone_is_refused() {
    let service = Foreign::with(SEED, Mapping::of(Layout::PollingOutbox).without_id().without_status()).await;
    let open = async |mapping: Mapping| LogStore::open(service.options(), mapping, service.settings()).await;
    open(service.mapping.clone()).await.unwrap();
    let status = open(Mapping::of(Layout::PollingOutbox)).await.err().unwrap().to_string();
    assert!(status.contains("mapping.status"), "{status}");
    service.sql("SELECT outbox.write('k', 't', '1'::json)").await;
    let beside = open(service.mapping.clone()).await.err().unwrap().to_string();
    assert!(beside.contains("outbox.entries"), "{beside}");
    service.sql("DELETE FROM outbox.entries; DROP PUBLICATION outbox; ALTER TABLE outbox SET UNLOGGED").await;
    let unlogged = open(service.mapping.clone()).await.err().unwrap().to_string();
    assert!(unlogged.contains("unlogged"), "{unlogged}");
    let long =
        LogStore::open(service.options(), service.mapping.clone(), WalSettings::new().slot("x".repeat(53))).await;
    assert!(long.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_a_polled_table_does_not_go_on_in_the_log() {
    let service = Foreign::with(SEED, Mapping::of(Layout::PollingOutbox)).await;
    let store = service.store().await;
    store.register(crate::foreign::registration("first", Start::Beginning)).await.unwrap();
    let mapping = service.mapping.clone().without_id().without_status();
    let alone = LogStore::open(service.options(), mapping, service.settings()).await.unwrap();
    let refused = begin(&alone, "second", Start::Now).await.unwrap_err().to_string();
    assert!(refused.contains("outbox route retire first"), "{refused}");
    assert!(alone.read(&partition(), &Position::new("@0/0/0"), Limit { events: 1, bytes: 1 }).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_waits_at_the_server() {
    let service = Foreign::debezium().await;
    let (store, start) = service.begun().await;
    service
        .sql(
            "INSERT INTO outboxevent (aggregatetype, aggregateid, type, payload) \
             SELECT 'user', (n % 7)::text, n::text, to_jsonb(repeat('x', 2000)) FROM generate_series(1, 20000) AS n",
        )
        .await;
    let (records, _) = tokio::time::timeout(Duration::from_secs(120), read(&store, &start, 500)).await.unwrap();
    let numbers: Vec<u32> = kinds(&records).iter().map(|kind| kind.parse().unwrap()).collect();
    assert_eq!(numbers, (1..=20_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_shot_loses_nothing_and_doubles_nothing() {
    let service = Foreign::on(Cluster::start(""), DEBEZIUM, Mapping::of(Layout::Debezium)).await;
    let (store, start) = service.begun().await;
    let (mut at, mut came) = (start, Vec::new());
    for round in 0..3 {
        let client = service.database.session().await;
        for number in 0..20 {
            let kind = format!("{round}.{number}");
            client
                .batch_execute(&format!("BEGIN; {}; DELETE FROM outboxevent; COMMIT", insert("1", &kind)))
                .await
                .unwrap();
        }
        if round == 1 {
            let (records, next) = read(&store, &at, 7).await;
            came.extend(kinds(&records));
            at = next;
            store.keep_status(&at).await.unwrap();
        }
        service.database.cluster.restart("immediate");
    }
    until("all has come", async || match page(&store, &at, 7).await {
        Err(error) => {
            assert!(error.kind().retry(), "{error}");
            false
        }
        Ok(_) => true,
    })
    .await;
    came.extend(kinds(&read(&store, &at, 7).await.0));
    let all: Vec<_> = (0..3).flat_map(|round| (0..20).map(move |number| format!("{round}.{number}"))).collect();
    assert_eq!(came, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_standby_is_not_given_out_before_it_can_be_seen() {
    let service = Foreign::on(Cluster::start(""), DEBEZIUM, Mapping::of(Layout::Debezium)).await;
    let (store, start) = service.begun().await;
    // There is no such standby, so every commit waits for it.
    service.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    service.sql("SELECT pg_reload_conf()").await;
    until("commits wait for the standby", async || {
        service.text("SELECT current_setting('synchronous_standby_names')").await == "nobody"
    })
    .await;
    let client = service.database.session().await;
    let waiting = tokio::spawn(async move { client.batch_execute(&insert("1", "waits")).await.unwrap() });
    until("the commit waits", async || {
        service.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").await == "1"
    })
    .await;
    service.sql(&format!("SET synchronous_commit = local; {}", insert("2", "own way"))).await;
    let (records, _) = read(&store, &start, 10).await;
    assert_eq!(kinds(&records), Vec::<String>::new(), "nor what comes behind it");
    assert!(!waiting.is_finished());
    service.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
    service.sql("SELECT pg_reload_conf()").await;
    waiting.await.unwrap();
    until("both are given out", async || kinds(&read(&store, &start, 10).await.0) == ["waits", "own way"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_rights_to_replicate_and_of_a_relay_needs_none_of_the_table() {
    let service = Foreign::debezium().await;
    let role = format!("{}_relay", service.database.name);
    let grants = outbox_sql::postgres::Grants::new().relay(&role).sql();
    service
        .sql(&format!("REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE ROLE {role} LOGIN REPLICATION; {grants}"))
        .await;
    service.sql(&service.mapping.grants(&service.client, &role).await.unwrap()).await;
    let url = service.database.url().replace("postgres@", &format!("{role}@"));
    let options = outbox_sql::postgres::ConnectOptions::parse(&url).unwrap();
    let store = LogStore::open(options, service.mapping.clone(), service.settings()).await.unwrap();
    let start = begin(&store, "first", Start::Beginning).await.unwrap();
    service.write("1", "a").await;
    let (records, end) = read(&store, &start, 10).await;
    assert_eq!(kinds(&records), ["a"]);
    store.keep_status(&end).await.unwrap();
    store.raise_incarnation(None, false).await.unwrap();
    drop(store);
    until("the role's sessions end", async || {
        service.text(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")).await == "0"
    })
    .await;
    service.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
