-- What is refused at the write. These run within the functions that writers may call, with their rights and search path.

-- Refuses `value` unless it is text that an attribute may hold (CloudEvents 1.0, type String): 1 to `longest` bytes,
-- no control characters, no noncharacters.
CREATE OR REPLACE FUNCTION outbox.check_text(name text, value text, longest integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF octet_length(value) NOT BETWEEN 1 AND longest THEN
        RAISE EXCEPTION 'outbox: `%` must have 1 to % bytes', name, longest
            USING ERRCODE = '22023', COLUMN = name, HINT = 'It has ' || octet_length(value) || '.';
    END IF;
    IF value ~ ('[\u0001-\u001F\u007F-\u009F\uFDD0-\uFDEF\uFFFE\uFFFF'
        || '\U0001FFFE\U0001FFFF\U0002FFFE\U0002FFFF\U0003FFFE\U0003FFFF\U0004FFFE\U0004FFFF\U0005FFFE\U0005FFFF'
        || '\U0006FFFE\U0006FFFF\U0007FFFE\U0007FFFF\U0008FFFE\U0008FFFF\U0009FFFE\U0009FFFF\U000AFFFE\U000AFFFF'
        || '\U000BFFFE\U000BFFFF\U000CFFFE\U000CFFFF\U000DFFFE\U000DFFFF\U000EFFFE\U000EFFFF\U000FFFFE\U000FFFFF'
        || '\U0010FFFE\U0010FFFF]') COLLATE "C" THEN
        RAISE EXCEPTION 'outbox: `%` holds a control character: remove it', name
            USING ERRCODE = '22023', COLUMN = name;
    END IF;
END
$$;

-- Refuses attributes that no event may have.
CREATE OR REPLACE FUNCTION outbox.check_attributes(attributes jsonb) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    one record;
    problem text;
BEGIN
    IF jsonb_typeof(attributes) <> 'object' THEN
        RAISE EXCEPTION 'outbox: `attributes` must be a JSON object, or NULL'
            USING ERRCODE = '22023', COLUMN = 'attributes';
    END IF;
    IF octet_length(attributes::text) > 65536 THEN
        RAISE EXCEPTION 'outbox: `attributes` has more than 65536 bytes: put it into `data`'
            USING ERRCODE = '22023', COLUMN = 'attributes';
    END IF;
    FOR one IN
        SELECT a.key, jsonb_typeof(a.value) AS is, a.value #>> '{}' AS text FROM jsonb_each(attributes) AS a
    LOOP
        problem := CASE
            WHEN one.key !~ '^[a-z0-9]{1,20}$'
            THEN 'cannot be a name: use 1 to 20 lower-case letters and digits'
            WHEN one.key = ANY ('{specversion,id,source,type,datacontenttype,data,partitionkey,sequence,place,after,gapless,replayid,recordedtime}'::text[])
            THEN 'is set by Outbox or by CloudEvents itself: give it as a parameter of its own, or choose another name'
            WHEN one.key IN ('subject', 'time', 'dataschema') AND one.is <> 'string'
            THEN 'must be text'
            WHEN one.is NOT IN ('string', 'boolean', 'number')
                OR one.is = 'number' AND (one.text !~ '^-?[0-9]{1,10}$'
                    OR one.text::numeric NOT BETWEEN -2147483648 AND 2147483647)
            THEN 'must be text, true, false, or an integer of 32 bits'
            WHEN one.key = 'time' AND NOT outbox.is_time(one.text)
            THEN 'must be RFC 3339, as 2026-11-21T09:30:00Z'
            WHEN one.key = 'dataschema' AND one.text ~ '[ "<>\\^`{|}]'
            THEN 'must be a URI reference, without spaces'
        END;
        IF problem IS NOT NULL THEN
            RAISE EXCEPTION 'outbox: `%` in `attributes` %', left(one.key, 64), problem
                USING ERRCODE = '22023', COLUMN = 'attributes';
        END IF;
        IF one.is = 'string' THEN
            PERFORM outbox.check_text(one.key, one.text, 1024);
        END IF;
    END LOOP;
END
$$;

-- Whether a text is a time stamp as RFC 3339 has it, and exists.
CREATE OR REPLACE FUNCTION outbox.is_time(value text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})$'
        AND value::timestamptz IS NOT NULL;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
    RETURN false;
END
$$;

-- An id for an event that has none, nor a key: a UUID version 7 (RFC 9562).
CREATE OR REPLACE FUNCTION outbox.new_event_id() RETURNS text
LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6
    ), 52, 1), 53, 1), 'hex')::uuid::text
$$;

-- Refuses what no event may have, but for its size and its key; else true.
CREATE OR REPLACE FUNCTION outbox.check_event(
    prefix text, type text, event_id text, content_type text, attributes jsonb
) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF type IS NULL THEN
        RAISE EXCEPTION 'outbox: `%type` is missing: say what happened, as order.placed', prefix
            USING ERRCODE = '22023', COLUMN = 'type';
    END IF;
    PERFORM outbox.check_text(prefix || 'type', type, 1024);
    PERFORM outbox.check_text(prefix || 'event_id', event_id, 1024);
    PERFORM outbox.check_text(prefix || 'content_type', content_type, 1024);
    IF attributes IS NOT NULL THEN
        PERFORM outbox.check_attributes(attributes);
    END IF;
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION outbox.check_expected(key text, expected bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF expected < 0 OR expected IS NOT NULL AND key IS NULL THEN
        RAISE EXCEPTION 'outbox: `expected` must be the sequence of the key, 0 if it has none, or NULL for any'
            USING ERRCODE = '22023', COLUMN = 'expected';
    END IF;
END
$$;

-- SQLSTATE OX001: somebody else wrote to the key since it was read.
CREATE OR REPLACE FUNCTION outbox.refuse_conflict(key text, expected bigint, actual bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE EXCEPTION 'outbox: conflict: the key is at sequence %, not %', actual, expected
        USING ERRCODE = 'OX001', COLUMN = 'expected', DETAIL = 'The key is ' || key || '.',
            HINT = 'Roll back, read again, decide again.';
END
$$;

-- SQLSTATE OX002: larger than the sinks of the registered routes take.
CREATE OR REPLACE FUNCTION outbox.refuse_size(name text, bytes bigint, most bigint) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE EXCEPTION 'outbox: too large: `%` and three times the attributes have % bytes, more than the % that the routes take', name, bytes, most
        USING ERRCODE = 'OX002', COLUMN = 'data',
            HINT = 'Make the event smaller, or put the payload elsewhere and write a reference.';
END
$$;

-- SQLSTATE OX003: the tables are there, but `outbox init` has not been run.
CREATE OR REPLACE FUNCTION outbox.refuse_without_identity() RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE EXCEPTION 'outbox: this database has no identity yet' USING ERRCODE = 'OX003', HINT = 'Run `outbox init`.';
END
$$;
