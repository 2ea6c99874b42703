-- Deploy shop:orders to pg
-- requires: schema

BEGIN;

CREATE TABLE shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    placed_at timestamptz NOT NULL DEFAULT now()
);

COMMIT;
