-- Writing. What writers may call runs with the rights of the schema's owner, and not by the caller's search path: a writer
-- needs no right on any table, and cannot move a head wrongly.

DO $$
BEGIN
    IF to_regtype('outbox.placed') IS NULL THEN
        -- Where an entry got its place; `sequence` is NULL without a key, and if the key was not as expected, but `actual`.
        CREATE TYPE outbox.placed AS (incarnation integer, sequence bigint, actual bigint);
    END IF;
END
$$;

-- Puts one entry into the table, and moves its key's head, which writers of the same key wait for. What it is given has
-- been checked. Refuses, without effect, only what is not as `expected`. Texts come with the collation of the caller's column,
-- which may be any: so whatever compares one names its own. `outbox adopt` raises the incarnation with the heads
-- locked: so it is taken by the statement that has to wait for that lock, and not before.
CREATE OR REPLACE FUNCTION outbox.put(
    key text, expected bigint, count integer, type text, event_id text, content_type text, data text, data_bytes bytea,
    attributes text, more text, commit_id uuid, recorded_at timestamptz
) RETURNS outbox.placed
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    head record;
    placed outbox.placed;
BEGIN
    IF outbox.incarnation() IS NULL THEN
        PERFORM outbox.refuse_without_identity();
    END IF;
    IF key IS NULL THEN
        placed.incarnation := outbox.incarnation();
        INSERT INTO outbox.entries (
            incarnation, count, commit_id, recorded_at, type, event_id, content_type, data, data_bytes, attributes, more
        ) VALUES (
            placed.incarnation, count, commit_id, recorded_at, type, event_id, content_type, data, data_bytes, attributes,
            more
        );
    ELSE
        LOOP
            UPDATE outbox.heads AS h SET
                sequence = h.sequence + 1,
                entry_id = nextval('outbox.entry_ids'),
                previous_id = h.entry_id,
                incarnation = outbox.incarnation(),
                last_index = put.count - 1,
                after = concat(h.incarnation, '.', h.sequence, '.', h.last_index)
            WHERE h.key = put.key COLLATE "C" AND (put.expected IS NULL OR h.sequence = put.expected)
            RETURNING h.sequence, h.entry_id, h.previous_id, h.incarnation, h.after
            INTO head;
            EXIT WHEN FOUND;
            IF expected IS NULL OR expected = 0 THEN
                PERFORM outbox.check_text('key', key, 512);
                INSERT INTO outbox.heads AS h (key, sequence, entry_id, incarnation, last_index, after)
                VALUES (key, 1, nextval('outbox.entry_ids'), outbox.incarnation(), count - 1, '0.0.0')
                ON CONFLICT DO NOTHING
                RETURNING h.sequence, h.entry_id, h.previous_id, h.incarnation, h.after
                INTO head;
                EXIT WHEN FOUND;
            END IF;
            IF expected IS NOT NULL THEN
                SELECT h.sequence INTO placed.actual FROM outbox.heads AS h WHERE h.key = put.key COLLATE "C";
                placed.actual := coalesce(placed.actual, 0);
                RETURN placed;
            END IF;
            -- Somebody else wrote the key's first entry meanwhile: it has a head now.
        END LOOP;
        placed.incarnation := head.incarnation;
        placed.sequence := head.sequence;
        INSERT INTO outbox.entries (
            id, key, incarnation, sequence, count, after, previous_id, commit_id, recorded_at,
            type, event_id, content_type, data, data_bytes, attributes, more
        ) OVERRIDING SYSTEM VALUE VALUES (
            head.entry_id, key, placed.incarnation, head.sequence, count, head.after, head.previous_id, commit_id,
            recorded_at, type, event_id, content_type, data, data_bytes, attributes, more
        );
    END IF;
    IF outbox.notifies() THEN
        PERFORM pg_notify('outbox', '');
    END IF;
    RETURN placed;
END
$$;

