-- name: create_database :exec
-- Make an empty database; template0 holds nothing of anybody.
CREATE DATABASE {database} TEMPLATE template0;

-- name: create_extension :exec
-- Make one extension and what it requires.
CREATE EXTENSION IF NOT EXISTS {extension} CASCADE;

-- name: server_identity :one
-- Which server this is.
SELECT system_identifier::text AS system_identifier FROM pg_catalog.pg_control_system();
