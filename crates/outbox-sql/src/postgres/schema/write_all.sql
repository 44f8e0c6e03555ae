-- Writing many events in one call.

-- One event of a call, as JSON: refused if it cannot be one. `name` is how an error calls it, as `events[2].`.
CREATE OR REPLACE FUNCTION outbox.check_event_json(name text, event json, most bigint) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    one record;
    wanted text;
    bytes bigint := 0;
BEGIN
    IF json_typeof(event) <> 'object' THEN
        RAISE EXCEPTION 'outbox: `%` must be a JSON object', rtrim(name, '.') USING ERRCODE = '22023', COLUMN = 'events';
    END IF;
    FOR one IN
        SELECT member.key, count(*) AS times, min(json_typeof(member.value)) AS is
        FROM json_each(event) AS member GROUP BY member.key
    LOOP
        wanted := CASE one.key
            WHEN 'key' THEN 'string null' WHEN 'type' THEN 'string' WHEN 'id' THEN 'string null'
            WHEN 'content_type' THEN 'string null' WHEN 'data_base64' THEN 'string null'
            WHEN 'attributes' THEN 'object null' WHEN 'expected' THEN 'number null' WHEN 'data' THEN one.is
        END;
        IF wanted IS NULL THEN
            RAISE EXCEPTION 'outbox: `%` has the member `%`, which no event has', rtrim(name, '.'), left(one.key, 64)
                USING ERRCODE = '22023', COLUMN = 'events', HINT =
                'There are key, type, data or data_base64, content_type, id, attributes and expected.';
        END IF;
        IF one.times > 1 OR one.is <> ALL (string_to_array(wanted, ' ')) THEN
            RAISE EXCEPTION 'outbox: `%` must be given once, as %', name || one.key, replace(wanted, ' ', ' or ')
                USING ERRCODE = '22023', COLUMN = 'events';
        END IF;
    END LOOP;
    PERFORM outbox.check_event(
        name, event ->> 'type', event ->> 'id', event ->> 'content_type',
        CASE WHEN json_typeof(event -> 'attributes') = 'object' THEN (event -> 'attributes')::jsonb END
    );
    IF event ->> 'expected' !~ '^[0-9]{1,18}$' THEN
        RAISE EXCEPTION 'outbox: `%` must be a whole number', name || 'expected' USING ERRCODE = '22023', COLUMN = 'events';
    END IF;
    PERFORM outbox.check_expected(event ->> 'key', (event ->> 'expected')::bigint);
    IF event ->> 'data_base64' IS NOT NULL THEN
        IF event -> 'data' IS NOT NULL OR (event ->> 'data_base64') !~ '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$' THEN
            RAISE EXCEPTION 'outbox: `%` must be base64 with its padding, and stand without `data`', name || 'data_base64'
                USING ERRCODE = '22023', COLUMN = 'events';
        END IF;
        bytes := octet_length(decode(event ->> 'data_base64', 'base64'));
    ELSIF event -> 'data' IS NOT NULL THEN
        bytes := octet_length((event -> 'data')::text);
    END IF;
    IF json_typeof(event -> 'attributes') = 'object' THEN
        bytes := bytes + 3 * octet_length((event -> 'attributes')::jsonb::text);
    END IF;
    IF bytes > most THEN
        PERFORM outbox.refuse_size(name || 'data', bytes, most);
    END IF;
END
$$;

-- A second or later event of an entry, as the column `more` holds it: without key and expectation, payload verbatim.
CREATE OR REPLACE FUNCTION outbox.further_event(event json) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{' || string_agg(to_json(member.key)::text || ':' || member.value::text, ',') || '}'
    FROM json_each(event) AS member
    WHERE member.key NOT IN ('key', 'expected') AND (member.key = 'data' OR json_typeof(member.value) <> 'null')
$$;

