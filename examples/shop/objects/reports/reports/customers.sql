CREATE VIEW customers AS
SELECT customers.email, count(orders.id) AS orders, coalesce(sum(orders.total_cents), 0) AS total_cents
FROM shop.customers
LEFT JOIN shop.orders ON orders.customer_id = customers.id
GROUP BY customers.email;
