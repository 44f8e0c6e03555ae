-- Going on after history went backwards, as in a restored backup. `outbox adopt` calls it.

-- Raises the incarnation, and moves into it, if `restamp`, all entries whose transaction is among those `not_passed`, but for
-- those up to `through` of one that is not among `not_upto`; with them the heads that stand at one of these. An entry that follows one that moves takes
-- its `after` along; the first of each key that moves keeps naming a predecessor of the old incarnation, which is where
-- consumers stand if nothing of that key was lost. Gives the new incarnation.
CREATE OR REPLACE FUNCTION outbox.raise_incarnation(
    not_passed int8multirange, not_upto int8multirange, through bigint, restamp boolean
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '50ms' AS $$
DECLARE
    raised integer;
    latest xid8;
BEGIN
    PERFORM outbox.require_read_committed();
    -- Who writes has locked a head, and so is done with by now, or waits and then takes the new incarnation. Whoever writes
    -- queues behind this lock while it waits, so it gives up soon; it is for the caller to try again.
    LOCK TABLE outbox.heads IN SHARE ROW EXCLUSIVE MODE;
    UPDATE outbox.meta AS m SET incarnation = m.incarnation + 1 RETURNING m.incarnation INTO raised;
    -- Entries that a dump brought along carry numbers of another server's transactions: as long as this one has not given
    -- them, nobody would see these entries.
    UPDATE outbox.entries AS e SET xid = pg_current_xact_id() WHERE e.xid > pg_current_xact_id();
    IF restamp THEN
        UPDATE outbox.entries AS e SET
            incarnation = raised,
            after = CASE
                WHEN EXISTS (
                    SELECT FROM outbox.entries AS p WHERE p.id = e.previous_id
                        AND p.xid::text::bigint <@ not_passed
                        AND (p.id > through OR p.xid::text::bigint <@ not_upto)
                ) THEN raised || substr(e.after, strpos(e.after, '.'))
                ELSE e.after
            END
        WHERE e.xid::text::bigint <@ not_passed AND (e.id > through OR e.xid::text::bigint <@ not_upto);
        UPDATE outbox.heads AS h SET incarnation = e.incarnation, after = e.after
        FROM outbox.entries AS e
        WHERE e.id = h.entry_id AND e.incarnation = raised;
    END IF;
    RETURN raised;
END
$$;
