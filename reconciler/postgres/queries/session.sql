-- name: limit_session :exec
-- For servers, and poolers before them, that do not take settings with the start of a session.
SELECT
    pg_catalog.set_config(
        'idle_in_transaction_session_timeout', %(idle_in_transaction_ms)s, FALSE
    );

-- name: prepare_borrowed :exec
-- A borrowed connection is named for its borrower and finds nothing but what is qualified.
SELECT
    pg_catalog.set_config('application_name', %(application)s, FALSE),
    pg_catalog.set_config('search_path', '', FALSE);

-- name: forget_session :exec
-- Settings, role, locks, temporary tables, subscriptions: nothing is left to the next. Prepared statements stay:
-- they are the driver's, which would go on using them.
RESET SESSION AUTHORIZATION;
RESET ALL;
CLOSE ALL; -- noqa: PRS
UNLISTEN *;
DISCARD TEMP;
SELECT pg_catalog.pg_advisory_unlock_all();
