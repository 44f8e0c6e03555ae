//! The calls about the table behind the stream.

use serde_json::{Map, Value, json};

use super::{
    Refusal,
    world::{Primary, World, primary},
};

impl World {
    fn entries_name(&self) -> String {
        format!("{}-entries", self.prefix)
    }

    fn is_entries(&self, asked: &Value) -> Result<bool, Refusal> {
        let name = asked["TableName"].as_str().unwrap_or_default();
        match name.strip_prefix(&self.prefix) {
            Some("-entries") => Ok(true),
            Some("-heads") => Ok(false),
            _ => Err(Refusal::new("ResourceNotFoundException", "Requested resource not found")),
        }
    }

    pub(super) fn describe_table(&mut self, asked: &Value) -> Result<Value, Refusal> {
        if !self.is_entries(asked)? {
            return Err(Refusal::new("ValidationException", "only the table of entries is described"));
        }
        let (units, items, bytes) = self.said.unwrap_or((0, self.entries.len() as u64, 0));
        let mut table = json!({
            "TableName": self.entries_name(), "TableStatus": "ACTIVE", "CreationDateTime": self.made,
            "ItemCount": items, "TableSizeBytes": bytes,
            "ProvisionedThroughput": { "ReadCapacityUnits": units, "WriteCapacityUnits": units },
            "BillingModeSummary": { "BillingMode": if units == 0 { "PAY_PER_REQUEST" } else { "PROVISIONED" } },
        });
        if let Some(stream) = self.streams.last() {
            table["LatestStreamArn"] = json!(self.arn(&stream.label));
            table["LatestStreamLabel"] = json!(stream.label);
            if stream.is_enabled {
                table["StreamSpecification"] = json!({ "StreamEnabled": true, "StreamViewType": "NEW_IMAGE" });
            }
        }
        Ok(json!({ "Table": table }))
    }

    pub(super) fn item(&mut self, asked: &Value) -> Result<Value, Refusal> {
        let found = if self.is_entries(asked)? {
            self.entries.get(&primary(&asked["Key"]))
        } else {
            self.heads.get(asked["Key"]["id"]["S"].as_str().unwrap_or_default())
        };
        Ok(found.map_or_else(|| json!({}), |item| json!({ "Item": item })))
    }

    /// A page of the table, key by key and each key's items by their number. Of filters it knows the one by which a recovery
    /// asks for what was recorded since a time.
    pub(super) fn scan(&mut self, asked: &Value) -> Result<Value, Refusal> {
        self.is_entries(asked)?;
        let asked_most = asked["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
        let most = asked_most.unwrap_or(usize::MAX).min(self.habits.items);
        let from: Option<Primary> = asked.get("ExclusiveStartKey").map(primary);
        let begin =
            asked["ExpressionAttributeValues"][":begin"]["N"].as_str().and_then(|begin| begin.parse::<i64>().ok());
        let is_wanted = |item: &&Value| {
            let recorded = item["recorded_at"]["N"].as_str().and_then(|recorded| recorded.parse::<i64>().ok());
            begin.is_none_or(|begin| recorded.is_none_or(|recorded| recorded >= begin))
        };
        let mut behind = self.entries.iter().filter(|(key, _)| from.as_ref().is_none_or(|from| *key > from)).peekable();
        let mut page = Vec::new();
        while let Some((_, item)) = behind.next_if(|_| page.len() < most) {
            page.push(item);
        }
        let scanned = page.len();
        let mut answer = Map::new();
        if let Some(last) = page.last().filter(|_| behind.peek().is_some()) {
            answer.insert("LastEvaluatedKey".to_owned(), json!({ "key": last["key"], "sequence": last["sequence"] }));
        }
        let items: Vec<&Value> = page.into_iter().filter(is_wanted).collect();
        answer.insert("Count".to_owned(), json!(items.len()));
        answer.insert("ScannedCount".to_owned(), json!(scanned));
        answer.insert(
            "ConsumedCapacity".to_owned(),
            json!({ "TableName": self.entries_name(), "CapacityUnits": scanned }),
        );
        answer.insert("Items".to_owned(), json!(items));
        Ok(Value::Object(answer))
    }
}
