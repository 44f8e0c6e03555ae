//! Users and the events about them, in one transaction.

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use outbox::{NewEvent, StoreError, WriteError};
use outbox_sql::postgres::{self, ConnectOptions, InitOptions};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::{Client, Row, Transaction, types::Type};

/// Connections at most; requests beyond wait for one.
const CONNECTIONS: usize = 16;

const USERS: &str = "
    CREATE TABLE IF NOT EXISTS users (
        user_id bigint PRIMARY KEY,
        name text NOT NULL,
        version bigint NOT NULL
    );
";

/// As the service has always had it, and one column that says whose event it is: it is worked out of the payload, so the
/// statement that inserts stays what it was.
const OWN_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS Outbox (
        Id SERIAL PRIMARY KEY,
        EventType VARCHAR(255),
        Payload JSON,
        Status VARCHAR(50),
        CreatedAt TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    );
    ALTER TABLE Outbox ADD COLUMN IF NOT EXISTS UserId text GENERATED ALWAYS AS (Payload ->> 'userId') STORED;
";

/// Where events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTable {
    /// The service's own table, which a relay reads by a mapping.
    Own,
    /// Outbox's.
    Native,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Who.
    pub user_id: i64,
    /// What they are called.
    pub name: String,
    /// 1, and one more with every change: as many events there are about the user.
    pub version: i64,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// There is no such user.
    #[error("there is no user {0}")]
    Missing(i64),
    /// The database failed, or is busy. Nothing was written, or it is not known.
    #[error("the database failed: {0}; send the request again")]
    Database(String),
}

impl From<tokio_postgres::Error> for UsersError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string))
    }
}

impl From<StoreError> for UsersError {
    fn from(error: StoreError) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<WriteError> for UsersError {
    fn from(error: WriteError) -> Self {
        Self::Database(error.to_string())
    }
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

/// The users. Clones share the connections.
#[derive(Clone)]
pub struct Users {
    pool: Pool<Connections>,
    events: EventTable,
}

impl Users {
    /// Connects to a database whose role may make tables in it, and makes those that are missing.
    ///
    /// # Errors
    /// [`UsersError::Database`] if the database cannot be reached.
    pub async fn connect(options: ConnectOptions, events: EventTable) -> Result<Self, UsersError> {
        let mut client = postgres::connect(&options).await?;
        client.batch_execute(USERS).await?;
        match events {
            EventTable::Own => client.batch_execute(OWN_TABLE).await?,
            EventTable::Native => {
                postgres::init(&mut client, &InitOptions::new("/users")).await?;
            }
        }
        let pool = Pool::builder(Connections(options)).max_size(CONNECTIONS).build();
        Ok(Self { pool: pool.map_err(|error| UsersError::Database(error.to_string()))?, events })
    }

    /// Creates a user, once: `None` if there is one already.
    ///
    /// # Errors
    /// [`UsersError`]; the same request can be sent again.
    pub async fn create(&self, user_id: i64, name: &str) -> Result<Option<User>, UsersError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let created = transaction
            .query_typed_opt(
                "INSERT INTO users (user_id, name, version) VALUES ($1, $2, 1) ON CONFLICT DO NOTHING \
                 RETURNING user_id, name, version",
                &[(&user_id, Type::INT8), (&name, Type::TEXT)],
            )
            .await?;
        let Some(user) = created.map(|row| user(&row)).transpose()? else { return Ok(None) };
        self.tell(&transaction, "UserCreated", &user).await?;
        transaction.commit().await?;
        Ok(Some(user))
    }

    /// Gives a user another name.
    ///
    /// # Errors
    /// [`UsersError`].
    pub async fn rename(&self, user_id: i64, name: &str) -> Result<User, UsersError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        // The user's row first: whoever changes the same user waits here, so that their events come in the order in which
        // their transactions commit.
        let renamed = transaction
            .query_typed_opt(
                "UPDATE users SET name = $2, version = version + 1 WHERE user_id = $1 RETURNING user_id, name, version",
                &[(&user_id, Type::INT8), (&name, Type::TEXT)],
            )
            .await?;
        let user = renamed.map(|row| user(&row)).transpose()?.ok_or(UsersError::Missing(user_id))?;
        self.tell(&transaction, "UserRenamed", &user).await?;
        transaction.commit().await?;
        Ok(user)
    }

    /// The user.
    ///
    /// # Errors
    /// [`UsersError::Missing`], or as the database failed.
    pub async fn get(&self, user_id: i64) -> Result<User, UsersError> {
        const SQL: &str = "SELECT user_id, name, version FROM users WHERE user_id = $1";
        let row = self.client().await?.query_typed_opt(SQL, &[(&user_id, Type::INT8)]).await?;
        row.map(|row| user(&row)).transpose()?.ok_or(UsersError::Missing(user_id))
    }

    /// Writes the event about `user`, in the transaction that changed them.
    async fn tell(&self, transaction: &Transaction<'_>, kind: &str, user: &User) -> Result<(), UsersError> {
        let payload = json!(user);
        match self.events {
            EventTable::Own => {
                let sql = "INSERT INTO Outbox (EventType, Payload, Status) VALUES ($1, $2::json, 'PENDING')";
                let payload = payload.to_string();
                transaction.execute_typed(sql, &[(&kind, Type::TEXT), (&payload, Type::TEXT)]).await?;
            }
            EventTable::Native => {
                let event = NewEvent::builder(kind).key(user.user_id.to_string()).json(&payload).build();
                let event = event.map_err(|error| UsersError::Database(error.to_string()))?;
                postgres::write(transaction, [event]).await?;
            }
        }
        Ok(())
    }

    async fn client(&self) -> Result<Object<Connections>, UsersError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            error => UsersError::Database(error.to_string()),
        })
    }
}

fn user(row: &Row) -> Result<User, tokio_postgres::Error> {
    Ok(User { user_id: row.try_get(0)?, name: row.try_get(1)?, version: row.try_get(2)? })
}
