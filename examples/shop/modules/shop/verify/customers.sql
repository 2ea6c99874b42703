-- Verify shop:customers on pg

BEGIN;

SELECT id, email, created_at FROM shop.customers WHERE false;

ROLLBACK;
