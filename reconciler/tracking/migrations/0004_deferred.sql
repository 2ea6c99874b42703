-- What is done once behind a switch of SQL objects, how old what materialized views hold is, and objects that are
-- recorded together.

CREATE TABLE reconciler.deferred_actions (
    generation pg_catalog.int8 NOT NULL REFERENCES reconciler.generations (generation),
    name pg_catalog.text NOT NULL CHECK (name <> ''),
    ordinal pg_catalog.int4 NOT NULL,
    outside pg_catalog.bool NOT NULL,
    body pg_catalog.text NOT NULL CHECK (body <> ''),
    state pg_catalog.text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'given_up')),
    attempts pg_catalog.int4 NOT NULL DEFAULT 0,
    error pg_catalog.text,
    recorded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at pg_catalog.timestamptz,
    PRIMARY KEY (generation, name)
);
COMMENT ON TABLE reconciler.deferred_actions IS 'What is done once behind the switch to a generation.';
COMMENT ON COLUMN reconciler.deferred_actions.generation IS 'The generation.';
COMMENT ON COLUMN reconciler.deferred_actions.name IS 'Name of the action in the environment file.';
COMMENT ON COLUMN reconciler.deferred_actions.ordinal IS 'Its place among those of the generation.';
COMMENT ON COLUMN reconciler.deferred_actions.outside IS
'Whether it is a request to a URL; else it is SQL, which commits together with its record.';
COMMENT ON COLUMN reconciler.deferred_actions.body IS 'The statements, or the URL.';
COMMENT ON COLUMN reconciler.deferred_actions.state IS
'pending: still to be done; done: for good; given_up: another generation took over before it was done.';
COMMENT ON COLUMN reconciler.deferred_actions.attempts IS 'How often it failed.';
COMMENT ON COLUMN reconciler.deferred_actions.error IS 'Why it failed the last time, or was given up.';
COMMENT ON COLUMN reconciler.deferred_actions.recorded_at IS 'When it was recorded, at staging.';
COMMENT ON COLUMN reconciler.deferred_actions.ended_at IS 'When it was done or given up.';

CREATE INDEX deferred_actions_pending ON reconciler.deferred_actions (generation) WHERE state = 'pending';
COMMENT ON INDEX reconciler.deferred_actions_pending IS 'Finds what is still to be done.';

COMMENT ON COLUMN reconciler.generation_objects.filled_at IS
'From when the rows of a materialized view are: when it was last filled or refreshed by us.';


