-- Verify shop:orders on pg

BEGIN;

SELECT id, customer_id, total_cents, placed_at FROM shop.orders WHERE false;

ROLLBACK;
