-- name: take_delivery :one
-- Notes a delivery; gives no row where it was noted before.
INSERT INTO reconciler_control.deliveries (source, id) VALUES (%(source)s, %(id)s)
ON CONFLICT (source, id) DO NOTHING
RETURNING id;

-- name: forget_deliveries :exec
-- Forgets some of those that nobody sends again; signed times are refused after one day.
DELETE FROM reconciler_control.deliveries
WHERE (source, id) IN (
    SELECT d.source, d.id FROM reconciler_control.deliveries AS d
    WHERE d.received_at < clock_timestamp() - interval '2 days'
    ORDER BY d.received_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
);
