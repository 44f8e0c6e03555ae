-- The tables of the service in these examples. They are its own: Outbox needs nothing of them.

CREATE TABLE customers (id text PRIMARY KEY, is_open boolean NOT NULL DEFAULT true);
CREATE TABLE orders (
    id text PRIMARY KEY,
    customer text NOT NULL,
    units integer NOT NULL,
    status text NOT NULL DEFAULT 'placed'
);
