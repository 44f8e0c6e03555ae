-- Outbox inbox, layout 1: what an inbox calls.

-- The number of a producer, given now if it has none. Another transaction that gives it one at the same time is waited for.
CREATE OR REPLACE FUNCTION outbox_inbox.number_producer(consumer text, producer text) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    number bigint;
BEGIN
    SELECT p.id INTO number FROM outbox_inbox.producers p
        WHERE p.consumer = number_producer.consumer AND p.producer = number_producer.producer;
    IF NOT FOUND THEN
        INSERT INTO outbox_inbox.producers (consumer, producer)
            VALUES (number_producer.consumer, number_producer.producer) ON CONFLICT DO NOTHING;
        SELECT p.id INTO number FROM outbox_inbox.producers p
            WHERE p.consumer = number_producer.consumer AND p.producer = number_producer.producer;
    END IF;
    RETURN number;
END
$$;

-- Locks what has no row of its own: the lane of an event without a key. By its hash: two that share one wait for each other
-- without need.
CREATE OR REPLACE FUNCTION outbox_inbox.lock_event(producer bigint, lane text) RETURNS void
LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(7310027, hashtext($1::text || $2)) $$;

-- Locks lanes one after the other, in the order in which they are given, and gives what is known of them. Two who load the
-- same lanes in the same order never wait for each other in a circle.
CREATE OR REPLACE FUNCTION outbox_inbox.load(producers bigint[], lanes text[])
RETURNS TABLE (
    incarnation bigint, sequence bigint, idx bigint, life smallint, state text, attempts bigint, due bigint, since bigint,
    reason text, epoch bigint, kept bigint
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(producers) LOOP
        IF starts_with(lanes[i], 'e:') THEN
            PERFORM outbox_inbox.lock_event(producers[i], lanes[i]);
            CONTINUE;
        END IF;
        LOOP
            PERFORM FROM outbox_inbox.marks m WHERE m.producer = producers[i] AND m.lane = lanes[i] FOR UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO outbox_inbox.marks (producer, lane) VALUES (producers[i], lanes[i]) ON CONFLICT DO NOTHING;
            EXIT WHEN FOUND;
        END LOOP;
    END LOOP;
    -- Read after all are locked, so as they were committed last.
    RETURN QUERY
        SELECT m.incarnation, m.sequence, m.idx, m.life, t.state, t.attempts, t.due, t.since, t.reason, t.epoch, t.kept
        FROM unnest(producers, lanes) WITH ORDINALITY AS wanted (producer, lane, n)
        LEFT JOIN outbox_inbox.marks m ON m.producer = wanted.producer AND m.lane = wanted.lane
        LEFT JOIN outbox_inbox.troubles t ON t.producer = wanted.producer AND t.lane = wanted.lane
        ORDER BY wanted.n;
END
$$;

-- Writes marks and troubles of lanes that are locked. A trouble without a state is over.
CREATE OR REPLACE FUNCTION outbox_inbox.save(
    mark_producers bigint[], mark_lanes text[], incarnations bigint[], sequences bigint[], idxs bigint[], lives smallint[],
    trouble_producers bigint[], trouble_lanes text[], states text[], attempts bigint[], dues bigint[], sinces bigint[],
    reasons text[], epochs bigint[], kepts bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE outbox_inbox.marks m
        SET incarnation = now.incarnation, sequence = now.sequence, idx = now.idx, life = now.life
        FROM unnest(mark_producers, mark_lanes, incarnations, sequences, idxs, lives)
            AS now (producer, lane, incarnation, sequence, idx, life)
        WHERE m.producer = now.producer AND m.lane = now.lane;
    IF cardinality(trouble_producers) = 0 THEN
        RETURN;
    END IF;
    DELETE FROM outbox_inbox.troubles t
        USING unnest(trouble_producers, trouble_lanes, states) AS now (producer, lane, state)
        WHERE t.producer = now.producer AND t.lane = now.lane AND now.state IS NULL;
    INSERT INTO outbox_inbox.troubles (producer, lane, state, attempts, due, since, reason, epoch, kept)
        SELECT now.* FROM unnest(trouble_producers, trouble_lanes, states, save.attempts, dues, sinces, reasons, epochs,
            kepts) AS now (producer, lane, state, attempts, due, since, reason, epoch, kept)
        WHERE now.state IS NOT NULL
        ON CONFLICT (producer, lane) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
            due = excluded.due, since = excluded.since, reason = excluded.reason, epoch = excluded.epoch,
            kept = excluded.kept;
END
$$;

-- Whether events are done with. Their lanes are locked first, in the order in which they are given: while somebody notes that
-- he waits for one, nobody else can be done with it and not see that.
CREATE OR REPLACE FUNCTION outbox_inbox.are_done(producers bigint[], ids text[]) RETURNS SETOF boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(producers) LOOP
        PERFORM outbox_inbox.lock_event(producers[i], 'e:' || are_done.ids[i]);
    END LOOP;
    RETURN QUERY
        SELECT EXISTS (SELECT FROM outbox_inbox.ids i
            WHERE i.producer = wanted.producer AND i.id = wanted.id AND i.done)
        FROM unnest(producers, are_done.ids) WITH ORDINALITY AS wanted (producer, id, n)
        ORDER BY wanted.n;
END
$$;

-- Notes of each event whether it is done with, one after the other.
CREATE OR REPLACE FUNCTION outbox_inbox.set_done(producers bigint[], ids text[], dones boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    FOR i IN 1 .. cardinality(producers) LOOP
        PERFORM outbox_inbox.lock_event(producers[i], 'e:' || set_done.ids[i]);
        UPDATE outbox_inbox.ids known SET done = dones[i]
            WHERE known.producer = producers[i] AND known.id = set_done.ids[i];
    END LOOP;
END
$$;

-- The end of every transaction of an inbox: writes lanes as `save` does, counts, and makes sure that its commit is on the disk
-- when it is answered. Gives whether the transaction is the one that the inbox began: it marked that.
CREATE OR REPLACE FUNCTION outbox_inbox.record(
    consumer text, applied bigint, duplicates bigint, superseded bigint, ignored bigint, early bigint, history_back bigint,
    mark_producers bigint[], mark_lanes text[], incarnations bigint[], sequences bigint[], idxs bigint[], lives smallint[],
    trouble_producers bigint[], trouble_lanes text[], states text[], attempts bigint[], dues bigint[], sinces bigint[],
    reasons text[], epochs bigint[], kepts bigint[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    IF cardinality(mark_producers) > 0 OR cardinality(trouble_producers) > 0 THEN
        PERFORM outbox_inbox.save(mark_producers, mark_lanes, incarnations, sequences, idxs, lives, trouble_producers,
            trouble_lanes, states, attempts, dues, sinces, reasons, epochs, kepts);
    END IF;
    IF greatest(record.applied, record.duplicates, record.superseded, record.ignored, record.early,
            record.history_back) > 0 THEN
        UPDATE outbox_inbox.consumers c
            SET applied = c.applied + record.applied, duplicates = c.duplicates + record.duplicates,
                superseded = c.superseded + record.superseded, ignored = c.ignored + record.ignored,
                early = c.early + record.early, history_back = c.history_back + record.history_back
            WHERE c.name = record.consumer;
    END IF;
    RETURN coalesce(current_setting('outbox_inbox.open', true), '') = 'yes';
END
$$;
