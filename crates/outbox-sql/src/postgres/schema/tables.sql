-- Outbox, table layout 1, for PostgreSQL 15 or later. docs/table-layout.md explains it.
-- Every statement can be run again without effect. `outbox init` gives the database its identity afterwards.

-- Not beside the functions of leaves.sql: what empties a leaf changes rows of the catalog that are changed here, and would fail.
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7310026, 1);
END
$$;

CREATE SCHEMA IF NOT EXISTS outbox;

-- Whose database this is: one row. `notify` has every write tell LISTEN outbox, which costs commits.
CREATE TABLE IF NOT EXISTS outbox.meta (
    one boolean PRIMARY KEY CHECK (one),
    layout integer NOT NULL,
    store_id text NOT NULL,
    producer text NOT NULL,
    incarnation integer NOT NULL,
    max_event_bytes bigint NOT NULL,
    notify boolean NOT NULL DEFAULT false,
    bookkeeping text,
    claim_epoch bigint NOT NULL DEFAULT 0,
    claim_nonce text
);

-- What every write has to know of outbox.meta, as functions that the planner replaces by their values: looking it up in the
-- table would make each write slower by a tenth. They change with the row, in the same transaction.
CREATE OR REPLACE FUNCTION outbox.meta_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now outbox.meta;
BEGIN
    SELECT * INTO now FROM outbox.meta;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION outbox.incarnation() RETURNS integer LANGUAGE sql IMMUTABLE AS %L',
        format('SELECT %L::integer', now.incarnation)
    );
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION outbox.max_event_bytes() RETURNS bigint LANGUAGE sql IMMUTABLE AS %L',
        format('SELECT %L::bigint', now.max_event_bytes)
    );
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION outbox.notifies() RETURNS boolean LANGUAGE sql IMMUTABLE AS %L',
        format('SELECT %L::boolean', now.notify)
    );
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF to_regprocedure('outbox.notifies()') IS NULL THEN
        CREATE FUNCTION outbox.incarnation() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT NULL::integer';
        CREATE FUNCTION outbox.max_event_bytes() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT NULL::bigint';
        CREATE FUNCTION outbox.notifies() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT NULL::boolean';
        CREATE TRIGGER meta_changed
            AFTER INSERT OR DELETE OR UPDATE OF incarnation, max_event_bytes, notify ON outbox.meta
            FOR EACH ROW EXECUTE FUNCTION outbox.meta_changed();
        CREATE TRIGGER meta_emptied
            AFTER TRUNCATE ON outbox.meta EXECUTE FUNCTION outbox.meta_changed();
    END IF;
END
$$;

-- Each key's latest entry; never purged. `after` and `previous_id` are of that entry: so one UPDATE tells what the next
-- follows. Every commit changes a row, so there is room to change it within its page, and it is cleaned up early.
CREATE TABLE IF NOT EXISTS outbox.heads (
    key text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL,
    entry_id bigint NOT NULL,
    previous_id bigint,
    incarnation integer NOT NULL,
    last_index integer NOT NULL,
    after text NOT NULL
) WITH (
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- The entries. `xid` says whose transaction a row is of, which is how a relay reads without waiting for anybody; nobody
-- may choose it, nor `id`. An id is drawn with the key's head locked, so that ids of a key rise with its sequence.
CREATE TABLE IF NOT EXISTS outbox.entries (
    id bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME outbox.entry_ids),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sequence bigint,
    previous_id bigint,
    incarnation integer,
    count integer NOT NULL DEFAULT 1,
    commit_id uuid NOT NULL DEFAULT gen_random_uuid(),
    key text COLLATE "C",
    after text,
    type text NOT NULL,
    event_id text,
    content_type text,
    data text,
    data_bytes bytea,
    attributes text,
    more text,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- The leaves that the entries lie in, besides the default one.
CREATE TABLE IF NOT EXISTS outbox.leaves (
    name text PRIMARY KEY,
    low bigint NOT NULL,
    high bigint NOT NULL,
    -- When it was made, and the last id that had been drawn then: how fast the next is going to fill.
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    drawn bigint NOT NULL,
    -- When it was emptied; then it is a shell that is dropped when it is quiet.
    emptied_at timestamptz,
    -- Who had entries open once it was there, of a leaf that ids leap to: none of them may draw an id of it.
    writers text[]
);

-- Takes what has no leaf, as when nobody made one in time.
CREATE TABLE IF NOT EXISTS outbox.entries_default PARTITION OF outbox.entries DEFAULT;

-- How a relay finds what it has not seen. Made in a block, as IF NOT EXISTS would lock out writers before it looks.
DO $$
BEGIN
    IF to_regclass('outbox.entries_by_xid') IS NULL THEN
        CREATE INDEX entries_by_xid ON outbox.entries (xid, id);
    END IF;
END
$$;

-- The routes that relays have registered.
CREATE TABLE IF NOT EXISTS outbox.routes (
    name text PRIMARY KEY,
    filter text NOT NULL,
    start text NOT NULL,
    start_position text,
    max_event_bytes bigint NOT NULL,
    gapless boolean NOT NULL,
    registered_at timestamptz NOT NULL
);
