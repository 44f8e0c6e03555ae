-- Outbox bookkeeping, layout 1. A relay's own state, in a file of its own.

CREATE TABLE bookkeeping (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    -- Rises with each change by an operator.
    operator_changes INTEGER NOT NULL DEFAULT 0,
    -- The last generation given to a lane in trouble.
    generation INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    beat INTEGER NOT NULL,
    released INTEGER NOT NULL,
    holder TEXT NOT NULL,
    duration_us INTEGER NOT NULL
) WITHOUT ROWID;

-- Claims of the business database, noted before they are made: one that is not here was made by a copy of this file.
CREATE TABLE claims (
    lease TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    nonce TEXT NOT NULL,
    PRIMARY KEY (lease, epoch, nonce)
) WITHOUT ROWID;

CREATE TABLE checkpoints (
    route TEXT NOT NULL,
    partition TEXT NOT NULL,
    position TEXT NOT NULL,
    finished INTEGER NOT NULL,
    PRIMARY KEY (route, partition)
) WITHOUT ROWID;

CREATE TABLE witnesses (
    -- Puts those of several routes in the order in which they were read.
    id INTEGER PRIMARY KEY,
    route TEXT NOT NULL,
    partition TEXT NOT NULL,
    -- 1, 2, 3 … for each route and partition.
    number INTEGER NOT NULL,
    position TEXT NOT NULL,
    commit_id BLOB NOT NULL,
    UNIQUE (route, partition, number)
);

-- A lane in trouble: one row, whatever waits in it.
CREATE TABLE troubles (
    route TEXT NOT NULL,
    lane TEXT NOT NULL,
    -- Another one after each change by an operator, so that a keeper that does not know of it cannot settle over it.
    generation INTEGER NOT NULL,
    -- The first of its kept events.
    front INTEGER NOT NULL,
    -- retrying (with due), dead, or discarded (with discard_reason).
    state TEXT NOT NULL,
    due TEXT,
    discard_reason TEXT,
    attempts INTEGER NOT NULL,
    failed_since TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- How many events are kept in it.
    kept INTEGER NOT NULL,
    PRIMARY KEY (route, lane)
) WITHOUT ROWID;

CREATE INDEX troubles_by_front ON troubles (route, state, front);

CREATE TABLE kept (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    route TEXT NOT NULL,
    lane TEXT NOT NULL,
    event_id TEXT NOT NULL,
    partition TEXT NOT NULL,
    position TEXT NOT NULL,
    -- Which event of its entry. A producer may give an id twice, so the id alone does not tell an event from others.
    event_index INTEGER NOT NULL,
    -- The event's own, also where its lane is not its key's.
    key TEXT,
    -- NULL for a row that could not be read.
    type TEXT,
    -- A CloudEvent as JSON, or a row that could not be read as it was found.
    content BLOB NOT NULL,
    -- Why the row could not be read.
    undecodable TEXT
);

CREATE INDEX kept_in_order ON kept (route, lane, id);
-- What stands before an @ names the record that a position is behind; the rest says how it was come by.
CREATE UNIQUE INDEX kept_once ON kept (
    route, lane, event_id, partition, substr(position, 1, instr(position || '@', '@') - 1), event_index
);

CREATE TABLE tombstones (
    route TEXT NOT NULL,
    event_id TEXT NOT NULL,
    partition TEXT NOT NULL,
    position TEXT NOT NULL,
    event_index INTEGER NOT NULL
);

CREATE UNIQUE INDEX buried_once ON tombstones (
    route, event_id, partition, substr(position, 1, instr(position || '@', '@') - 1), event_index
);

CREATE TABLE health (
    route TEXT PRIMARY KEY,
    -- flowing, backing_off (with reason), overloaded, recovering (with reason), or stopped (with reason).
    state TEXT NOT NULL,
    reason TEXT,
    since TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE paused (
    route TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE replays (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    route TEXT NOT NULL,
    filter TEXT NOT NULL,
    event TEXT,
    since TEXT,
    until TEXT,
    ends TEXT NOT NULL,
    finished INTEGER NOT NULL
);
