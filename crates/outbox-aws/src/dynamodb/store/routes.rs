//! The routes registered in a store: the item `routes` of the table of heads, changed as a whole, on the condition that it is
//! as it was read. What the writers may write changes with it, in the same transaction.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use outbox::{ErrorKind, RouteName, StoreError, store::Registration};

use super::Inner;
use crate::dynamodb::{
    calls::{ALL_OLD, NotCommitted, attempted, names, values},
    item::{self, Item, number, number_of, text},
    schema, source,
};

const READING: &str = "reading the registered routes";
/// Which item they are.
const ROUTES: &str = "routes";

/// All registrations, by name, and how often they changed.
struct Registered {
    by_name: BTreeMap<String, Registration>,
    version: u64,
}

impl Inner {
    async fn registered(&self) -> Result<Registered, StoreError> {
        let key = item::item([("id", text(ROUTES))]);
        let Some(found) = self.calls.get(self.tables.heads(), key).await.map_err(attempted(READING))? else {
            return Ok(Registered { by_name: BTreeMap::new(), version: 0 });
        };
        let unreadable = |what: &str| {
            let message =
                format!("{READING}: {what} cannot be read: restore the item `{ROUTES}` of the table of heads");
            StoreError::new(ErrorKind::Invalid, message)
        };
        let version = number_of(&found, "version").ok_or_else(|| unreadable("`version`"))?;
        let Some(Ok(routes)) = found.get(ROUTES).map(AttributeValue::as_m) else { return Err(unreadable("`routes`")) };
        let read = |(name, value): (&String, &AttributeValue)| {
            let json = value.as_s().ok();
            let registration = json.and_then(|json| serde_json::from_str(json).ok());
            Some((name.clone(), registration?))
        };
        let by_name = routes.iter().map(|route| read(route).ok_or_else(|| unreadable(&format!("route `{}`", route.0))));
        Ok(Registered { by_name: by_name.collect::<Result<_, _>>()?, version })
    }

    /// Every registered route, by name.
    pub(super) async fn routes(&self) -> Result<Vec<Registration>, StoreError> {
        Ok(self.registered().await?.by_name.into_values().collect())
    }

    /// Registers a route, or takes over what may change of one; writes nothing if nothing changes.
    pub(super) async fn register(&self, wanted: Registration) -> Result<Registration, StoreError> {
        // Now is now, whenever the route first asks where it starts.
        let now = source::position_now(wanted.start, self.now()).map(|position| position.to_string());
        self.change("registering a route", |routes| {
            let registered = if let Some(known) = routes.get(wanted.route.as_str()) {
                updated(known.clone(), &wanted)
            } else {
                let start_position = wanted.start_position.clone().or_else(|| now.clone());
                Registration { start_position, ..wanted.clone() }
            };
            routes.insert(wanted.route.as_str().to_owned(), registered.clone());
            Ok(registered)
        })
        .await
    }

    pub(super) async fn rename_route(&self, from: &RouteName, to: &RouteName) -> Result<(), StoreError> {
        self.change("renaming a route", |routes| {
            if routes.contains_key(to.as_str()) {
                let message = format!("a route `{to}` is registered already: choose another name, or retire it first");
                return Err(StoreError::new(ErrorKind::Invalid, message));
            }
            let known = routes.remove(from.as_str()).ok_or_else(|| unknown(from))?;
            routes.insert(to.as_str().to_owned(), Registration { route: to.clone(), ..known });
            Ok(())
        })
        .await
    }

    pub(super) async fn retire_route(&self, route: &RouteName) -> Result<(), StoreError> {
        self.change("retiring a route", |routes| routes.remove(route.as_str()).map(drop).ok_or_else(|| unknown(route)))
            .await
    }

