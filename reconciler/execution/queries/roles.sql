-- name: role_is_there :one
-- Whether the server has a role of this name.
SELECT pg_catalog.to_regrole(pg_catalog.quote_ident(%(role)s)) IS NOT NULL AS there;

-- name: create_role :exec
-- Make a role that can do nothing yet.
CREATE ROLE {role} NOLOGIN;

-- name: role_login :exec
-- Let a new role connect.
ALTER ROLE {role} LOGIN;

-- name: role_bypassrls :exec
-- Let a new role pass by row security.
ALTER ROLE {role} BYPASSRLS;

-- name: role_createdb :exec
-- Let a new role make databases.
ALTER ROLE {role} CREATEDB;

-- name: role_createrole :exec
-- Let a new role make roles.
ALTER ROLE {role} CREATEROLE;

-- name: role_replication :exec
-- Let a new role replicate.
ALTER ROLE {role} REPLICATION;

-- name: role_password :exec
-- Give a new role its password, as a verifier from which nobody gets the password.
ALTER ROLE {role} PASSWORD {verifier}; -- noqa: PRS

-- name: grant_role :exec
-- Make a new role a member of another.
GRANT {group} TO {role};
