-- name: notify :exec
-- Send a notification.
SELECT pg_catalog.pg_notify(%(channel)s, %(payload)s);

-- name: listen :exec
-- Hear the notifications of a channel.
LISTEN {channel};

-- name: ping :exec
-- A connection that nobody uses tells only so that it is still there.
SELECT 1 AS here;