-- Writes the events of a JSON array in the caller's transaction: objects with `type`, and `key`, `data` (any JSON) or
-- `data_base64`, `content_type`, `id`, `attributes` and `expected` where wanted. Those of one key become one entry, in
-- their order; keys are taken in sorted order, so that writers do not wait for each other in a circle. Gives a row an
-- entry: first the keys, sorted, then the events without a key.
CREATE OR REPLACE FUNCTION outbox.write_all(
    events json, commit_id uuid DEFAULT NULL, recorded_at timestamptz DEFAULT NULL
) RETURNS TABLE (key text, sequence bigint, count integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    entry record;
    first json;
    rest text;
    placed outbox.placed;
BEGIN
    IF events IS NULL OR json_typeof(events) <> 'array' THEN
        RAISE EXCEPTION 'outbox: `events` must be a JSON array of events' USING ERRCODE = '22023', COLUMN = 'events';
    END IF;
    IF outbox.incarnation() IS NULL THEN
        PERFORM outbox.refuse_without_identity();
    END IF;
    PERFORM outbox.check_event_json('events[' || one.number - 1 || '].', one.value, outbox.max_event_bytes())
    FROM json_array_elements(events) WITH ORDINALITY AS one (value, number);
    commit_id := coalesce(commit_id, gen_random_uuid());
    recorded_at := coalesce(recorded_at, clock_timestamp());
    FOR entry IN
        SELECT grouped.key, min(grouped.number) AS number, array_agg(grouped.value ORDER BY grouped.number) AS members,
            count(DISTINCT grouped.value ->> 'expected') AS expectations,
            min((grouped.value ->> 'expected')::bigint) AS expected
        FROM (
            SELECT one.value ->> 'key' COLLATE "C" AS key, one.value, one.number
            FROM json_array_elements(events) WITH ORDINALITY AS one (value, number)
        ) AS grouped
        GROUP BY grouped.key, CASE WHEN grouped.key IS NULL THEN grouped.number END
        ORDER BY grouped.key NULLS LAST, number
    LOOP
        IF entry.expectations > 1 THEN
            RAISE EXCEPTION 'outbox: `expected` differs among the events of a key: give it once'
                USING ERRCODE = '22023', COLUMN = 'events', DETAIL = 'The key is ' || entry.key || '.';
        END IF;
        count := cardinality(entry.members);
        first := entry.members[1];
        SELECT '[' || string_agg(outbox.further_event(one.value), ',' ORDER BY one.number) || ']' INTO rest
        FROM unnest(entry.members[2:]) WITH ORDINALITY AS one (value, number);
        IF count > 1000 OR octet_length(rest) + coalesce(
            octet_length((first -> 'data')::text), octet_length(decode(first ->> 'data_base64', 'base64')), 0
        ) > 16777216 THEN
            RAISE EXCEPTION 'outbox: an entry takes 1000 events and 16777216 bytes: write several entries'
                USING ERRCODE = '54000', COLUMN = 'events', DETAIL = 'The key is ' || entry.key || '.';
        END IF;
        placed := outbox.put(
            entry.key, entry.expected, count, first ->> 'type',
            CASE WHEN entry.key IS NULL THEN coalesce(first ->> 'id', outbox.new_event_id()) ELSE first ->> 'id' END,
            first ->> 'content_type', (first -> 'data')::text, decode(first ->> 'data_base64', 'base64'),
            CASE WHEN json_typeof(first -> 'attributes') = 'object' THEN (first -> 'attributes')::jsonb::text END,
            rest, commit_id, recorded_at
        );
        IF placed.actual IS NOT NULL THEN
            PERFORM outbox.refuse_conflict(entry.key, entry.expected, placed.actual);
        END IF;
        key := entry.key;
        sequence := placed.sequence;
        RETURN NEXT;
    END LOOP;
END
$$;

-- As `write_all`, for drivers that send JSON as text, or as jsonb.
CREATE OR REPLACE FUNCTION outbox.write_all(
    events text, commit_id uuid DEFAULT NULL, recorded_at timestamptz DEFAULT NULL
) RETURNS TABLE (key text, sequence bigint, count integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT written.* FROM outbox.write_all(events::json, commit_id, recorded_at) AS written;
END
$$;

CREATE OR REPLACE FUNCTION outbox.write_all(
    events jsonb, commit_id uuid DEFAULT NULL, recorded_at timestamptz DEFAULT NULL
) RETURNS TABLE (key text, sequence bigint, count integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT written.* FROM outbox.write_all(events::text::json, commit_id, recorded_at) AS written;
END
$$;
