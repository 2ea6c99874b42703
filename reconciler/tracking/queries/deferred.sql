-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: record_deferred :exec
-- Checks the fence and records what is to be done behind the switch to a generation.
SELECT reconciler.record_deferred(%(epoch)s, %(generation)s, %(actions)s::pg_catalog.jsonb);

-- name: read_deferred :many
-- Reads what is to be done, or was, behind the switch to a generation, in its order.
SELECT d.generation, g.key, d.name, d.outside, d.body, d.state, d.attempts, d.error
FROM reconciler.deferred_actions AS d
INNER JOIN reconciler.generations AS g ON d.generation OPERATOR(pg_catalog.=) g.generation
WHERE d.generation OPERATOR(pg_catalog.=) %(generation)s
ORDER BY d.ordinal;

-- name: pending_deferred :many
-- Reads what is still to be done of generations that are live, of one component.
SELECT d.generation, g.key, d.name, d.outside, d.body, d.state, d.attempts, d.error
FROM reconciler.deferred_actions AS d
INNER JOIN reconciler.generations AS g ON d.generation OPERATOR(pg_catalog.=) g.generation
WHERE
    d.state OPERATOR(pg_catalog.=) 'pending' AND g.state OPERATOR(pg_catalog.=) 'live'
    AND g.component OPERATOR(pg_catalog.=) %(component)s
    AND g.environment OPERATOR(pg_catalog.=) %(environment)s
    AND g.deployment OPERATOR(pg_catalog.=) %(deployment)s
ORDER BY d.generation, d.ordinal;

-- name: lock_deferred :many
-- Keeps an action from being done by anybody else until this transaction ends.
SELECT d.generation, g.key, d.name, d.outside, d.body, d.state, d.attempts, d.error
FROM reconciler.deferred_actions AS d
INNER JOIN reconciler.generations AS g ON d.generation OPERATOR(pg_catalog.=) g.generation
WHERE d.generation OPERATOR(pg_catalog.=) %(generation)s AND d.name OPERATOR(pg_catalog.=) %(name)s
FOR NO KEY UPDATE OF d;

-- name: settle_deferred :one
-- Checks the fence and records that an action is done.
SELECT reconciler.settle_deferred(%(epoch)s, %(generation)s, %(name)s);

-- name: fail_deferred :exec
-- Checks the fence and records why an action failed.
SELECT reconciler.fail_deferred(%(epoch)s, %(generation)s, %(name)s, %(error)s);

-- name: live_materialized_views :many
-- Reads the live materialized views of a component: what refreshing each can do, and from when its rows are.
SELECT
    o.schema, o.name, c.oid::pg_catalog.int8, c.relispopulated,
    EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        WHERE
            i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL AND i.indexprs IS NULL
    ) AS beside_readers,
    o.filled_at, pg_catalog.clock_timestamp() AS now
FROM reconciler.live_schemas AS l
INNER JOIN reconciler.generation_objects AS o
    ON l.generation OPERATOR(pg_catalog.=) o.generation AND l.schema OPERATOR(pg_catalog.=) o.schema
INNER JOIN pg_catalog.pg_class AS c
    ON o.oids[1] OPERATOR(pg_catalog.=) c.oid AND c.relkind OPERATOR(pg_catalog.=) 'm'
INNER JOIN pg_catalog.pg_namespace AS n
    ON c.relnamespace OPERATOR(pg_catalog.=) n.oid AND n.nspname OPERATOR(pg_catalog.=) l.schema
WHERE
    l.component OPERATOR(pg_catalog.=) %(component)s
    AND l.environment OPERATOR(pg_catalog.=) %(environment)s
    AND l.deployment OPERATOR(pg_catalog.=) %(deployment)s
    AND o.action OPERATOR(pg_catalog.<>) 'retire'
ORDER BY o.schema, o.name;

-- name: note_refreshed :exec
-- Records from when the rows of a materialized view are that is still the live one.
UPDATE reconciler.generation_objects AS o
SET filled_at = %(since)s
FROM reconciler.live_schemas AS l
WHERE
    l.generation OPERATOR(pg_catalog.=) o.generation AND l.schema OPERATOR(pg_catalog.=) o.schema
    AND o.schema OPERATOR(pg_catalog.=) %(schema)s AND o.name OPERATOR(pg_catalog.=) %(name)s
    AND o.oids[1] OPERATOR(pg_catalog.=) %(oid)s::pg_catalog.int8::pg_catalog.oid;
