-- The leaves of the entries: made ahead of need, emptied once everybody is past them, dropped when it is quiet. What locks
-- waits for 50 ms at most, and so holds up a business write for no longer. A relay calls these; it needs no right to
-- change tables.

-- Refuses a transaction that would go by what it saw before it got a lock: it would take rows for absent that were committed
-- meanwhile, and remove them.
CREATE OR REPLACE FUNCTION outbox.require_read_committed() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'outbox: this works under READ COMMITTED, and the transaction''s level is %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = '25001', HINT = 'Call it under BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END
$$;

-- The last id that was drawn; 0 if none was.
CREATE OR REPLACE FUNCTION outbox.last_drawn() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN ids.is_called THEN ids.last_value ELSE 0 END FROM outbox.entry_ids AS ids
$$;

-- Where ids go on where the default leaf has grown large: so far beyond that nobody gets there by counting.
CREATE OR REPLACE FUNCTION outbox.leap_from(drawn bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT (((drawn + 1) >> 40) + 1) << 40
$$;

-- The transactions that have begun to write entries and have not ended.
CREATE OR REPLACE FUNCTION outbox.writing() RETURNS text[]
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(array_agg(DISTINCT l.virtualtransaction), '{}') FROM pg_catalog.pg_locks AS l
    WHERE l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
        AND l.relation = 'outbox.entries'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
$$;

-- Proves, a step a call, that the default leaf holds no id from `low` on, so that a leaf can be attached there without a look
-- through it, with all who write locked out meanwhile. Tells whether that is proven. The constraint refuses nothing even if
-- nobody ever takes it away again: no id is drawn from there before there is a leaf for it.
CREATE OR REPLACE FUNCTION outbox.is_proven_below(low bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    validated boolean;
BEGIN
    SELECT c.convalidated INTO validated FROM pg_constraint AS c
    WHERE c.conrelid = 'outbox.entries_default'::regclass AND c.conname = 'below_the_leap';
    IF validated IS NULL THEN
        EXECUTE format('ALTER TABLE outbox.entries_default ADD CONSTRAINT below_the_leap CHECK (id < %s) NOT VALID', low);
    ELSIF NOT validated THEN
        -- It looks through the whole leaf, beside those who write.
        ALTER TABLE outbox.entries_default VALIDATE CONSTRAINT below_the_leap;
    END IF;
    RETURN coalesce(validated, false);
END
$$;

-- Makes the next leaf, if the newest has room for less than one more of its kind. A leaf is to last for `span` at the
-- present rate, and takes from `smallest` to `largest` ids; after a leap, an id for each KiB of the default leaf at least. Gives
-- the name of the leaf that it made.
--
-- A transaction that has written goes on to write by the leaves that it knows, and is refused with an id of a newer one. So a
-- leaf is attached while nobody is in the middle of writing; or ids leap to it, once all have ended who were.
CREATE OR REPLACE FUNCTION outbox.make_leaf(
    span interval DEFAULT '6 hours', smallest bigint DEFAULT 10000, largest bigint DEFAULT 10000000
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    drawn bigint;
    leaps boolean;
    newest outbox.leaves;
    held bigint;
    size bigint;
    low bigint;
    leaf text;
    writing text[];
    asked timestamptz;
BEGIN
    PERFORM outbox.require_read_committed();
    IF NOT pg_try_advisory_xact_lock(7310026, 1) THEN
        RETURN NULL;
    END IF;
    drawn := outbox.last_drawn();
    SELECT * INTO newest FROM outbox.leaves AS l ORDER BY l.high DESC LIMIT 1;
    IF newest.low = outbox.leap_from(drawn) THEN
        -- The leaf is there for all to see now: whoever comes from here on knows it.
        writing := outbox.writing();
        IF newest.writers IS NULL THEN
            UPDATE outbox.leaves AS l SET writers = writing WHERE l.name = newest.name;
        END IF;
        IF NOT coalesce(newest.writers, writing) && writing THEN
            PERFORM setval('outbox.entry_ids', newest.low - 1);
        END IF;
        RETURN NULL;
    END IF;
    IF newest.name IS NOT NULL THEN
        size := (drawn - newest.drawn) * extract(epoch FROM span)
            / greatest(extract(epoch FROM clock_timestamp() - newest.made_at), 1);
    ELSE
        -- Nothing is known of the rate yet.
        size := 10 * smallest;
    END IF;
    size := least(greatest(size, smallest), largest);
    -- A look through so much takes some milliseconds. What is left of the newest leaf goes unused after a leap.
    held := pg_relation_size('outbox.entries_default');
    leaps := held > 8 * 1024 * 1024;
    IF newest.high - 1 - drawn > (CASE WHEN leaps THEN size / 10 ELSE size END) THEN
        RETURN NULL;
    END IF;
    IF leaps AND NOT outbox.is_proven_below(outbox.leap_from(drawn)) THEN
        RETURN NULL;
    END IF;
    IF leaps THEN
        LOCK TABLE ONLY outbox.entries IN SHARE UPDATE EXCLUSIVE MODE;
        LOCK TABLE outbox.entries_default IN ACCESS EXCLUSIVE MODE;
        low := outbox.leap_from(drawn);
        drawn := low - 1;
        -- As long as the default leaf is not emptied, each leap looks through it: the more it holds, the fewer they are to be.
        size := least(greatest(size, held / 1024), largest);
    ELSE
        -- Whoever wrote has ended once this is ours, and who waits for it learns of the new leaf.
        asked := clock_timestamp();
        LOCK TABLE ONLY outbox.entries IN SHARE ROW EXCLUSIVE MODE;
        -- Who writes waits for both: for the second there is what the first has left of the time.
        PERFORM set_config('lock_timeout', greatest(50 - 1000 * extract(epoch FROM clock_timestamp() - asked), 1)::integer::text, true);
        LOCK TABLE outbox.entries_default IN ACCESS EXCLUSIVE MODE;
        drawn := outbox.last_drawn();
        SELECT greatest(newest.high, drawn + 1, max(e.id) + 1) INTO low FROM outbox.entries_default AS e;
    END IF;
    leaf := 'entries_' || low;
    EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.entries INCLUDING DEFAULTS)', leaf);
    EXECUTE format('ALTER TABLE outbox.entries ATTACH PARTITION outbox.%I FOR VALUES FROM (%s) TO (%s)', leaf, low, low + size);
    IF leaps THEN
        ALTER TABLE outbox.entries_default DROP CONSTRAINT below_the_leap;
    END IF;
    INSERT INTO outbox.leaves (name, low, high, drawn) VALUES (leaf, low, low + size, drawn);
    RETURN leaf;
END
$$;

-- Empties the oldest leaf that everybody is past: all its ids are drawn and below `keep`, all its rows visible in each
-- snapshot of `passed` and recorded before `before`, and no transaction that wrote to it is open, nor a prepared one.
-- A leaf in use is passed over, before it is looked through; and it is looked through before it is locked, so that under the lock
-- only what ended since is left to look at. Gives how many entries went, and whether there may be more to empty at once; at most one
-- leaf a call, as its lock is held until the end of the transaction.
CREATE OR REPLACE FUNCTION outbox.empty_leaf(
    passed pg_snapshot[], keep bigint, before timestamptz, OUT entries bigint, OUT more boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' SET enable_seqscan = on AS $$
DECLARE
    leaf record;
    lowest xid8;
    top bigint;
    ripe boolean;
    passes boolean;
    seen pg_snapshot;
BEGIN
    PERFORM outbox.require_read_committed();
    entries := 0;
    more := false;
    IF NOT pg_try_advisory_xact_lock(7310026, 1) THEN
        RETURN;
    END IF;
    SELECT min(pg_snapshot_xmin(one)) INTO lowest FROM unnest(passed) AS one HAVING count(*) = count(one);
    IF lowest IS NULL THEN
        RETURN;
    END IF;
    SELECT max(e.id) INTO top FROM outbox.entries_default AS e;
    FOR leaf IN
        SELECT l.name, l.high FROM outbox.leaves AS l, outbox.entry_ids AS ids
        WHERE l.emptied_at IS NULL AND l.high <= keep AND l.high <= ids.last_value + 1
        UNION ALL
        SELECT 'entries_default', top + 1 WHERE top < keep
        ORDER BY high
    LOOP
        -- The newest row tells soon that a leaf is not old enough; only then are all looked at.
        EXECUTE format('SELECT coalesce((SELECT e.recorded_at < $1 FROM outbox.%I AS e ORDER BY e.id DESC LIMIT 1), true)', leaf.name)
            INTO ripe USING before;
        EXIT WHEN NOT ripe;
        BEGIN
            EXECUTE format('LOCK TABLE outbox.%I IN ACCESS EXCLUSIVE MODE', leaf.name);
            -- Only an exception lets go of it.
            RAISE SQLSTATE 'OX000';
        EXCEPTION
            WHEN lock_not_available THEN CONTINUE;
            WHEN SQLSTATE 'OX000' THEN NULL;
        END;
        seen := pg_current_snapshot();
        EXECUTE format(
            'SELECT count(*), coalesce(max(e.recorded_at) < $1, true),
                coalesce(bool_and(e.xid < $2 OR (SELECT bool_and(pg_visible_in_snapshot(e.xid, p)) FROM unnest($3) AS p)), true)
            FROM outbox.%I AS e',
            leaf.name
        ) INTO entries, ripe, passes USING before, lowest, passed;
        CONTINUE WHEN NOT ripe;
        EXIT WHEN NOT passes;
        BEGIN
            EXECUTE format('LOCK TABLE outbox.%I IN ACCESS EXCLUSIVE MODE', leaf.name);
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
        -- Whoever wrote to it has ended. What committed late is seen here, and nothing can come any more before the end. It is
        -- found by its index, however little the planner knows of the leaf.
        PERFORM set_config('enable_seqscan', 'off', true);
        EXECUTE format(
            'SELECT NOT EXISTS (SELECT FROM outbox.%1$I AS e, unnest($1) AS p WHERE e.xid >= $2 AND NOT pg_visible_in_snapshot(e.xid, p))
                AND NOT EXISTS (SELECT FROM unnest($3) AS r (xid), LATERAL (SELECT FROM outbox.%1$I AS e, unnest($1) AS p
                    WHERE e.xid = r.xid AND NOT pg_visible_in_snapshot(e.xid, p)) AS late)',
            leaf.name
        ) INTO passes USING passed, pg_snapshot_xmax(seen), ARRAY(SELECT pg_snapshot_xip(seen));
        EXIT WHEN NOT passes;
        EXECUTE format('TRUNCATE outbox.%I', leaf.name);
        UPDATE outbox.leaves AS l SET emptied_at = clock_timestamp() WHERE l.name = leaf.name;
        more := true;
        RETURN;
    END LOOP;
    entries := 0;
END
$$;

-- Drops one leaf that was emptied over an hour ago, if nobody uses the entries just now: then nobody has to queue. Where
-- it is never quiet and there are many, it waits for a moment. Gives its name.
CREATE OR REPLACE FUNCTION outbox.drop_leaf() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    leaf text;
    shells bigint;
    is_used boolean;
BEGIN
    PERFORM outbox.require_read_committed();
    IF NOT pg_try_advisory_xact_lock(7310026, 1) THEN
        RETURN NULL;
    END IF;
    SELECT (array_agg(l.name ORDER BY l.high))[1], count(*) INTO leaf, shells
    FROM outbox.leaves AS l WHERE l.emptied_at < clock_timestamp() - interval '1 hour';
    IF leaf IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        IF shells > 64 THEN
            LOCK TABLE ONLY outbox.entries IN ACCESS EXCLUSIVE MODE;
        ELSE
            LOCK TABLE ONLY outbox.entries IN ACCESS EXCLUSIVE MODE NOWAIT;
        END IF;
        -- Whoever comes by way of the table has ended, and who writes waits.
        EXECUTE format('LOCK TABLE outbox.%I IN ACCESS EXCLUSIVE MODE NOWAIT', leaf);
    EXCEPTION WHEN lock_not_available THEN
        RETURN NULL;
    END;
    -- An id that was drawn long ago may have been used since.
    EXECUTE format('SELECT EXISTS (SELECT FROM outbox.%I)', leaf) INTO is_used;
    IF is_used THEN
        UPDATE outbox.leaves AS l SET emptied_at = NULL WHERE l.name = leaf;
        RETURN NULL;
    END IF;
    EXECUTE format('DROP TABLE outbox.%I', leaf);
    DELETE FROM outbox.leaves AS l WHERE l.name = leaf;
    RETURN leaf;
END
$$;
