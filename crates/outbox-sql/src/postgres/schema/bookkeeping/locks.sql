-- Outbox bookkeeping, layout 1: what every write begins with.

-- What an event's id, partition and record come to; each with its length in front, so that no two look the same. A record is
-- what stands in its position before the first `@`: the rest depends on how it was come by.
CREATE OR REPLACE FUNCTION outbox_relay.record(event_id text, partition text, "position" text) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(
        length($1)::text || ':' || $1 || length($2)::text || ':' || $2 || length(split_part($3, '@', 1))::text || ':'
            || split_part($3, '@', 1), 'UTF8'));
$$;

-- The beginning of every write: what is answered is on the disk, and READ COMMITTED is what this counts on.
CREATE OR REPLACE FUNCTION outbox_relay.begin_write() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the bookkeeping works under READ COMMITTED, and this session''s level is %',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'OX103',
            HINT = format('ALTER ROLE %I SET default_transaction_isolation TO ''read committed''', session_user);
    END IF;
    -- A relay goes on at once when a write was answered; a crash of the server must not take it back.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- Refuses what is done under `epoch`, unless the lease, as it is locked by now, is held under it.
CREATE OR REPLACE FUNCTION outbox_relay.refuse_unless_held(held outbox_relay.leases, lease text, epoch bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF held.name IS NULL THEN
        RAISE EXCEPTION 'nobody ever took lease `%`', lease USING ERRCODE = 'OX101';
    ELSIF held.epoch <> refuse_unless_held.epoch THEN
        RAISE EXCEPTION 'lease `%` was taken over by % under epoch %; this relay had epoch % and stops writing',
            lease, held.holder, held.epoch, refuse_unless_held.epoch USING ERRCODE = 'OX101';
    ELSIF held.released THEN
        RAISE EXCEPTION 'lease `%` was given up under epoch %: this relay stops writing', lease, held.epoch
            USING ERRCODE = 'OX101';
    END IF;
END
$$;

-- Makes the calling connection the one that the lease's owner writes over, and gives it its number. Waits for writes that are
-- under way over earlier ones; what is still to come over these is refused by `fence`.
CREATE OR REPLACE FUNCTION outbox_relay.attach(lease text, epoch bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    held outbox_relay.leases;
BEGIN
    PERFORM outbox_relay.begin_write();
    SELECT * INTO held FROM outbox_relay.leases l WHERE l.name = lease FOR UPDATE;
    PERFORM outbox_relay.refuse_unless_held(held, lease, attach.epoch);
    UPDATE outbox_relay.leases l SET connection = nextval('outbox_relay.connections')
        WHERE l.name = lease RETURNING l.connection INTO held.connection;
    RETURN held.connection;
END
$$;

-- The beginning of every write of a relay. Refuses it if the lease was taken or given up, or if it was sent over an earlier
-- connection; else keeps the lease as it is until the write's transaction ends. KEY SHARE lets renewals and other writes
-- pass, and has whoever takes the lease wait.
CREATE OR REPLACE FUNCTION outbox_relay.fence(lease text, epoch bigint, connection bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    held outbox_relay.leases;
BEGIN
    PERFORM outbox_relay.begin_write();
    SELECT * INTO held FROM outbox_relay.leases l WHERE l.name = lease FOR KEY SHARE;
    PERFORM outbox_relay.refuse_unless_held(held, lease, fence.epoch);
    IF held.connection > fence.connection THEN
        RAISE EXCEPTION 'the owner of lease `%` writes over another connection by now', lease USING ERRCODE = 'OX102';
    END IF;
END
$$;

-- The beginning of every change by an operator. The row that it changes puts operators in a queue, and a running relay
-- sees by it that there is something new.
CREATE OR REPLACE FUNCTION outbox_relay.begin_change() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox_relay.begin_write();
    UPDATE outbox_relay.bookkeeping SET operator_changes = operator_changes + 1;
END
$$;

-- The beginning of a change that concerns more than a lane: no relay's write is under way until it is done.
CREATE OR REPLACE FUNCTION outbox_relay.begin_great_change() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox_relay.begin_change();
    PERFORM name FROM outbox_relay.leases ORDER BY name FOR UPDATE;
END
$$;
