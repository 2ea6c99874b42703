-- Deploy shop:customers to pg

BEGIN;

CREATE TABLE shop.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email public.citext NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

COMMIT;
