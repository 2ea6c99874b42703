-- name: create_database :exec
-- Make an empty database; template0 holds nothing of anybody.
CREATE DATABASE {database} TEMPLATE template0;

-- name: create_extension :exec
-- Make one extension and what it requires.
CREATE EXTENSION IF NOT EXISTS {extension} CASCADE;

-- name: drop_database :exec
-- Drop a database of ours with all that is in it, and end whoever is connected to it.
DROP DATABASE IF EXISTS {database} WITH (FORCE);
