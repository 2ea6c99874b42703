-- name: data_directory :one
-- Which data directory answers.
SELECT pg_catalog.current_setting('data_directory') AS data_directory;
