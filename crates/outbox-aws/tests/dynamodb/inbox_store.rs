//! The suite that every inbox passes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, Put, TransactWriteItem},
};
use outbox::{
    Event,
    inbox::{Answer, Handler},
    testing::conformance::inbox::{InboxUnderTest, Script},
};
use outbox_aws::{
    dynamodb::{DynamoInbox, DynamoTx, InboxOptions},
    iam::Role,
};

use crate::{
    fixture::{make_table, unused_prefix},
    rights::client_as,
    server,
};

/// Does `work` on a runtime of its own, and waits for it: the suite's benches are made and looked into at once.
pub(crate) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime().block_on(work)).join().unwrap()
}

/// An inbox in a table of its own, with its effects in a table beside it.
pub(crate) struct Bench {
    pub(crate) client: Client,
    pub(crate) inboxes: String,
    pub(crate) effects: String,
    written: Arc<AtomicU64>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        wait(async {
            let (client, prefix) = (server::client().await, unused_prefix());
            let (inboxes, effects) = (format!("{prefix}-inboxes"), format!("{prefix}-effects"));
            let making = client_as(Role::Init).await;
            DynamoInbox::init(&making, &inboxes, "tests", &InboxOptions::default()).await.unwrap();
            make_table(&client, &effects, "id").await;
            Self { client, inboxes, effects, written: Arc::default() }
        })
    }
}

fn put_effect(table: &str, number: u64, effect: &str) -> TransactWriteItem {
    let put = Put::builder().table_name(table).item("id", AttributeValue::S(format!("{number:09}")));
    let put = put.item("effect", AttributeValue::S(effect.to_owned()));
    TransactWriteItem::builder().put(put.build().unwrap()).build()
}

impl Drop for Bench {
    fn drop(&mut self) {
        server::drop_tables(vec![self.inboxes.clone(), self.effects.clone()]);
    }
}

/// Writes the effect, then answers by the script.
pub(crate) struct Scripted {
    script: Script,
    effects: String,
    written: Arc<AtomicU64>,
}

impl Handler<DynamoTx<'_>> for Scripted {
    async fn handle(&self, tx: &mut DynamoTx<'_>, event: &Event) -> Answer {
        let number = self.written.fetch_add(1, Ordering::SeqCst);
        tx.effect().action(put_effect(&self.effects, number, &Script::effect(event)));
        self.script.answer(event)
    }
}

impl InboxUnderTest for Bench {
    type Store = DynamoInbox;
    type Handler = Scripted;

    fn open(&self) -> DynamoInbox {
        // A client of its own, as of another process.
        let client = wait(client_as(Role::Inbox));
        DynamoInbox::open(&client, &self.inboxes, "tests", InboxOptions::default()).unwrap()
    }

    fn handler(&self, script: Script) -> Scripted {
        Scripted { script, effects: self.effects.clone(), written: self.written.clone() }
    }

    fn effects(&self) -> Vec<String> {
        let table = self.effects.clone();
        wait(async move {
            let scan = server::client().await.scan().table_name(table).consistent_read(true);
            let mut items = scan.into_paginator().items().send();
            let mut effects = Vec::new();
            while let Some(item) = items.next().await {
                let item = item.unwrap();
                effects.push((item["id"].as_s().unwrap().clone(), item["effect"].as_s().unwrap().clone()));
            }
            effects.sort();
            effects.into_iter().map(|(_, effect)| effect).collect()
        })
    }
}

outbox::inbox_conformance!(Bench::new());
