-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: read_identity :many
-- Reads which physical database the base line was taken of.
SELECT b.system_identifier, b.database_oid::pg_catalog.int8, b.server_major FROM reconciler.base_line AS b;

-- name: read_fingerprints :many
-- Reads what is needed to tell which stored objects differ.
SELECT o.identity_hash, o.fingerprint FROM reconciler.base_line_objects AS o;

-- name: delete_objects :exec
-- Removes objects that vanished or differ.
DELETE FROM reconciler.base_line_objects AS o
USING pg_catalog.unnest(%(hashes)s::pg_catalog.bytea []) AS gone (identity_hash)
WHERE o.identity_hash OPERATOR(pg_catalog.=) gone.identity_hash;

-- name: copy_objects :exec
-- Stores objects that are new or differ.
COPY reconciler.base_line_objects (identity_hash, kind, name, fingerprint, definition) FROM STDIN;

-- name: settle_base_line :exec
-- States that the stored objects are what the database holds, and of which physical database.
INSERT INTO reconciler.base_line (
    moving, system_identifier, database_oid, server_major, algorithm, probe, taken_at, operation, moving_since
) VALUES (
    FALSE, %(system_identifier)s, %(database_oid)s::pg_catalog.oid, %(server_major)s, %(algorithm)s,
    %(probe)s, pg_catalog.clock_timestamp(), %(operation)s, NULL
)
ON CONFLICT (one) DO UPDATE SET
    moving = FALSE, system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,
    server_major = excluded.server_major, algorithm = excluded.algorithm, probe = excluded.probe,
    taken_at = excluded.taken_at, operation = excluded.operation, moving_since = NULL;
