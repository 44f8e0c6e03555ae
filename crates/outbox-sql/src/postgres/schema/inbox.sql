-- Outbox inbox, layout 1: what consumers have applied and what they keep, beside their own tables, so that record and effect
-- share a transaction. Run it as one transaction.
--
-- Everything counts on READ COMMITTED, which the inbox asks for by name. Times are microseconds since 1970, of the
-- consumer's own clock. All text is compared byte by byte (collation "C").

CREATE TABLE outbox_inbox.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    layout integer NOT NULL
);
INSERT INTO outbox_inbox.meta (layout) VALUES (1);

CREATE TABLE outbox_inbox.consumers (
    name text COLLATE "C" PRIMARY KEY,
    mode text,
    applied bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    superseded bigint NOT NULL DEFAULT 0,
    ignored bigint NOT NULL DEFAULT 0,
    early bigint NOT NULL DEFAULT 0,
    history_back bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Consumer and producer share one number, so that the rows of the marks, of which there is one a key, stay small.
CREATE TABLE outbox_inbox.producers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer text COLLATE "C" NOT NULL,
    producer text COLLATE "C" NOT NULL,
    UNIQUE (consumer, producer)
);

-- A key's row is the lock of its lane: it is made when the key is first met.
CREATE TABLE outbox_inbox.marks (
    producer bigint NOT NULL,
    -- `k:` and the key.
    lane text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    idx bigint NOT NULL DEFAULT 0,
    -- 0 unknown, 1 open, 2 removed.
    life smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (producer, lane)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE outbox_inbox.ids (
    producer bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    -- The order in which a purge looks at them.
    n bigint GENERATED ALWAYS AS IDENTITY,
    expires bigint NOT NULL,
    done boolean NOT NULL,
    PRIMARY KEY (producer, id)
);
CREATE UNIQUE INDEX ids_in_order ON outbox_inbox.ids (n);

CREATE TABLE outbox_inbox.troubles (
    producer bigint NOT NULL,
    -- `k:` and the key, or `e:` and the id of an event that has none.
    lane text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempts bigint NOT NULL,
    due bigint,
    since bigint NOT NULL,
    reason text NOT NULL,
    epoch bigint NOT NULL,
    kept bigint NOT NULL,
    PRIMARY KEY (producer, lane)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX troubles_due ON outbox_inbox.troubles (due) WHERE due IS NOT NULL;

CREATE TABLE outbox_inbox.kept (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    producer bigint NOT NULL,
    lane text COLLATE "C" NOT NULL,
    incarnation bigint NOT NULL,
    sequence bigint NOT NULL,
    idx bigint NOT NULL,
    arrived bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    -- NULL for what could not be decoded.
    type text COLLATE "C",
    message bytea NOT NULL,
    UNIQUE (producer, lane, incarnation, sequence, idx)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE outbox_inbox.waits (
    producer bigint NOT NULL,
    lane text COLLATE "C" NOT NULL,
    cause_producer bigint NOT NULL,
    cause_lane text COLLATE "C" NOT NULL,
    PRIMARY KEY (producer, lane)
);
CREATE INDEX waits_for_cause ON outbox_inbox.waits (cause_producer, cause_lane);
