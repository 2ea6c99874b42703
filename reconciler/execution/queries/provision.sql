-- name: create_database :exec
-- Make an empty database; template0 holds nothing of anybody.
CREATE DATABASE {database} TEMPLATE template0;

-- name: create_extension :exec
-- Make one extension and what it requires.
CREATE EXTENSION IF NOT EXISTS {extension} CASCADE;
