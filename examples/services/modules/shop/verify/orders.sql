-- Verify shop:orders on pg

BEGIN;

SELECT id, placed_at FROM shop.orders WHERE false;

ROLLBACK;
