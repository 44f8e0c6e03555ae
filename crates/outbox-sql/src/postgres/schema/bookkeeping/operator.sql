-- Outbox bookkeeping, layout 1: what an operator changes, while a relay runs or not.

-- Changes the fronts of the dead letters that are meant, and gives each trouble another generation, so that a keeper that does
-- not know of the change yet cannot settle over it. A lane that a keeper is settling at this moment is waited for, and left
-- alone if its front is another one then.
CREATE OR REPLACE FUNCTION outbox_relay.change_dead(
    route text, id bigint, key text, type text, state text, due text, discard_reason text
) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
BEGIN
    PERFORM outbox_relay.begin_change();
    WITH meant AS (
        SELECT t.lane FROM outbox_relay.troubles t JOIN outbox_relay.kept k ON k.id = t.front
            WHERE t.route = change_dead.route AND t.state = 'dead'
            AND (change_dead.id IS NULL OR k.id = change_dead.id)
            AND (change_dead.key IS NULL OR k.key = change_dead.key)
            AND (change_dead.type IS NULL OR k.type = change_dead.type)
            ORDER BY t.lane FOR UPDATE OF t
    )
    UPDATE outbox_relay.troubles t
        SET state = change_dead.state, due = change_dead.due,
            discard_reason = coalesce(change_dead.discard_reason, t.discard_reason),
            attempts = CASE change_dead.state WHEN 'retrying' THEN 0 ELSE t.attempts END,
            generation = nextval('outbox_relay.generations')
        FROM meant WHERE t.route = change_dead.route AND t.lane = meant.lane;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$$;

-- Erases every kept event of a key, in every route, and releases its lanes. Tombstones stay, or a restart would read the events
-- again and publish them.
CREATE OR REPLACE FUNCTION outbox_relay.erase(key text) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    erased bigint;
BEGIN
    PERFORM outbox_relay.begin_great_change();
    WITH gone AS (
        DELETE FROM outbox_relay.kept k WHERE k.key = erase.key
            RETURNING k.route, k.lane, k.record, k.event_index, k.event_id, k.partition, k.position
    ), buried AS (
        INSERT INTO outbox_relay.tombstones (route, record, event_index, event_id, partition, position)
            SELECT g.route, g.record, g.event_index, g.event_id, g.partition, g.position FROM gone g
            ON CONFLICT DO NOTHING
    ), released AS (
        DELETE FROM outbox_relay.troubles t USING (SELECT DISTINCT g.route, g.lane FROM gone g) AS of_key
            WHERE t.route = of_key.route AND t.lane = of_key.lane
    )
    SELECT count(*) INTO erased FROM gone;
    RETURN erased;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.pause(route text, paused boolean) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.begin_change();
    IF pause.paused THEN
        INSERT INTO outbox_relay.paused (route) VALUES (pause.route) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM outbox_relay.paused p WHERE p.route = pause.route;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.put_replay(
    id text, route text, filter text, event text, since text, until text, ends text, finished boolean
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.begin_change();
    INSERT INTO outbox_relay.replays (id, route, filter, event, since, until, ends, finished)
        VALUES (put_replay.id, put_replay.route, put_replay.filter, put_replay.event, put_replay.since,
            put_replay.until, put_replay.ends, put_replay.finished)
        ON CONFLICT (id) DO UPDATE SET route = excluded.route, filter = excluded.filter, event = excluded.event,
            since = excluded.since, until = excluded.until, ends = excluded.ends, finished = excluded.finished;
END
$$;

-- Whether a row is the route's own, or of a temporary route that carries out one of its replays.
CREATE OR REPLACE FUNCTION outbox_relay.is_of(name text, route text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$ SELECT $1 = $2 OR starts_with($1, $2 || '/replay/') $$;

CREATE OR REPLACE FUNCTION outbox_relay.rename_route(from_route text, to_route text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    of_routes text;
    taken boolean;
BEGIN
    PERFORM outbox_relay.begin_great_change();
    FOREACH of_routes IN ARRAY
        '{checkpoints, witnesses, troubles, kept, tombstones, health, paused, replays}'::text[] LOOP
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM outbox_relay.%I WHERE outbox_relay.is_of(route, $1))', of_routes)
            INTO taken USING to_route;
        IF taken THEN
            RAISE EXCEPTION 'the bookkeeping knows a route `%` already (its %)', to_route, of_routes
                USING ERRCODE = 'OX104',
                HINT = format('choose another name, or `outbox route retire %s` first', to_route);
        END IF;
        EXECUTE format(
            'UPDATE outbox_relay.%I SET route = $2 || substr(route, length($1) + 1) WHERE outbox_relay.is_of(route, $1)',
            of_routes) USING from_route, to_route;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.forget_route(route text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    of_routes text;
BEGIN
    PERFORM outbox_relay.begin_great_change();
    FOREACH of_routes IN ARRAY
        '{checkpoints, witnesses, troubles, kept, tombstones, health, paused, replays}'::text[] LOOP
        EXECUTE format('DELETE FROM outbox_relay.%I WHERE outbox_relay.is_of(route, $1)', of_routes)
            USING forget_route.route;
    END LOOP;
END
$$;

-- Claims are stored without the id, so those of the former one would read as the new one's.
CREATE OR REPLACE FUNCTION outbox_relay.renew_id(id text) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.begin_great_change();
    UPDATE outbox_relay.bookkeeping SET id = renew_id.id;
    DELETE FROM outbox_relay.claims;
END
$$;

-- Sets a checkpoint whatever it was, and forgets what the route read behind it: all, if its position is not that of a witness.
-- Positions are opaque here, so their order is that in which they were recorded.
CREATE OR REPLACE FUNCTION outbox_relay.reset_checkpoint(route text, partition text, "position" text, finished boolean) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.begin_great_change();
    PERFORM outbox_relay.put_checkpoint(
        reset_checkpoint.route, reset_checkpoint.partition, reset_checkpoint.position, reset_checkpoint.finished);
    DELETE FROM outbox_relay.witnesses w
        WHERE w.route = reset_checkpoint.route AND w.partition = reset_checkpoint.partition
        AND w.number > coalesce((
            SELECT max(b.number) FROM outbox_relay.witnesses b
            WHERE b.route = reset_checkpoint.route AND b.partition = reset_checkpoint.partition
            AND b.position = reset_checkpoint.position), 0);
END
$$;