-- Writes one event in the caller's transaction, and gives the key's new sequence; NULL without a key. A key whose head
-- another transaction moved is waited for; under REPEATABLE READ that is SQLSTATE 40001: run the transaction again.
--
-- The common case, an event whose key has a head, is written out here; whatever else there is, `write_slowly` does. A
-- search path of its own would cost every write some percent, so every name is in full, operators included (which
-- then have no precedence among themselves).
CREATE OR REPLACE FUNCTION outbox.write(
    key text, type text, data text DEFAULT NULL, content_type text DEFAULT NULL, event_id text DEFAULT NULL,
    attributes jsonb DEFAULT NULL, expected bigint DEFAULT NULL, commit_id uuid DEFAULT NULL,
    recorded_at timestamptz DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_variable
DECLARE
    new_sequence pg_catalog.int8;
    new_id pg_catalog.int8;
    follows_id pg_catalog.int8;
    follows pg_catalog.text;
BEGIN
    IF (
        content_type IS NULL AND event_id IS NULL AND attributes IS NULL
        AND type COLLATE pg_catalog."C" OPERATOR(pg_catalog.~) '^[ -~]+$' AND pg_catalog.octet_length(type) OPERATOR(pg_catalog.<=) 1024
        OR outbox.check_event('', type, event_id, content_type, attributes)
    )
        AND (COALESCE(pg_catalog.octet_length(data), 0) OPERATOR(pg_catalog.+) (
            3 OPERATOR(pg_catalog.*) COALESCE(pg_catalog.octet_length(attributes::pg_catalog.text), 0)
        )) OPERATOR(pg_catalog.<=) outbox.max_event_bytes()
        AND outbox.incarnation() IS NOT NULL AND NOT outbox.notifies()
    THEN
        UPDATE outbox.heads AS h SET
            sequence = h.sequence OPERATOR(pg_catalog.+) 1,
            entry_id = pg_catalog.nextval('outbox.entry_ids'),
            previous_id = h.entry_id,
            incarnation = outbox.incarnation(),
            last_index = 0,
            after = pg_catalog.concat(h.incarnation, '.', h.sequence, '.', h.last_index)
        WHERE h.key OPERATOR(pg_catalog.=) write.key COLLATE pg_catalog."C"
            AND (write.expected IS NULL OR h.sequence OPERATOR(pg_catalog.=) write.expected)
        RETURNING h.sequence, h.entry_id, h.previous_id, h.after
        INTO new_sequence, new_id, follows_id, follows;
        IF FOUND THEN
            INSERT INTO outbox.entries (
                id, key, incarnation, sequence, after, previous_id, commit_id, recorded_at,
                type, event_id, content_type, data, attributes
            ) OVERRIDING SYSTEM VALUE VALUES (
                new_id, key, outbox.incarnation(), new_sequence, follows, follows_id,
                COALESCE(commit_id, pg_catalog.gen_random_uuid()), COALESCE(recorded_at, pg_catalog.clock_timestamp()),
                type, event_id, content_type, data, attributes::pg_catalog.text
            );
            RETURN new_sequence;
        END IF;
    END IF;
    RETURN outbox.write_slowly(
        key, type, data, NULL, content_type, event_id, attributes::pg_catalog.text, expected, commit_id, recorded_at
    );
END
$$;

-- As `write`, for a payload of bytes.
CREATE OR REPLACE FUNCTION outbox.write(
    key text, type text, data bytea, content_type text DEFAULT NULL, event_id text DEFAULT NULL,
    attributes jsonb DEFAULT NULL, expected bigint DEFAULT NULL, commit_id uuid DEFAULT NULL,
    recorded_at timestamptz DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM outbox.check_event('', type, event_id, content_type, attributes);
    RETURN outbox.write_slowly(
        key, type, NULL, data, content_type, event_id, attributes::text, expected, commit_id, recorded_at
    );
END
$$;

-- As `write`, for a payload of JSON: as PostgreSQL prints it.
CREATE OR REPLACE FUNCTION outbox.write(
    key text, type text, data jsonb, content_type text DEFAULT NULL, event_id text DEFAULT NULL,
    attributes jsonb DEFAULT NULL, expected bigint DEFAULT NULL, commit_id uuid DEFAULT NULL,
    recorded_at timestamptz DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN outbox.write(key, type, data::text, content_type, event_id, attributes, expected, commit_id, recorded_at);
END
$$;

-- As `write`, for a payload of JSON: as it was given.
CREATE OR REPLACE FUNCTION outbox.write(
    key text, type text, data json, content_type text DEFAULT NULL, event_id text DEFAULT NULL,
    attributes jsonb DEFAULT NULL, expected bigint DEFAULT NULL, commit_id uuid DEFAULT NULL,
    recorded_at timestamptz DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN outbox.write(key, type, data::text, content_type, event_id, attributes, expected, commit_id, recorded_at);
END
$$;

-- Writes an event that has been checked, but for its key and its size.
CREATE OR REPLACE FUNCTION outbox.write_slowly(
    key text, type text, data text, data_bytes bytea, content_type text, event_id text, attributes text,
    expected bigint, commit_id uuid, recorded_at timestamptz
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    placed outbox.placed;
    bytes bigint;
BEGIN
    PERFORM outbox.check_expected(key, expected);
    -- Without key and id, an event is known by its commit id; one that was given may be that of several entries.
    IF key IS NULL AND event_id IS NULL THEN
        event_id := outbox.new_event_id();
    END IF;
    bytes := coalesce(octet_length(data), octet_length(data_bytes), 0) + 3 * coalesce(octet_length(attributes), 0);
    IF bytes > outbox.max_event_bytes() THEN
        PERFORM outbox.refuse_size('data', bytes, outbox.max_event_bytes());
    END IF;
    placed := outbox.put(
        key, expected, 1, type, event_id, content_type, data, data_bytes, attributes, NULL,
        coalesce(commit_id, gen_random_uuid()), coalesce(recorded_at, clock_timestamp())
    );
    IF placed.actual IS NOT NULL THEN
        PERFORM outbox.refuse_conflict(key, expected, placed.actual);
    END IF;
    RETURN placed.sequence;
END
$$;

-- What became of a commit whose answer was lost: true, false, or NULL if the entry has been purged since. Without a key,
-- `sequence` is NULL, and only the newest 10,000 entries are looked through. Waits for whoever is writing to the key.
-- Not to be called in the transaction that wrote.
CREATE OR REPLACE FUNCTION outbox.committed(key text, sequence bigint, commit_id uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry record;
    follows_id bigint;
BEGIN
    IF key IS NULL THEN
        RETURN nullif(EXISTS (
            SELECT FROM (SELECT e.commit_id FROM outbox.entries AS e ORDER BY e.id DESC LIMIT 10000) AS newest
            WHERE newest.commit_id = committed.commit_id
        ), false);
    END IF;
    SELECT h.sequence, h.entry_id INTO entry FROM outbox.heads AS h WHERE h.key = committed.key COLLATE "C" FOR SHARE;
    IF NOT FOUND OR entry.sequence < sequence THEN
        RETURN false;
    END IF;
    follows_id := entry.entry_id;
    LOOP
        SELECT e.sequence, e.previous_id, e.commit_id INTO entry FROM outbox.entries AS e WHERE e.id = follows_id;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        IF entry.sequence <= sequence THEN
            RETURN entry.commit_id = commit_id;
        END IF;
        follows_id := entry.previous_id;
    END LOOP;
END
$$;
