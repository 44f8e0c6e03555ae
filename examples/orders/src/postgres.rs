//! On PostgreSQL: the same transaction, on as many connections as there are requests at a time.

use async_trait::async_trait;
use deadpool::managed::{Manager, Metrics, Pool, PoolError, RecycleError, RecycleResult};
use outbox::{Place, StoreError};
use outbox_sql::postgres::{self, ConnectOptions, InitOptions, Writer};
use tokio_postgres::{Client, GenericClient, Row, Transaction, types::Type};

use crate::{
    money::Cents,
    order::Order,
    service::{CustomerTotals, OrdersError, Placed, Store},
};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        order_id text PRIMARY KEY,
        customer text NOT NULL,
        date text NOT NULL,
        quantity bigint NOT NULL,
        cents bigint NOT NULL,
        sequence bigint NOT NULL
    );
    CREATE INDEX IF NOT EXISTS orders_of_customer ON orders (customer);
";
/// Connections at most; requests beyond wait for one.
const CONNECTIONS: usize = 16;

/// Orders in a PostgreSQL database.
pub(crate) struct PostgresOrders {
    pool: Pool<Connections>,
    writer: Writer,
}

struct Connections(ConnectOptions);

impl Manager for Connections {
    type Type = Client;
    type Error = StoreError;

    async fn create(&self) -> Result<Client, StoreError> {
        postgres::connect(&self.0).await
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> RecycleResult<StoreError> {
        if client.is_closed() { Err(RecycleError::message("it is closed")) } else { Ok(()) }
    }
}

impl PostgresOrders {
    pub(crate) async fn connect(options: ConnectOptions, producer: &str) -> Result<Self, OrdersError> {
        let mut client = postgres::connect(&options).await?;
        client.batch_execute(TABLES).await?;
        postgres::init(&mut client, &InitOptions::new(producer)).await?;
        let pool = Pool::builder(Connections(options)).max_size(CONNECTIONS).build();
        Ok(Self { pool: pool.map_err(|error| OrdersError::Store(error.to_string()))?, writer: Writer::new() })
    }

    async fn client(&self) -> Result<deadpool::managed::Object<Connections>, OrdersError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            error => OrdersError::Busy(error.to_string()),
        })
    }
}

#[async_trait]
impl Store for PostgresOrders {
    async fn place(&self, order: Order) -> Result<Placed, OrdersError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let placed = place(&transaction, &self.writer, order).await?;
        transaction.commit().await?;
        Ok(placed)
    }

    async fn order(&self, id: String) -> Result<Option<Order>, OrdersError> {
        Ok(find(&*self.client().await?, &id).await?.map(|(order, _)| order))
    }

    async fn customer(&self, id: String) -> Result<Option<CustomerTotals>, OrdersError> {
        const TOTALS: &str = "SELECT count(*), coalesce(sum(quantity), 0)::bigint, coalesce(sum(cents), 0)::bigint \
             FROM orders WHERE customer = $1";
        let row = self.client().await?.query_typed_opt(TOTALS, &[(&id, Type::TEXT)]).await?;
        let totals = row.map(|row| {
            let total = Cents(row.try_get(2)?);
            Ok::<_, OrdersError>(CustomerTotals {
                customer: id,
                orders: row.try_get(0)?,
                units: row.try_get(1)?,
                total,
            })
        });
        Ok(totals.transpose()?.filter(|totals| totals.orders > 0))
    }

    async fn check(&self) -> Result<(), OrdersError> {
        Ok(self.client().await?.batch_execute("SELECT 1").await?)
    }
}

/// The whole pattern: in the caller's transaction, the order's row and the event about it.
async fn place(transaction: &Transaction<'_>, writer: &Writer, order: Order) -> Result<Placed, OrdersError> {
    if let Some((before, sequence)) = find(transaction, &order.order_id).await? {
        let order_id = order.order_id.clone();
        return if before == order {
            Ok(Placed::Before { order_id, sequence })
        } else {
            Err(OrdersError::Reused { order_id })
        };
    }
    let event = order.placed().map_err(|error| OrdersError::Event(error.to_string()))?;
    let receipt = writer.write(transaction, event).await?;
    let sequence = receipt.first.map_or(0, |Place { sequence, .. }| sequence);
    let added = transaction
        .execute_typed(
            "INSERT INTO orders (order_id, customer, date, quantity, cents, sequence) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT DO NOTHING",
            &[
                (&order.order_id, Type::TEXT),
                (&order.customer, Type::TEXT),
                (&order.date.to_string(), Type::TEXT),
                (&order.quantity, Type::INT8),
                (&order.amount.0, Type::INT8),
                (&sequence.cast_signed(), Type::INT8),
            ],
        )
        .await?;
    if added == 0 {
        // The same request, sent twice at once: the other one has placed it. This transaction leaves nothing.
        return Err(OrdersError::Busy(format!("order `{}` is being placed", order.order_id)));
    }
    Ok(Placed::New { order_id: order.order_id, sequence })
}

async fn find(client: &impl GenericClient, id: &str) -> Result<Option<(Order, u64)>, OrdersError> {
    const ORDER: &str = "SELECT customer, date, quantity, cents, sequence FROM orders WHERE order_id = $1";
    let row = client.query_typed_opt(ORDER, &[(&id, Type::TEXT)]).await?;
    row.map(|row| order(id, &row)).transpose()
}

fn order(id: &str, row: &Row) -> Result<(Order, u64), OrdersError> {
    let date: &str = row.try_get(1)?;
    let date = date.parse().map_err(|_| OrdersError::Store(format!("order `{id}` has a `date` that is none")))?;
    let order = Order {
        order_id: id.to_owned(),
        customer: row.try_get(0)?,
        date,
        quantity: row.try_get(2)?,
        amount: Cents(row.try_get(3)?),
    };
    Ok((order, row.try_get::<_, i64>(4)?.unsigned_abs()))
}
