-- Outbox, table layout 1, for SQLite 3.38 or later. docs/table-layout.md explains it.
-- Each statement can be run again without effect. `outbox init` gives the file its identity afterwards.

-- Whose file this is: one row.
CREATE TABLE IF NOT EXISTS outbox_meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    layout INTEGER NOT NULL,
    store_id TEXT NOT NULL,
    producer TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    max_event_bytes INTEGER NOT NULL,
    bookkeeping TEXT,
    claim_epoch INTEGER NOT NULL DEFAULT 0,
    claim_nonce TEXT
);

-- Each key's latest entry; never purged. Rows are kept short and in key order, as every commit changes one.
CREATE TABLE IF NOT EXISTS outbox_heads (
    key TEXT PRIMARY KEY,
    incarnation INTEGER,
    sequence INTEGER,
    last_index INTEGER,
    entry_id INTEGER
) WITHOUT ROWID;

-- The entries, in the order of their commits. AUTOINCREMENT, or an id would be given again after a purge. No index:
-- it would cost every commit.
CREATE TABLE IF NOT EXISTS outbox_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT,
    incarnation INTEGER,
    sequence INTEGER,
    count INTEGER,
    after TEXT,
    previous_id INTEGER,
    commit_id BLOB,
    recorded_at INTEGER,
    type TEXT,
    event_id TEXT,
    content_type TEXT,
    data,
    attributes TEXT,
    more TEXT
);

-- The routes that relays have registered.
CREATE TABLE IF NOT EXISTS outbox_routes (
    name TEXT PRIMARY KEY,
    filter TEXT NOT NULL,
    start TEXT NOT NULL,
    start_position TEXT,
    max_event_bytes INTEGER NOT NULL,
    gapless INTEGER NOT NULL,
    registered_at INTEGER NOT NULL
);

-- What is written to: INSERT INTO outbox (key, type, data) VALUES (…).
CREATE VIEW IF NOT EXISTS outbox (
    key, type, data, content_type, event_id, attributes, more, expected, commit_id, recorded_at
) AS
SELECT key, type, data, content_type, event_id, attributes, more, NULL, commit_id, recorded_at
FROM outbox_entries;