CREATE FUNCTION reconciler.record_deferred(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_actions pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    PERFORM 1 FROM reconciler.generations AS g
    WHERE g.generation = p_generation AND g.state IN ('staging', 'staged', 'ready')
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'generation % is not before its switch', p_generation USING ERRCODE = 'RC013';
    END IF;
    DELETE FROM reconciler.deferred_actions AS d WHERE d.generation = p_generation;
    INSERT INTO reconciler.deferred_actions (generation, name, ordinal, outside, body)
    SELECT p_generation, a.one ->> 'name', a.ordinal, (a.one ->> 'outside')::pg_catalog.bool, a.one ->> 'body'
    FROM pg_catalog.jsonb_array_elements(p_actions) WITH ORDINALITY AS a (one, ordinal);
END
$$;
COMMENT ON FUNCTION reconciler.record_deferred(pg_catalog.int8, pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and records what is to be done behind the switch to a generation, in place of what was recorded.';


CREATE FUNCTION reconciler.settle_deferred(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_name pg_catalog.text
) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.deferred_actions AS d
    SET state = 'done', error = NULL, ended_at = pg_catalog.clock_timestamp()
    WHERE d.generation = p_generation AND d.name = p_name AND d.state = 'pending';
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION reconciler.settle_deferred(pg_catalog.int8, pg_catalog.int8, pg_catalog.text) IS
'Checks the fence and records that an action is done; false where it was not pending.';


CREATE FUNCTION reconciler.fail_deferred(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_name pg_catalog.text, p_error pg_catalog.text
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.deferred_actions AS d
    SET attempts = d.attempts + 1, error = p_error
    WHERE d.generation = p_generation AND d.name = p_name AND d.state = 'pending';
END
$$;
COMMENT ON FUNCTION reconciler.fail_deferred(
    pg_catalog.int8, pg_catalog.int8, pg_catalog.text, pg_catalog.text
) IS
'Checks the fence and records why an action failed, which stays pending.';


CREATE FUNCTION reconciler.give_deferred_up() RETURNS pg_catalog.trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    IF NEW.state = 'live' THEN
        UPDATE reconciler.deferred_actions AS d
        SET
            state = 'given_up', ended_at = pg_catalog.clock_timestamp(),
            error = 'generation ' || NEW.key || ' took over before it was done'
        FROM reconciler.generations AS g
        WHERE
            d.generation = g.generation AND d.state = 'pending' AND g.generation < NEW.generation
            AND (g.component, g.environment, g.deployment) = (NEW.component, NEW.environment, NEW.deployment)
            AND g.state IN ('live', 'retained');
    ELSE
        UPDATE reconciler.deferred_actions AS d
        SET
            state = 'given_up', ended_at = pg_catalog.clock_timestamp(),
            error = 'its generation was ' || NEW.state || ' before it was done'
        WHERE d.generation = NEW.generation AND d.state = 'pending';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION reconciler.give_deferred_up() IS
'Gives up what is pending of generations that are not live any more, or that a newer one took over from.';

CREATE TRIGGER generations_give_deferred_up AFTER UPDATE OF state ON reconciler.generations
FOR EACH ROW
WHEN (
    new.state IS DISTINCT FROM old.state
    AND new.state IN ('live', 'retained', 'reverted', 'retired', 'failed', 'cancelled')
)
EXECUTE FUNCTION reconciler.give_deferred_up();
COMMENT ON TRIGGER generations_give_deferred_up ON reconciler.generations IS
'What nobody will do is not pending.';


CREATE FUNCTION reconciler.record_objects(
    p_epoch pg_catalog.int8,
    p_generation pg_catalog.int8,
    p_schemas pg_catalog.text [],
    p_names pg_catalog.text []
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_made pg_catalog.int8;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    WITH made AS (
        UPDATE reconciler.generation_objects AS o
        SET
            made_at = pg_catalog.clock_timestamp(),
            oids = CASE
                WHEN o.sort IN ('view', 'materialized view') THEN ARRAY(
                    SELECT c.oid FROM pg_catalog.pg_class AS c
                    WHERE
                        c.relname = o.name AND c.relnamespace = s.staging_oid
                        AND c.relkind = CASE o.sort WHEN 'view' THEN 'v'::pg_catalog."char" ELSE 'm' END
                )
                ELSE ARRAY(
                    SELECT p.oid FROM pg_catalog.pg_proc AS p
                    WHERE
                        p.proname = o.name AND p.pronamespace = s.staging_oid
                        AND p.prokind = CASE o.sort WHEN 'procedure' THEN 'p'::pg_catalog."char" ELSE 'f' END
                    ORDER BY p.oid
                )
            END
        FROM ROWS FROM (pg_catalog.unnest(p_schemas), pg_catalog.unnest(p_names)) AS u (schema, name)
        INNER JOIN reconciler.generation_schemas AS s ON u.schema = s.schema
        WHERE
            s.generation = p_generation AND o.generation = p_generation
            AND o.schema = u.schema AND o.name = u.name AND o.made_at IS NULL
        RETURNING o.oids
    )
    SELECT pg_catalog.count(*) INTO v_made FROM made AS m WHERE m.oids <> '{}';
    IF v_made <> pg_catalog.cardinality(p_names) THEN
        RAISE EXCEPTION '% of % objects of generation % were not made, or are recorded already',
            pg_catalog.cardinality(p_names) - v_made, pg_catalog.cardinality(p_names), p_generation
            USING ERRCODE = 'RC012';
    END IF;
END
$$;
COMMENT ON FUNCTION reconciler.record_objects(
    pg_catalog.int8, pg_catalog.int8, pg_catalog.text [], pg_catalog.text []
) IS
'Checks the fence and records objects that were just made in their staging schemas, all of them or none.';


REVOKE ALL ON TABLE reconciler.deferred_actions FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA reconciler FROM PUBLIC;
