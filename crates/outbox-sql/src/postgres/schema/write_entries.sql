-- Writing from Rust: events that were checked and encoded there, an array for each column, and a refusal as a row rather
-- than an error, so that the caller's transaction goes on. Not for use by hand: `write` and `write_all` check what they
-- are given. A row of rubbish would stop nothing: a relay sets it aside.

-- Locks `keys`, which are sorted, those without a head included. Gives what sequence each is at.
CREATE OR REPLACE FUNCTION outbox.lock_keys(keys text[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    wanted text;
    at bigint;
    sequences bigint[] := '{}';
    made text[] := '{}';
BEGIN
    -- Whoever raises the incarnation locks the heads: before the first of them is locked here, or after the last is let go.
    LOCK TABLE outbox.heads IN ROW EXCLUSIVE MODE;
    FOREACH wanted IN ARRAY keys LOOP
        LOOP
            SELECT h.sequence INTO at FROM outbox.heads AS h WHERE h.key = wanted FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO outbox.heads (key, sequence, entry_id, incarnation, last_index, after)
            VALUES (wanted, 0, 0, 0, 0, '0.0.0') ON CONFLICT DO NOTHING;
            IF FOUND THEN
                at := 0;
                made := made || wanted;
                EXIT;
            END IF;
        END LOOP;
        sequences := sequences || at;
    END LOOP;
    -- A row that is made and removed in one transaction holds up whoever wants to make the same, until the end of it.
    DELETE FROM outbox.heads AS h WHERE h.key = ANY (made);
    RETURN sequences;
END
$$;

-- Writes entries: one for each element of the arrays, keys sorted. `sizes` has the bytes of each entry's largest event,
-- `recorded_at` microseconds since 1970, `guarded` the keys whose sequences have to be `expected`. Gives a row an entry;
-- or, without having written anything, one row with a `refusal`: 'conflict', with the number of the guarded key and what
-- sequence it is at; 'too large', with the number of the entry and the limit.
CREATE OR REPLACE FUNCTION outbox.write_entries(
    commit_id uuid, recorded_at bigint, sizes bigint[], keys text[], counts integer[], types text[], event_ids text[],
    content_types text[], data text[], data_bytes bytea[], attributes text[], more text[], guarded text[],
    expected bigint[]
) RETURNS TABLE (refusal text, number integer, incarnation integer, sequence bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    recorded timestamptz := timestamptz 'epoch' + recorded_at * interval '1 microsecond';
    placed outbox.placed;
    locked text[];
    sequences bigint[];
    guard bigint;
BEGIN
    IF outbox.incarnation() IS NULL THEN
        PERFORM outbox.refuse_without_identity();
    END IF;
    FOR i IN 1 .. cardinality(sizes) LOOP
        IF sizes[i] > outbox.max_event_bytes() THEN
            refusal := 'too large';
            number := i;
            sequence := outbox.max_event_bytes();
            RETURN NEXT;
            RETURN;
        END IF;
    END LOOP;
    IF cardinality(guarded) = 1 AND keys = guarded THEN
        guard := expected[1];
    ELSIF cardinality(guarded) > 0 THEN
        SELECT array_agg(one.key ORDER BY one.key) INTO locked FROM (
            SELECT key COLLATE "C" AS key FROM unnest(keys) AS key WHERE key IS NOT NULL
            UNION SELECT key COLLATE "C" FROM unnest(guarded) AS key
        ) AS one;
        sequences := outbox.lock_keys(locked);
        FOR i IN 1 .. cardinality(guarded) LOOP
            sequence := sequences[array_position(locked, guarded[i])];
            IF sequence <> expected[i] THEN
                refusal := 'conflict';
                number := i;
                RETURN NEXT;
                RETURN;
            END IF;
        END LOOP;
    END IF;
    FOR i IN 1 .. cardinality(sizes) LOOP
        placed := outbox.put(
            keys[i], guard, counts[i], types[i], event_ids[i], content_types[i], data[i], data_bytes[i], attributes[i],
            more[i], commit_id, recorded
        );
        number := i;
        IF placed.actual IS NOT NULL THEN
            refusal := 'conflict';
            sequence := placed.actual;
            RETURN NEXT;
            RETURN;
        END IF;
        incarnation := placed.incarnation;
        sequence := placed.sequence;
        RETURN NEXT;
    END LOOP;
END
$$;
