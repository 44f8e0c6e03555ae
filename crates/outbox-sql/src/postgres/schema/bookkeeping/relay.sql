-- Outbox bookkeeping, layout 1: what a relay writes.

-- Takes a lease if it is as it was seen, and gives the new epoch; NULL if it is not. Waits for writes of the present
-- owner that are under way: FOR UPDATE excludes their KEY SHARE.
CREATE OR REPLACE FUNCTION outbox_relay.take(
    name text, seen_epoch bigint, seen_beat bigint, seen_released boolean, holder text, duration_us bigint
) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    held outbox_relay.leases;
    taken bigint;
BEGIN
    PERFORM outbox_relay.begin_write();
    SELECT * INTO held FROM outbox_relay.leases l WHERE l.name = take.name FOR UPDATE;
    IF NOT FOUND THEN
        IF take.seen_epoch = 0 AND take.seen_beat = 0 AND take.seen_released THEN
            -- An operator's great change locks the leases that it finds; one that it does not find waits for it here.
            PERFORM FROM outbox_relay.bookkeeping FOR SHARE;
            -- Of two who take a lease that was never there the second waits for the first, and inserts nothing.
            INSERT INTO outbox_relay.leases (name, epoch, beat, released, holder, duration_us)
                VALUES (take.name, 1, 1, false, take.holder, take.duration_us)
                ON CONFLICT DO NOTHING RETURNING epoch INTO taken;
        END IF;
    ELSIF (held.epoch, held.beat, held.released) = (take.seen_epoch, take.seen_beat, take.seen_released) THEN
        UPDATE outbox_relay.leases l
            SET epoch = l.epoch + 1, beat = l.beat + 1, released = false, holder = take.holder,
                duration_us = take.duration_us
            WHERE l.name = take.name RETURNING l.epoch INTO taken;
    END IF;
    RETURN taken;
END
$$;

