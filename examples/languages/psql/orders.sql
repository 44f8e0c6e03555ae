-- A service in SQL that writes its events: each in the transaction, or the statement, that it is about. For psql:
--
--     psql postgres://user@host/database --set ON_ERROR_STOP=1 --file orders.sql

-- A change and its event in one transaction.
BEGIN;
INSERT INTO orders (id, customer, units) VALUES ('o-1', '42', 3);
SELECT outbox.write('customer/42', 'order.placed', '{"id": "o-1", "units": 3}');
COMMIT;

-- Or in one statement. A payload may be json, which is kept as it is, jsonb, text or bytea.
WITH placed AS (
    INSERT INTO orders (id, customer, units) VALUES ('o-2', '42', 5) RETURNING *
)
SELECT outbox.write('customer/' || customer, 'order.placed', json_build_object('id', id, 'units', units)) FROM placed;

-- Only if nobody has written to the key since it was read: it was at sequence 2 then.
INSERT INTO customers (id) VALUES ('42');
BEGIN;
UPDATE customers SET is_open = false WHERE id = '42';
SELECT outbox.write('customer/42', 'account.closed', expected => 2);
COMMIT;

-- Many events in one call: those of one key become one entry, keys are taken in sorted order.
WITH shipped AS (
    UPDATE orders SET status = 'shipped' WHERE id IN ('o-1', 'o-2') RETURNING id, customer
)
SELECT * FROM outbox.write_all((
    SELECT coalesce(json_agg(json_build_object(
        'key', 'customer/' || customer, 'type', 'order.shipped', 'data', json_build_object('id', id)
    ) ORDER BY id), '[]')
    FROM shipped
));

-- Bytes, with their media type, and further attributes.
SELECT outbox.write(
    'customer/42', 'scan.stored', '\x89504e470d0a'::bytea, content_type => 'image/png',
    attributes => '{"subject": "o-1", "correlationid": "request-7"}'
);

-- After a COMMIT whose answer was lost: is entry 6 of the key the one with this commit id? True, false; NULL: purged since.
SELECT outbox.write('customer/42', 'order.returned', commit_id => '00112233-4455-6677-8899-aabbccddeeff');
SELECT outbox.committed('customer/42', 6, '00112233-4455-6677-8899-aabbccddeeff');