CREATE TRIGGER IF NOT EXISTS outbox_write INSTEAD OF INSERT ON outbox
BEGIN
    -- A key that has a head was checked when it got it. Text in plain ASCII needs no closer look.
    SELECT CASE
        WHEN meta.one IS NULL
        THEN RAISE(ABORT, 'outbox: this database has no identity yet: run `outbox init`')
        WHEN NEW.key IS NOT NULL AND typeof(NEW.key) <> 'text'
        THEN RAISE(ABORT, 'outbox: `key` must be TEXT, or NULL for an event without order')
        WHEN head.key IS NULL AND NEW.key IS NOT NULL AND length(CAST(NEW.key AS BLOB)) NOT BETWEEN 1 AND 512
        THEN RAISE(ABORT, 'outbox: `key` must have 1 to 512 bytes, or be NULL for an event without order')
        WHEN head.key IS NULL AND NEW.key IS NOT NULL
            AND (NEW.key GLOB '*[^ -~]*' OR length(NEW.key) <> length(CAST(NEW.key AS BLOB)))
            AND (instr(NEW.key, char(0))
                OR replace(NEW.key, char(65533), '') GLOB (SELECT pattern FROM outbox_check_text))
        THEN RAISE(ABORT, 'outbox: `key` holds a control character or is not UTF-8: remove it')
        WHEN typeof(NEW.type) <> 'text' OR length(CAST(NEW.type AS BLOB)) NOT BETWEEN 1 AND 1024
        THEN RAISE(ABORT, 'outbox: `type` must be TEXT of 1 to 1024 bytes that says what happened, as order.placed')
        WHEN (NEW.type GLOB '*[^ -~]*' OR length(NEW.type) <> length(CAST(NEW.type AS BLOB)))
            AND (instr(NEW.type, char(0))
                OR replace(NEW.type, char(65533), '') GLOB (SELECT pattern FROM outbox_check_text))
        THEN RAISE(ABORT, 'outbox: `type` holds a control character or is not UTF-8: remove it')
        WHEN NEW.data IS NOT NULL AND typeof(NEW.data) <> 'text' AND typeof(NEW.data) <> 'blob'
        THEN RAISE(ABORT, 'outbox: `data` must be TEXT, as JSON, or BLOB, or NULL for no payload')
        WHEN coalesce(length(CAST(NEW.data AS BLOB)), 0) + 3 * coalesce(length(CAST(NEW.attributes AS BLOB)), 0)
            > meta.max_event_bytes
        THEN RAISE(ABORT, 'outbox: too large: `data` and three times `attributes` have more bytes than outbox_meta.max_event_bytes, which the routes take: make them smaller, or put `data` elsewhere and write a reference')
        WHEN NEW.expected IS NULL
        THEN NULL
        WHEN typeof(NEW.expected) <> 'integer' OR NEW.expected < 0 OR NEW.key IS NULL
        THEN RAISE(ABORT, 'outbox: `expected` must be the sequence of the key as an INTEGER, 0 if it has none, or NULL for any')
        WHEN NEW.expected <> coalesce(head.sequence, 0)
        THEN RAISE(ABORT, 'outbox: conflict: `expected` is not the sequence of the key in outbox_heads: roll back, read again, decide again')
    END
    FROM (SELECT 1)
    LEFT JOIN outbox_meta AS meta ON meta.one = 1
    LEFT JOIN outbox_heads AS head ON head.key = NEW.key;

    SELECT CASE
        WHEN NEW.commit_id IS NOT NULL AND (typeof(NEW.commit_id) <> 'blob' OR length(NEW.commit_id) <> 16)
        THEN RAISE(ABORT, 'outbox: `commit_id` must be a BLOB of 16 random bytes, or NULL')
        WHEN NEW.recorded_at IS NOT NULL
            AND (typeof(NEW.recorded_at) <> 'integer' OR NEW.recorded_at NOT BETWEEN 0 AND 253402207200000)
        THEN RAISE(ABORT, 'outbox: `recorded_at` must be milliseconds since 1970 as an INTEGER, or NULL for now')
        WHEN NEW.event_id IS NOT NULL
            AND (typeof(NEW.event_id) <> 'text' OR length(CAST(NEW.event_id AS BLOB)) NOT BETWEEN 1 AND 1024)
        THEN RAISE(ABORT, 'outbox: `event_id` must be TEXT of 1 to 1024 bytes, or NULL')
        WHEN NEW.event_id IS NOT NULL
            AND (NEW.event_id GLOB '*[^ -~]*' OR length(NEW.event_id) <> length(CAST(NEW.event_id AS BLOB)))
            AND (instr(NEW.event_id, char(0))
                OR replace(NEW.event_id, char(65533), '') GLOB (SELECT pattern FROM outbox_check_text))
        THEN RAISE(ABORT, 'outbox: `event_id` holds a control character or is not UTF-8: remove it')
        WHEN NEW.content_type IS NOT NULL
            AND (typeof(NEW.content_type) <> 'text' OR length(CAST(NEW.content_type AS BLOB)) NOT BETWEEN 1 AND 1024)
        THEN RAISE(ABORT, 'outbox: `content_type` must be TEXT of 1 to 1024 bytes, or NULL for JSON')
        WHEN NEW.content_type IS NOT NULL
            AND (NEW.content_type GLOB '*[^ -~]*'
                OR length(NEW.content_type) <> length(CAST(NEW.content_type AS BLOB)))
            AND (instr(NEW.content_type, char(0))
                OR replace(NEW.content_type, char(65533), '') GLOB (SELECT pattern FROM outbox_check_text))
        THEN RAISE(ABORT, 'outbox: `content_type` holds a control character or is not UTF-8: remove it')
        WHEN NEW.more IS NOT NULL AND NEW.key IS NULL
        THEN RAISE(ABORT, 'outbox: `more` needs a `key`: events without a key have no order, so write each by an INSERT of its own')
    END
    WHERE coalesce(NEW.commit_id, NEW.recorded_at, NEW.event_id, NEW.content_type, NEW.more) IS NOT NULL;

    -- VALUES rather than a SELECT with a condition: that would make a temporary table, in every commit.
    INSERT INTO outbox_check_json (attributes, more, data) VALUES (NEW.attributes, NEW.more, NEW.data);

    INSERT INTO outbox_entries (
        key, incarnation, sequence, count, after, previous_id, commit_id, recorded_at,
        type, event_id, content_type, data, attributes, more
    )
    SELECT
        NEW.key,
        meta.incarnation,
        CASE WHEN NEW.key IS NOT NULL THEN coalesce(head.sequence, 0) + 1 END,
        CASE WHEN NEW.more IS NULL THEN 1 ELSE 1 + json_array_length(NEW.more) END,
        CASE
            WHEN head.key IS NOT NULL THEN head.incarnation || '.' || head.sequence || '.' || head.last_index
            WHEN NEW.key IS NOT NULL THEN '0.0.0'
        END,
        head.entry_id,
        coalesce(NEW.commit_id, randomblob(16)),
        coalesce(NEW.recorded_at, CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
        NEW.type,
        -- Without key and id, an event is known by its commit id; one that was given may be that of several entries.
        CASE
            WHEN coalesce(NEW.key, NEW.event_id) IS NULL AND NEW.commit_id IS NOT NULL THEN lower(hex(randomblob(16)))
            ELSE NEW.event_id
        END,
        NEW.content_type,
        NEW.data,
        NEW.attributes,
        NEW.more
    FROM outbox_meta AS meta
    LEFT JOIN outbox_heads AS head ON head.key = NEW.key;

    -- OR IGNORE passes over an event without a key.
    INSERT OR IGNORE INTO outbox_heads (key, incarnation, sequence, last_index, entry_id)
    VALUES (
        NEW.key,
        (SELECT incarnation FROM outbox_meta),
        1,
        CASE WHEN NEW.more IS NULL THEN 0 ELSE json_array_length(NEW.more) END,
        last_insert_rowid()
    )
    ON CONFLICT (key) DO UPDATE SET
        incarnation = excluded.incarnation,
        sequence = sequence + 1,
        last_index = excluded.last_index,
        entry_id = excluded.entry_id;
END;

-- What no text may hold (CloudEvents 1.0, type String): U+0001-001F, U+007F-009F and noncharacters. SQLite reads most
-- of what is not UTF-8 as U+FFFD, so that is looked for as well, in a text without its rightful ones.
CREATE VIEW IF NOT EXISTS outbox_check_text (pattern) AS
SELECT '*[' || char(
    1, 45, 31, 127, 45, 159, 64976, 45, 65007, 65533,
    131070, 131071, 196606, 196607, 262142, 262143, 327678, 327679, 393214, 393215, 458750, 458751,
    524286, 524287, 589822, 589823, 655358, 655359, 720894, 720895, 786430, 786431, 851966, 851967,
    917502, 917503, 983038, 983039, 1048574, 1048575, 1114110, 1114111
) || ']*';

-- Written to by other triggers, never by hand: passes on what there is of JSON.
CREATE VIEW IF NOT EXISTS outbox_check_json (attributes, more, data) AS
SELECT attributes, more, data FROM outbox_entries;

CREATE TRIGGER IF NOT EXISTS outbox_refuse_json INSTEAD OF INSERT ON outbox_check_json
WHEN NEW.attributes IS NOT NULL OR NEW.more IS NOT NULL
BEGIN
    INSERT INTO outbox_check_attributes (attributes)
    SELECT NEW.attributes WHERE NEW.attributes IS NOT NULL;

    INSERT INTO outbox_check_more (more, data)
    SELECT NEW.more, NEW.data WHERE NEW.more IS NOT NULL;
END;

-- Written to by other triggers, never by hand: refuses attributes that no event may have.
CREATE VIEW IF NOT EXISTS outbox_check_attributes (attributes) AS
SELECT attributes FROM outbox_entries;

CREATE TRIGGER IF NOT EXISTS outbox_refuse_attributes INSTEAD OF INSERT ON outbox_check_attributes
BEGIN
    SELECT CASE
        WHEN typeof(NEW.attributes) <> 'text' OR NOT json_valid(NEW.attributes)
        THEN RAISE(ABORT, 'outbox: `attributes` must be TEXT that is a JSON object, or NULL')
        WHEN json_type(NEW.attributes) <> 'object'
        THEN RAISE(ABORT, 'outbox: `attributes` must be TEXT that is a JSON object, or NULL')
        WHEN length(CAST(NEW.attributes AS BLOB)) > 65536
        THEN RAISE(ABORT, 'outbox: `attributes` has more than 65536 bytes: put it into `data`')
        WHEN (SELECT count(*) <> count(DISTINCT key) FROM json_each(NEW.attributes))
        THEN RAISE(ABORT, 'outbox: `attributes` has a name twice: remove one')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.attributes)
            WHERE length(key) NOT BETWEEN 1 AND 20 OR key GLOB '*[^a-z0-9]*'
        )
        THEN RAISE(ABORT, 'outbox: `attributes` has a name that is not allowed: use 1 to 20 lower-case letters and digits')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.attributes)
            WHERE key IN (
                'specversion', 'id', 'source', 'type', 'datacontenttype', 'data',
                'partitionkey', 'sequence', 'place', 'after', 'gapless', 'replayid', 'recordedtime'
            )
        )
        THEN RAISE(ABORT, 'outbox: `attributes` has a name that Outbox or CloudEvents itself sets: write it to its own column, or choose another')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.attributes)
            WHERE type NOT IN ('text', 'integer', 'true', 'false')
                OR (type <> 'text' AND key IN ('subject', 'time', 'dataschema'))
                OR (type = 'integer' AND value NOT BETWEEN -2147483648 AND 2147483647)
        )
        THEN RAISE(ABORT, 'outbox: `attributes` has a value that is not allowed: use text, true, false, or an integer of 32 bits; for `subject`, `time` and `dataschema` text')
        -- SQLite before 3.45 ends a value at its first NUL, so that is looked for where it is still escaped.
        WHEN instr(replace(NEW.attributes, '\\', ''), '\u0000') OR EXISTS (
            SELECT 1 FROM json_each(NEW.attributes)
            WHERE type = 'text'
                AND (length(CAST(value AS BLOB)) NOT BETWEEN 1 AND 1024
                    OR replace(value, char(65533), '') GLOB (SELECT pattern FROM outbox_check_text))
        )
        THEN RAISE(ABORT, 'outbox: `attributes` has a text that is empty, longer than 1024 bytes, or holds a control character: mend it')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.attributes)
            WHERE key = 'time'
                AND (julianday(value) IS NULL
                    OR value NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][Tt][0-9][0-9]:[0-9][0-9]:[0-9][0-9]*'
                    OR (value NOT GLOB '*[Zz]' AND value NOT GLOB '*[-+][0-9][0-9]:[0-9][0-9]'))
        )
        THEN RAISE(ABORT, 'outbox: `time` in `attributes` must be RFC 3339, as 2026-11-21T09:30:00Z')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.attributes)
            WHERE key = 'dataschema' AND value GLOB '*[ "<>\^`{|}]*'
        )
        THEN RAISE(ABORT, 'outbox: `dataschema` in `attributes` must be a URI reference, without spaces')
    END;