-- Raises the beat. Two columns that are in no index: it waits for no write.
CREATE OR REPLACE FUNCTION outbox_relay.renew(lease text, epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    held outbox_relay.leases;
BEGIN
    PERFORM outbox_relay.begin_write();
    UPDATE outbox_relay.leases SET beat = beat + 1
        WHERE name = renew.lease AND epoch = renew.epoch AND NOT released;
    IF NOT FOUND THEN
        -- Says who has it. A lease that was lost never comes back under its epoch.
        SELECT * INTO held FROM outbox_relay.leases WHERE name = renew.lease;
        PERFORM outbox_relay.refuse_unless_held(held, renew.lease, renew.epoch);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.release(lease text, epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.begin_write();
    UPDATE outbox_relay.leases SET released = true
        WHERE name = release.lease AND epoch = release.epoch AND NOT released;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.note_claims(
    lease text, epoch bigint, connection bigint, epochs bigint[], nonces text[]
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.fence(note_claims.lease, note_claims.epoch, note_claims.connection);
    DELETE FROM outbox_relay.claims c WHERE c.lease = note_claims.lease;
    INSERT INTO outbox_relay.claims (lease, epoch, nonce)
        SELECT note_claims.lease, noted.epoch, noted.nonce
        FROM unnest(note_claims.epochs, note_claims.nonces) AS noted (epoch, nonce)
        ON CONFLICT DO NOTHING;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.put_checkpoint(route text, partition text, "position" text, finished boolean) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO outbox_relay.checkpoints (route, partition, position, finished) VALUES ($1, $2, $3, $4)
        ON CONFLICT (route, partition) DO UPDATE SET position = excluded.position, finished = excluded.finished;
$$;

-- Stores a checkpoint, and the witness of the last entry before it under the route's next number, unless it is the latest
-- already. A witness that is 64, 128, 256 … numbers old stays only if its number is a multiple of 2, 4, 8 …: each witness
-- passes each of these ages once, so a few deletions suffice. Of n witnesses about 64 + 32 log n stay.
CREATE OR REPLACE FUNCTION outbox_relay.checkpoint(
    lease text, epoch bigint, connection bigint, route text, partition text, "position" text, finished boolean,
    witness_position text, witness_commit bytea
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    latest outbox_relay.witnesses;
    next bigint;
BEGIN
    PERFORM outbox_relay.fence(checkpoint.lease, checkpoint.epoch, checkpoint.connection);
    PERFORM outbox_relay.put_checkpoint(
        checkpoint.route, checkpoint.partition, checkpoint.position, checkpoint.finished);
    IF checkpoint.witness_commit IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO latest FROM outbox_relay.witnesses w
        WHERE w.route = checkpoint.route AND w.partition = checkpoint.partition ORDER BY w.number DESC LIMIT 1;
    IF (latest.position, latest.commit_id) = (checkpoint.witness_position, checkpoint.witness_commit) THEN
        RETURN;
    END IF;
    next := coalesce(latest.number, 0) + 1;
    INSERT INTO outbox_relay.witnesses (route, partition, number, position, commit_id)
        VALUES (checkpoint.route, checkpoint.partition, next, checkpoint.witness_position, checkpoint.witness_commit);
    DELETE FROM outbox_relay.witnesses w
        WHERE w.route = checkpoint.route AND w.partition = checkpoint.partition AND w.number = ANY (ARRAY(
            SELECT next - (64::bigint << ages.n) FROM generate_series(0, 40) AS ages (n)
            WHERE (64::bigint << ages.n) < next AND (next - (64::bigint << ages.n)) % (2::bigint << ages.n) <> 0));
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.forget_checkpoints(
    lease text, epoch bigint, connection bigint, route text, partitions text[]
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.fence(forget_checkpoints.lease, forget_checkpoints.epoch, forget_checkpoints.connection);
    DELETE FROM outbox_relay.checkpoints f
        WHERE f.route = forget_checkpoints.route AND f.partition = ANY (forget_checkpoints.partitions);
    DELETE FROM outbox_relay.witnesses f
        WHERE f.route = forget_checkpoints.route AND f.partition = ANY (forget_checkpoints.partitions);
    DELETE FROM outbox_relay.tombstones f
        WHERE f.route = forget_checkpoints.route AND f.partition = ANY (forget_checkpoints.partitions);
END
$$;

-- Keeps events of one lane in their order. Gives the generation of their trouble; NULL if there is nothing to park behind.
CREATE OR REPLACE FUNCTION outbox_relay.keep(
    lease text, epoch bigint, connection bigint, route text, lane text, partition text,
    state text, due text, discard_reason text, attempts bigint, failed_since text, reason text,
    event_ids text[], positions text[], indexes bigint[], keys text[], types text[], contents bytea[],
    undecodables text[]
) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    known bigint;
    is_new boolean := false;
    stored bigint;
    first bigint;
BEGIN
    PERFORM outbox_relay.fence(keep.lease, keep.epoch, keep.connection);
    -- The lane is locked before its events get their numbers.
    SELECT t.generation INTO known FROM outbox_relay.troubles t
        WHERE t.route = keep.route AND t.lane = keep.lane FOR UPDATE;
    WHILE known IS NULL LOOP
        IF keep.state IS NULL THEN
            RETURN NULL;
        END IF;
        INSERT INTO outbox_relay.troubles
            (route, lane, generation, front, state, due, discard_reason, attempts, failed_since, reason, kept)
            VALUES (keep.route, keep.lane, nextval('outbox_relay.generations'), 0, keep.state, keep.due,
                keep.discard_reason, keep.attempts, keep.failed_since, keep.reason, 0)
            ON CONFLICT (route, lane) DO NOTHING RETURNING generation INTO known;
        is_new := FOUND;
        IF NOT is_new THEN
            -- Another call opened it meanwhile. It may even have been released since: then once more.
            SELECT t.generation INTO known FROM outbox_relay.troubles t
                WHERE t.route = keep.route AND t.lane = keep.lane FOR UPDATE;
        END IF;
    END LOOP;
    -- Those that were discarded, or are kept already, are passed over.
    WITH events AS (
        SELECT e.*, outbox_relay.record(e.event_id, keep.partition, e.position) AS record
        FROM unnest(keep.event_ids, keep.positions, keep.indexes, keep.keys, keep.types, keep.contents,
            keep.undecodables) WITH ORDINALITY
            AS e (event_id, position, event_index, key, type, content, undecodable, n)
    ), added AS (
        INSERT INTO outbox_relay.kept
            (route, lane, record, event_index, event_id, partition, position, key, type, content, undecodable)
            SELECT keep.route, keep.lane, e.record, e.event_index, e.event_id, keep.partition, e.position, e.key, e.type,
                e.content, e.undecodable
            FROM events e
            WHERE NOT EXISTS (SELECT FROM outbox_relay.tombstones b
                WHERE b.route = keep.route AND b.record = e.record AND b.event_index = e.event_index)
            ORDER BY e.n
            ON CONFLICT (route, lane, record, event_index) DO NOTHING
            RETURNING id
    )
    SELECT count(*), min(id) INTO stored, first FROM added;
    IF NOT is_new THEN
        UPDATE outbox_relay.troubles t SET kept = t.kept + stored
            WHERE t.route = keep.route AND t.lane = keep.lane AND stored > 0;
    ELSIF stored = 0 THEN
        -- All of them had been discarded: there is no trouble to open, and nothing to publish.
        DELETE FROM outbox_relay.troubles t WHERE t.route = keep.route AND t.lane = keep.lane;
    ELSIF EXISTS (SELECT FROM outbox_relay.tombstones b
            WHERE b.route = keep.route AND b.event_index = keep.indexes[1]
            AND b.record = outbox_relay.record(keep.event_ids[1], keep.partition, keep.positions[1])) THEN
        -- What was said of a front that was discarded since does not apply to the event behind it: it is tried at once.
        UPDATE outbox_relay.troubles t
            SET front = first, kept = stored, state = 'retrying', due = keep.failed_since, discard_reason = NULL,
                attempts = 0
            WHERE t.route = keep.route AND t.lane = keep.lane;
    ELSE
        UPDATE outbox_relay.troubles t SET front = first, kept = stored
            WHERE t.route = keep.route AND t.lane = keep.lane;
    END IF;
    RETURN known;
END
$$;

-- Copies a dead letter from its lane to one of its own, which is opened if it is not there yet; both are locked.
CREATE OR REPLACE FUNCTION outbox_relay.set_apart(
    route text, lane text, dead bigint, apart text, attempts bigint, failed_since text, reason text
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    copy bigint;
BEGIN
    INSERT INTO outbox_relay.troubles
        (route, lane, generation, front, state, attempts, failed_since, reason, kept)
        SELECT set_apart.route, set_apart.apart, nextval('outbox_relay.generations'), 0, 'dead', set_apart.attempts,
                set_apart.failed_since, set_apart.reason, 0
            FROM outbox_relay.kept k
            WHERE k.id = set_apart.dead AND k.route = set_apart.route AND k.lane = set_apart.lane
        ON CONFLICT (route, lane) DO NOTHING;
    INSERT INTO outbox_relay.kept
        (route, lane, record, event_index, event_id, partition, position, key, type, content, undecodable)
        SELECT k.route, set_apart.apart, k.record, k.event_index, k.event_id, k.partition, k.position, k.key, k.type,
                k.content, k.undecodable
            FROM outbox_relay.kept k
            WHERE k.id = set_apart.dead AND k.route = set_apart.route AND k.lane = set_apart.lane
        ON CONFLICT (route, lane, record, event_index) DO NOTHING RETURNING id INTO copy;
    UPDATE outbox_relay.troubles t SET kept = t.kept + 1, front = CASE t.front WHEN 0 THEN copy ELSE t.front END
        WHERE t.route = set_apart.route AND t.lane = set_apart.apart AND copy IS NOT NULL;
END
$$;

-- Removes what is done from the front of a lane; the first of it, if it is a dead letter that its key goes on without, moves
-- to the lane `apart`. Gives how many events are left; 0 if the lane was released with it; NULL if
-- it is another trouble by now.
CREATE OR REPLACE FUNCTION outbox_relay.settle(
    lease text, epoch bigint, connection bigint, route text, lane text, generation bigint, remove bigint[],
    discarded boolean, state text, due text, discard_reason text, attempts bigint, failed_since text, reason text,
    apart text DEFAULT NULL, apart_attempts bigint DEFAULT NULL, apart_failed_since text DEFAULT NULL,
    apart_reason text DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    known bigint;
    gone bigint;
    first bigint;
    remaining bigint;
BEGIN
    PERFORM outbox_relay.fence(settle.lease, settle.epoch, settle.connection);
    -- Both lanes, in the order of their names, as an operator locks them.
    PERFORM FROM outbox_relay.troubles t
        WHERE t.route = settle.route AND t.lane IN (settle.lane, settle.apart) ORDER BY t.lane FOR UPDATE;
    SELECT t.generation INTO known FROM outbox_relay.troubles t
        WHERE t.route = settle.route AND t.lane = settle.lane;
    IF known IS DISTINCT FROM settle.generation THEN
        RETURN NULL;
    END IF;
    IF settle.apart IS NOT NULL THEN
        PERFORM outbox_relay.set_apart(settle.route, settle.lane, settle.remove[1], settle.apart, settle.apart_attempts,
            settle.apart_failed_since, settle.apart_reason);
    END IF;
    WITH removed AS (
        DELETE FROM outbox_relay.kept k
            WHERE k.id = ANY (settle.remove) AND k.route = settle.route AND k.lane = settle.lane
            RETURNING k.record, k.event_index, k.event_id, k.partition, k.position
    ), buried AS (
        INSERT INTO outbox_relay.tombstones (route, record, event_index, event_id, partition, position)
            SELECT settle.route, r.* FROM removed r WHERE settle.discarded
            ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO gone FROM removed;
    -- Read after the lane was locked, so that nothing which was parked meanwhile is stranded.
    SELECT k.id INTO first FROM outbox_relay.kept k
        WHERE k.route = settle.route AND k.lane = settle.lane ORDER BY k.id LIMIT 1;
    IF NOT FOUND THEN
        DELETE FROM outbox_relay.troubles t WHERE t.route = settle.route AND t.lane = settle.lane;
        RETURN 0;
    ELSIF settle.state IS NULL THEN
        UPDATE outbox_relay.troubles t SET front = first, kept = t.kept - gone
            WHERE t.route = settle.route AND t.lane = settle.lane RETURNING t.kept INTO remaining;
    ELSE
        UPDATE outbox_relay.troubles t
            SET front = first, kept = t.kept - gone, state = settle.state, due = settle.due,
                discard_reason = settle.discard_reason, attempts = settle.attempts,
                failed_since = settle.failed_since, reason = settle.reason
            WHERE t.route = settle.route AND t.lane = settle.lane RETURNING t.kept INTO remaining;
    END IF;
    RETURN remaining;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.forget_tombstones(
    lease text, epoch bigint, connection bigint, route text, event_ids text[], partitions text[], positions text[]
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.fence(forget_tombstones.lease, forget_tombstones.epoch, forget_tombstones.connection);
    DELETE FROM outbox_relay.tombstones b
        WHERE b.route = forget_tombstones.route AND b.record = ANY (ARRAY(
            SELECT outbox_relay.record(passed.event_id, passed.partition, passed.position)
            FROM unnest(forget_tombstones.event_ids, forget_tombstones.partitions, forget_tombstones.positions)
                AS passed (event_id, partition, position)));
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.note_replayed(lease text, epoch bigint, connection bigint, replay text) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.fence(note_replayed.lease, note_replayed.epoch, note_replayed.connection);
    UPDATE outbox_relay.replays r SET finished = true WHERE r.id = note_replayed.replay;
END
$$;

CREATE OR REPLACE FUNCTION outbox_relay.note_health(
    lease text, epoch bigint, connection bigint, route text, state text, reason text, since text
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM outbox_relay.fence(note_health.lease, note_health.epoch, note_health.connection);
    INSERT INTO outbox_relay.health (route, state, reason, since)
        VALUES (note_health.route, note_health.state, note_health.reason, note_health.since)
        ON CONFLICT (route) DO UPDATE SET state = excluded.state, reason = excluded.reason, since = excluded.since;
END
$$;
