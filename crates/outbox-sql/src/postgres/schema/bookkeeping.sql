-- Outbox bookkeeping, layout 1: a relay's own state, in a schema of its own that exists already. Run it as one transaction.
--
-- Every write of a relay or an operator is one call of a function below: one statement, one round trip, one transaction.
-- So a call whose caller is gone is whole or not there, nothing is left open on a connection, and it works through a
-- pooler that gives each transaction another session: there is no session state, no named statement, no session lock.
--
-- Locks are taken in this order, so that none waits in a circle: the row of `bookkeeping` (operators only), `leases` by
-- name, one lane's row of `troubles` (a relay) or several by name (an operator), then the rest.
--
-- The functions count on READ COMMITTED: what they read after a lock was waited for has to be what is committed then.
-- They refuse to work under another level.
--
-- No time is taken from this server: a relay's times come from the relay, as text that keeps nanoseconds. All text is
-- compared byte by byte (collation "C").

CREATE TABLE outbox_relay.bookkeeping (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    layout integer NOT NULL,
    -- Given when it was made; a copy has the same.
    id text COLLATE "C" NOT NULL,
    -- Rises with each change by an operator.
    operator_changes bigint NOT NULL DEFAULT 0
);

INSERT INTO outbox_relay.bookkeeping (layout, id) VALUES (1, replace(gen_random_uuid()::text, '-', ''));

-- Generations of lanes in trouble: one that was given is never given again.
CREATE SEQUENCE outbox_relay.generations;
-- Numbers of the connections that relays write over, in the order in which they were made.
CREATE SEQUENCE outbox_relay.connections;

CREATE TABLE outbox_relay.leases (
    name text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    beat bigint NOT NULL,
    released boolean NOT NULL,
    holder text NOT NULL,
    duration_us bigint NOT NULL,
    -- The latest connection that its owner wrote over. What was sent over an earlier one, which broke with the answer still
    -- to come, is refused if it has not been done by then: it must not land behind what was answered since.
    connection bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Claims of the business database, noted before they are made: one that is not here was made by a copy of this.
CREATE TABLE outbox_relay.claims (
    lease text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    nonce text COLLATE "C" NOT NULL,
    PRIMARY KEY (lease, epoch, nonce)
);

CREATE TABLE outbox_relay.checkpoints (
    route text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    position text COLLATE "C" NOT NULL,
    finished boolean NOT NULL,
    PRIMARY KEY (route, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE outbox_relay.witnesses (
    -- Puts those of several routes in the order in which they were read.
    id bigint GENERATED ALWAYS AS IDENTITY,
    route text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    -- 1, 2, 3 … for each route and partition.
    number bigint NOT NULL,
    position text COLLATE "C" NOT NULL,
    commit_id bytea NOT NULL,
    PRIMARY KEY (route, partition, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A lane in trouble: one row, whatever waits in it. Its row's lock is the lane's: parking, settling and an operator's
-- change of a lane exclude each other by it.
CREATE TABLE outbox_relay.troubles (
    route text COLLATE "C" NOT NULL,
    -- `k:` and the key, or `e:` and the id of an event that has none.
    lane text COLLATE "C" NOT NULL,
    -- Another one after each change by an operator, so that a keeper that does not know of it cannot settle over it.
    generation bigint NOT NULL,
    -- The first of its kept events.
    front bigint NOT NULL,
    -- retrying (with due), dead, or discarded (with discard_reason).
    state text COLLATE "C" NOT NULL,
    due text COLLATE "C",
    discard_reason text,
    attempts bigint NOT NULL,
    failed_since text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    -- How many events are kept in it.
    kept bigint NOT NULL,
    PRIMARY KEY (route, lane)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- For an operator's list, page by page.
CREATE INDEX troubles_dead ON outbox_relay.troubles (route, front) WHERE state = 'dead';

CREATE TABLE outbox_relay.kept (
    -- Drawn under the lane's lock, so it rises in the order of keeping.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    route text COLLATE "C" NOT NULL,
    lane text COLLATE "C" NOT NULL,
    -- Of the event's id, partition and position, which together may be too long for an index: see `record`. A producer may
    -- give an id twice, so the id alone does not tell an event from others.
    record bytea NOT NULL,
    -- Which event of its entry.
    event_index bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    position text COLLATE "C" NOT NULL,
    -- The event's own, also where its lane is not its key's.
    key text COLLATE "C",
    -- NULL for a row that could not be read.
    type text COLLATE "C",
    -- A CloudEvent as JSON, or a row that could not be read as it was found.
    content bytea NOT NULL,
    -- Why the row could not be read.
    undecodable text
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX kept_in_order ON outbox_relay.kept (route, lane, id);
CREATE UNIQUE INDEX kept_once ON outbox_relay.kept (route, lane, record, event_index);
-- For erasing a key.
CREATE INDEX kept_of_key ON outbox_relay.kept USING hash (key);

CREATE TABLE outbox_relay.tombstones (
    route text COLLATE "C" NOT NULL,
    record bytea NOT NULL,
    event_index bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    position text COLLATE "C" NOT NULL,
    PRIMARY KEY (route, record, event_index)
);

CREATE TABLE outbox_relay.health (
    route text COLLATE "C" PRIMARY KEY,
    -- flowing, backing_off (with reason), overloaded, recovering (with reason), or stopped (with reason).
    state text COLLATE "C" NOT NULL,
    reason text,
    since text COLLATE "C" NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE outbox_relay.paused (
    route text COLLATE "C" PRIMARY KEY
);

CREATE TABLE outbox_relay.replays (
    number bigint GENERATED ALWAYS AS IDENTITY,
    id text COLLATE "C" PRIMARY KEY,
    route text COLLATE "C" NOT NULL,
    filter text NOT NULL,
    event text COLLATE "C",
    since text COLLATE "C",
    until text COLLATE "C",
    ends text NOT NULL,
    finished boolean NOT NULL
);