    /// Changes the registrations, and with them the largest event that the writers take; again if somebody else changed them
    /// meanwhile.
    async fn change<T>(
        &self,
        what: &'static str,
        change: impl Fn(&mut BTreeMap<String, Registration>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut pauses = self.calls.pauses();
        loop {
            let known = self.registered().await?;
            let mut routes = known.by_name.clone();
            let given = change(&mut routes)?;
            if routes == known.by_name {
                return Ok(given);
            }
            let actions = vec![self.put_routes(what, &routes, known.version)?, self.limit_events(what, &routes)?];
            let token = self.calls.token();
            match self.calls.transact(actions, &token).await {
                Ok(()) => return Ok(given),
                Err(NotCommitted::Conditions(failed)) if failed.has(1) => {
                    self.claimed.check_store(&failed.items.get(&1).cloned().flatten().unwrap_or_default())?;
                }
                Err(NotCommitted::Conditions(_)) => {}
                Err(NotCommitted::Refused { failure, .. } | NotCommitted::Failed(failure)) => {
                    return Err(failure.store_error(what));
                }
            }
            if !pauses.wait(&*self.calls.clock).await {
                let message = format!("{what}: other processes were faster each time");
                return Err(StoreError::new(ErrorKind::Unavailable, message));
            }
        }
    }

    fn put_routes(
        &self,
        what: &'static str,
        routes: &BTreeMap<String, Registration>,
        seen: u64,
    ) -> Result<TransactWriteItem, StoreError> {
        let json = |(name, registration): (&String, &Registration)| {
            let json = serde_json::to_string(registration);
            let json = json.map_err(|error| StoreError::new(ErrorKind::Invalid, format!("{what}: {error}")))?;
            Ok((name.clone(), text(json)))
        };
        let routes: Item = routes.iter().map(json).collect::<Result<_, StoreError>>()?;
        let routes =
            item::item([("id", text(ROUTES)), ("version", number(seen + 1)), (ROUTES, AttributeValue::M(routes))]);
        let put = Put::builder().table_name(self.tables.heads()).set_item(Some(routes));
        let put = if seen == 0 {
            put.condition_expression("attribute_not_exists(#version)")
        } else {
            put.condition_expression("#version = :seen")
                .set_expression_attribute_values(Some(values([(":seen", number(seen))])))
        };
        let put = put
            .set_expression_attribute_names(Some(names(["version"])))
            .build()
            .map_err(|error| unbuilt(what, &error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// What the writers may write is what every route's sink takes.
    fn limit_events(
        &self,
        what: &'static str,
        routes: &BTreeMap<String, Registration>,
    ) -> Result<TransactWriteItem, StoreError> {
        let least = routes.values().map(|registration| registration.max_event_bytes).min();
        let most = least.unwrap_or(u64::MAX).min(schema::DEFAULT_MAX_EVENT_BYTES);
        let update = Update::builder()
            .table_name(self.tables.heads())
            .set_key(Some(schema::store_key()))
            .update_expression("SET #max_event_bytes = :most")
            .condition_expression("#store_id = :id")
            .set_expression_attribute_names(Some(names(["max_event_bytes", "store_id"])))
            .set_expression_attribute_values(Some(values([(":most", number(most)), (":id", text(&*self.store_id))])))
            .return_values_on_condition_check_failure(ALL_OLD);
        let update = update.build().map_err(|error| unbuilt(what, &error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

/// What is registered once `wanted` is taken over: its start stays, and it is not gapless again once it was not.
fn updated(known: Registration, wanted: &Registration) -> Registration {
    Registration {
        filter: wanted.filter.clone(),
        max_event_bytes: wanted.max_event_bytes,
        gapless: known.gapless && wanted.gapless,
        ..known
    }
}

fn unknown(route: &RouteName) -> StoreError {
    let message = format!("no route `{route}` is registered: `outbox route list` shows those that are");
    StoreError::new(ErrorKind::Invalid, message)
}

/// The SDK's builders miss nothing that is set here.
pub(super) fn unbuilt(what: &str, error: &aws_sdk_dynamodb::error::BuildError) -> StoreError {
    StoreError::new(ErrorKind::Invalid, format!("{what}: {error}"))
}
