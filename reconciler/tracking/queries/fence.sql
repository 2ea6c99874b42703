-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: take_fence :one
-- Tries once to take the fence; answers with the new epoch, or with who is in the way.
SELECT
    t.taken, t.lock_free, t.owner_epoch, t.control_id, t.environment, t.deployment, t.operation, t.since,
    t.backends, t.hidden
FROM reconciler.take_fence(%(control_id)s, %(environment)s, %(deployment)s, %(operation)s) AS t;

-- name: terminate_backends :many
-- Ends the recorded backends of the owner of an epoch, and nobody else's.
SELECT r.pid, pg_catalog.pg_terminate_backend(r.pid)
FROM reconciler.recorded_backends() AS r
WHERE
    r.start_known
    AND EXISTS (
        SELECT FROM reconciler.fence AS f
        WHERE f.epoch OPERATOR(pg_catalog.=) %(epoch)s AND r.epoch OPERATOR(pg_catalog.=) f.epoch
    );

-- name: find_lock_holder :many
-- Names the backend that holds the session lock of the fence, for a message.
SELECT l.pid
FROM pg_catalog.pg_locks AS l
INNER JOIN pg_catalog.pg_database AS d ON l.database OPERATOR(pg_catalog.=) d.oid
WHERE
    l.locktype OPERATOR(pg_catalog.=) 'advisory'
    AND l.classid OPERATOR(pg_catalog.=) 1380206158::pg_catalog.oid
    AND l.objid OPERATOR(pg_catalog.=) 1::pg_catalog.oid
    AND l.objsubid OPERATOR(pg_catalog.=) 2::pg_catalog.int2
    AND l.granted
    AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();

-- name: unlock_fence :exec
-- Gives the session lock back, where this session has it.
SELECT
    pg_catalog.pg_advisory_unlock(1380206158, 1)
WHERE
    EXISTS (
        SELECT
        FROM pg_catalog.pg_locks AS l
        WHERE
            l.locktype OPERATOR(pg_catalog.=) 'advisory'
            AND l.classid OPERATOR(pg_catalog.=) 1380206158::pg_catalog.oid
            AND l.objid OPERATOR(pg_catalog.=) 1::pg_catalog.oid
            AND l.objsubid OPERATOR(pg_catalog.=) 2::pg_catalog.int2
            AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
    );

-- name: hold_off :one
-- Tries to keep everybody from taking the fence, which works while nobody has it.
SELECT pg_catalog.pg_try_advisory_lock_shared(1380206158, 1);

-- name: let_on :exec
-- Ends that.
SELECT pg_catalog.pg_advisory_unlock_shared(1380206158, 1);

-- name: enroll_backend :exec
-- Records this backend as one through which the owner of the epoch writes.
SELECT reconciler.enroll_backend(%(epoch)s);

-- name: check_fence :one
-- Fails with RC001 unless the epoch is the current one, and keeps it so until the transaction ends.
SELECT reconciler.check_fence(%(epoch)s);

-- name: release_fence :one
-- Ends the epoch; false where it was over already.
SELECT reconciler.release_fence(%(epoch)s);
