-- name: begin_look :exec
-- Open a transaction that writes nothing and is taken back.
BEGIN READ ONLY; -- noqa: PRS

-- name: look_for :exec
-- Hand over verify scripts, as a JSON array.
SELECT pg_catalog.set_config('reconciler.scripts', %(scripts)s, TRUE);

-- name: look :exec
-- Run each of them as if alone and keep the numbers of those that pass; one that fails is no error to log.
DO $$
DECLARE
    v_each record;
    v_still pg_catalog.text := '';
BEGIN
    FOR v_each IN
        SELECT s.script, s.number
        FROM pg_catalog.json_array_elements_text(
            pg_catalog.current_setting('reconciler.scripts')::pg_catalog.json
        ) WITH ORDINALITY AS s (script, number)
    LOOP
        BEGIN
            EXECUTE v_each.script;
            -- What it set goes back with it.
            RAISE EXCEPTION USING ERRCODE = 'RC100';
        EXCEPTION
            WHEN SQLSTATE 'RC100' THEN
                v_still := pg_catalog.concat(v_still, ' ', v_each.number);
            WHEN OTHERS OR assert_failure THEN
                NULL;
        END;
    END LOOP;
    PERFORM pg_catalog.set_config('reconciler.still', v_still, TRUE);
END
$$;

-- name: found_still :one
-- The numbers of the scripts that passed, from 1.
SELECT pg_catalog.current_setting('reconciler.still', TRUE) AS numbers;
