-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: limit_outside :exec
-- Limit the waits and the time of what runs outside of transactions; milliseconds, 0 for no limit.
SELECT
    pg_catalog.set_config('lock_timeout', %(lock_timeout_ms)s, FALSE),
    pg_catalog.set_config('statement_timeout', %(statement_timeout_ms)s, FALSE);

-- name: wait_for_locks :exec
-- Let the next statement wait for locks for so long, and return what it was before.
SELECT
    pg_catalog.current_setting('lock_timeout') AS before,
    pg_catalog.set_config('lock_timeout', %(lock_timeout)s, FALSE);

-- name: begin_unit :exec
-- Open the transaction of one statement.
BEGIN; -- noqa: PRS

-- name: commit_unit :exec
-- Make what the statement did lasting.
COMMIT;

-- name: about_transaction :one
-- The id of this transaction, where it wrote anything, and whether our own schema is still there in it.
SELECT
    pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text AS transaction_id,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
        WHERE
            n.nspname OPERATOR(pg_catalog.=) 'reconciler'
            AND c.relname OPERATOR(pg_catalog.=) 'unfinished'
    ) AS tracked;

-- name: transaction_status :one
-- What became of a transaction: committed, aborted, in progress, or nothing where that is long ago.
-- Nor of one that is yet to come: the database was restored from a dump of another server.
SELECT CASE
    WHEN
        %(transaction_id)s::pg_catalog.xid8
        OPERATOR(pg_catalog.<) pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
        THEN pg_catalog.pg_xact_status(%(transaction_id)s::pg_catalog.xid8)
END AS status;

-- name: indexes_of_table :many
-- The indexes of a table: number, schema, name, whether it can be used.
SELECT
    i.indexrelid::pg_catalog.text AS number,
    n.nspname AS schema,
    c.relname AS name,
    i.indisvalid AND i.indisready AS usable
FROM pg_catalog.pg_index AS i
INNER JOIN pg_catalog.pg_class AS c ON i.indexrelid OPERATOR(pg_catalog.=) c.oid
INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
WHERE i.indrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%(relation)s)
ORDER BY i.indexrelid;

-- name: indexes_left_by_reindex :many
-- The indexes that an interrupted REINDEX CONCURRENTLY leaves, of which none can be used.
SELECT
    i.indexrelid::pg_catalog.text AS number,
    n.nspname AS schema,
    c.relname AS name,
    FALSE AS usable
FROM pg_catalog.pg_index AS i
INNER JOIN pg_catalog.pg_class AS c ON i.indexrelid OPERATOR(pg_catalog.=) c.oid
INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
WHERE
    NOT i.indisvalid
    AND c.relname OPERATOR(pg_catalog.~) '_cc(new|old)[0-9]*$'
    AND n.nspname OPERATOR(pg_catalog.<>) 'pg_toast'
ORDER BY i.indexrelid;

-- name: drop_index_concurrently :exec
-- Remove an index that cannot be used, without holding anybody up.
DROP INDEX CONCURRENTLY IF EXISTS {index};

-- name: relation_exists :many
-- The relation of a name, where there is one.
SELECT r.number::pg_catalog.oid::pg_catalog.text AS number
FROM pg_catalog.to_regclass(%(name)s) AS r (number)
WHERE r.number IS NOT NULL;

-- name: database_exists :many
-- The database of a name, where there is one.
SELECT d.oid::pg_catalog.text AS number
FROM pg_catalog.pg_database AS d
WHERE d.datname OPERATOR(pg_catalog.=) %(name)s;

-- name: tablespace_exists :many
-- The tablespace of a name, where there is one.
SELECT t.oid::pg_catalog.text AS number
FROM pg_catalog.pg_tablespace AS t
WHERE t.spcname OPERATOR(pg_catalog.=) %(name)s;

-- name: subscription_exists :many
-- The subscription of a name in this database, where there is one.
SELECT s.oid::pg_catalog.text AS number
FROM pg_catalog.pg_subscription AS s
INNER JOIN pg_catalog.pg_database AS d ON s.subdbid OPERATOR(pg_catalog.=) d.oid
WHERE
    s.subname OPERATOR(pg_catalog.=) %(name)s
    AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();

-- name: partition_state :many
-- Whether a partition is being detached from its table; nothing where it is none of its partitions.
SELECT i.inhdetachpending AS pending
FROM pg_catalog.pg_inherits AS i
WHERE
    i.inhrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%(name)s)
    AND i.inhparent OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%(relation)s);

-- name: finish_detaching :exec
-- Finish what an interrupted DETACH PARTITION CONCURRENTLY began.
ALTER TABLE {relation} DETACH PARTITION {partition} FINALIZE;
