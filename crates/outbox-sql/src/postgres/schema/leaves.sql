-- The leaves of the entries: made ahead of need, emptied once everybody is past them, dropped when it is quiet. What locks
-- waits for 50 ms at most, and so holds up a business write for no longer. A relay calls these; it needs no right to
-- change tables.

-- Makes the next leaf, if the newest has room for less than one more of its kind. A leaf is to last for `span` at the
-- present rate, and takes from `smallest` to `largest` ids. Gives the name of the leaf that it made.
CREATE OR REPLACE FUNCTION outbox.make_leaf(
    span interval DEFAULT '6 hours', smallest bigint DEFAULT 10000, largest bigint DEFAULT 10000000
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    drawn bigint;
    newest outbox.leaves;
    size bigint;
    low bigint;
    leaf text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7310026, 1) THEN
        RETURN NULL;
    END IF;
    SELECT CASE WHEN ids.is_called THEN ids.last_value ELSE 0 END INTO drawn FROM outbox.entry_ids AS ids;
    SELECT * INTO newest FROM outbox.leaves AS l ORDER BY l.high DESC LIMIT 1;
    IF FOUND THEN
        size := (drawn - newest.drawn) * extract(epoch FROM span)
            / greatest(extract(epoch FROM clock_timestamp() - newest.made_at), 1);
    ELSE
        -- Nothing is known of the rate yet.
        size := 10 * smallest;
    END IF;
    size := least(greatest(size, smallest), largest);
    IF newest.high - 1 - drawn > size THEN
        RETURN NULL;
    END IF;
    -- Nobody writes to the default leaf while ranges above its highest id are taken from it.
    LOCK TABLE outbox.entries_default IN ACCESS EXCLUSIVE MODE;
    SELECT greatest(newest.high, 1, max(e.id) + 1) INTO low FROM outbox.entries_default AS e;
    -- Ids that are drawn already go to the default leaf, or to this one, whichever is there when they are used.
    leaf := 'entries_' || low;
    EXECUTE format('CREATE TABLE outbox.%I (LIKE outbox.entries INCLUDING DEFAULTS)', leaf);
    EXECUTE format(
        'ALTER TABLE outbox.entries ATTACH PARTITION outbox.%I FOR VALUES FROM (%s) TO (%s)',
        leaf, low, greatest(low, drawn) + size
    );
    INSERT INTO outbox.leaves (name, low, high, drawn) VALUES (leaf, low, greatest(low, drawn) + size, drawn);
    RETURN leaf;
END
$$;

-- Empties the oldest leaf that everybody is past: all its ids are drawn and below `keep`, all its rows visible in each
-- snapshot of `passed` and recorded before `before`, and no transaction that wrote to it is open, nor a prepared one.
-- A leaf in use is passed over. Gives how many entries went, and whether there may be more to empty at once; at most one
-- leaf a call, as its lock is held until the end of the transaction.
CREATE OR REPLACE FUNCTION outbox.empty_leaf(
    passed pg_snapshot[], keep bigint, before timestamptz, OUT entries bigint, OUT more boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    leaf record;
    lowest xid8;
    top bigint;
    ripe boolean;
BEGIN
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
        EXECUTE format('SELECT count(*), coalesce(max(e.recorded_at) < $1, true) FROM outbox.%I AS e', leaf.name)
            INTO entries, ripe USING before;
        CONTINUE WHEN NOT ripe;
        BEGIN
            EXECUTE format('LOCK TABLE outbox.%I IN ACCESS EXCLUSIVE MODE', leaf.name);
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
        -- Whoever wrote to it has ended. What committed late is seen here, and nothing can come any more before the end.
        EXECUTE format(
            'SELECT NOT EXISTS (SELECT FROM outbox.%I AS e, unnest($1) AS p WHERE e.xid >= $2 AND NOT pg_visible_in_snapshot(e.xid, p))',
            leaf.name
        ) INTO ripe USING passed, lowest;
        EXIT WHEN NOT ripe;
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
        EXECUTE format('LOCK TABLE outbox.%I IN ACCESS EXCLUSIVE MODE', leaf);
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