END;

-- Written to by other triggers, never by hand: refuses further events that no entry may hold.
CREATE VIEW IF NOT EXISTS outbox_check_more (more, data) AS
SELECT more, data FROM outbox_entries;

CREATE TRIGGER IF NOT EXISTS outbox_refuse_more INSTEAD OF INSERT ON outbox_check_more
BEGIN
    SELECT CASE
        WHEN typeof(NEW.more) <> 'text' OR NOT json_valid(NEW.more)
        THEN RAISE(ABORT, 'outbox: `more` must be TEXT that is a JSON array of 1 to 999 events, or NULL')
        WHEN json_type(NEW.more) <> 'array' OR json_array_length(NEW.more) NOT BETWEEN 1 AND 999
        THEN RAISE(ABORT, 'outbox: `more` must be TEXT that is a JSON array of 1 to 999 events, or NULL')
        WHEN length(CAST(NEW.more AS BLOB)) + coalesce(length(CAST(NEW.data AS BLOB)), 0) > 16777216
        THEN RAISE(ABORT, 'outbox: `data` and `more` have more than 16777216 bytes together: write several entries')
        WHEN EXISTS (SELECT 1 FROM json_each(NEW.more) WHERE type <> 'object')
        THEN RAISE(ABORT, 'outbox: each event in `more` must be a JSON object')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.more) AS event
            WHERE json_type(event.value, '$.type') IS NOT 'text'
                OR (SELECT count(*) <> count(DISTINCT member.key)
                        OR sum(member.key NOT IN ('type', 'id', 'content_type', 'data', 'data_base64', 'attributes'))
                    FROM json_each(event.value) AS member)
        )
        THEN RAISE(ABORT, 'outbox: each event in `more` must have a `type`, and may have `id`, `content_type`, `data` or `data_base64`, and `attributes`, each once')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.more) AS event, json_each(event.value) AS member
            WHERE member.key IN ('type', 'id', 'content_type')
                AND (member.type NOT IN ('text', 'null')
                    OR length(CAST(member.value AS BLOB)) NOT BETWEEN 1 AND 1024
                    OR instr(replace(event.value -> ('$.' || member.key), '\\', ''), '\u0000')
                    OR replace(member.value, char(65533), '') GLOB (SELECT pattern FROM outbox_check_text))
        )
        THEN RAISE(ABORT, 'outbox: `type`, `id` and `content_type` of an event in `more` must be text of 1 to 1024 bytes without control characters')
        WHEN EXISTS (
            SELECT 1 FROM json_each(NEW.more) AS event, json_each(event.value) AS member
            WHERE member.key = 'data_base64' AND member.type <> 'null'
                AND (member.type <> 'text' OR length(member.value) % 4 OR instr(member.value, char(0))
                    OR rtrim(member.value, '=') GLOB '*[^A-Za-z0-9+/]*'
                    OR length(member.value) - length(rtrim(member.value, '=')) > 2
                    OR json_type(event.value, '$.data') IS NOT NULL)
        )
        THEN RAISE(ABORT, 'outbox: `data_base64` of an event in `more` must be base64 with its padding, and stand without `data`')
        -- White space between the tokens of `data` is payload, but SQLite gives a value without it: all there is counts.
        WHEN 3 * length(CAST(NEW.more AS BLOB)) > (SELECT max_event_bytes FROM outbox_meta) AND EXISTS (
            SELECT 1 FROM json_each(NEW.more) AS event, json_each(event.value) AS member
            WHERE member.type <> 'null' OR member.key = 'data'
            GROUP BY event.key
            HAVING (SELECT max_event_bytes FROM outbox_meta) < sum(CASE member.key
                WHEN 'data'
                THEN length(CAST(event.value -> '$.data' AS BLOB))
                    + length(CAST(NEW.more AS BLOB)) - length(CAST(json(NEW.more) AS BLOB))
                WHEN 'data_base64'
                THEN length(member.value) / 4 * 3 - length(member.value) + length(rtrim(member.value, '='))
                WHEN 'attributes' THEN 3 * length(CAST(member.value AS BLOB))
                ELSE 0
            END)
        )
        THEN RAISE(ABORT, 'outbox: too large: an event in `more` has more bytes in payload and three times its attributes than outbox_meta.max_event_bytes, which the routes take: make it smaller, or put it elsewhere and write a reference')
    END;

    INSERT INTO outbox_check_attributes (attributes)
    SELECT json_extract(event.value, '$.attributes')
    FROM json_each(NEW.more) AS event
    WHERE json_type(event.value, '$.attributes') IS NOT NULL;
END;
