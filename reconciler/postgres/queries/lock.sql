-- name: try_lock :one
-- Take a session lock if it is free.
SELECT pg_catalog.pg_try_advisory_lock(%(class)s::int4, %(object)s::int4) AS taken;

-- name: unlock :one
-- Give a session lock back.
SELECT pg_catalog.pg_advisory_unlock(%(class)s::int4, %(object)s::int4) AS released;

-- name: end_when_idle :exec
-- Have the server end this session if it stands still while it holds a lock; no row where it cannot (before 14).
SELECT pg_catalog.set_config(settings.name, %(idle_ms)s, FALSE)
FROM pg_catalog.pg_settings AS settings
WHERE settings.name = 'idle_session_timeout';

-- name: stay_when_idle :exec
-- Take that back.
SELECT pg_catalog.set_config(settings.name, settings.reset_val, FALSE)
FROM pg_catalog.pg_settings AS settings
WHERE settings.name = 'idle_session_timeout';

-- name: lock_holder :one
-- Who holds a session lock of this database.
SELECT
    activity.pid,
    activity.application_name,
    activity.usename,
    COALESCE(pg_catalog.host(activity.client_addr), 'a local socket') AS client,
    EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - activity.backend_start)::float8 AS seconds
FROM pg_catalog.pg_locks AS locks
INNER JOIN pg_catalog.pg_stat_activity AS activity ON locks.pid = activity.pid
WHERE
    locks.locktype = 'advisory'
    AND locks.granted
    AND locks.database = (
        SELECT databases.oid FROM pg_catalog.pg_database AS databases
        WHERE databases.datname = pg_catalog.current_database()
    )
    AND locks.classid = %(class)s::int4::oid
    AND locks.objid = %(object)s::int4::oid
    AND locks.objsubid = 2
LIMIT 1;
