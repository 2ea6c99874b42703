-- Change modules: whose a module is, and taking changes back.

ALTER TABLE reconciler.modules
ADD COLUMN environment pg_catalog.text CHECK (environment <> ''),
ADD COLUMN deployment pg_catalog.text CHECK (deployment <> ''),
ADD COLUMN late pg_catalog.text [] NOT NULL DEFAULT '{}',
ADD CONSTRAINT modules_place_is_whole CHECK ((environment IS NULL) = (deployment IS NULL));
COMMENT ON COLUMN reconciler.modules.environment IS
'Environment that deployed to it last; empty where nobody knows, and then it is never pruned.';
COMMENT ON COLUMN reconciler.modules.deployment IS 'Deployment of that environment.';
COMMENT ON COLUMN reconciler.modules.late IS
'Ids of changes that were deployed after changes that follow them in the plan file; their order is no matter.';


CREATE OR REPLACE FUNCTION reconciler.record_change(
    p_epoch pg_catalog.int8, p_change pg_catalog.jsonb
) RETURNS pg_catalog.int8
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_project pg_catalog.text := p_change ->> 'project';
    v_change_id pg_catalog.text := p_change ->> 'change_id';
    v_name pg_catalog.text := p_change ->> 'name';
    v_position pg_catalog.int8;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    PERFORM 1
    FROM reconciler.modules AS m
    INNER JOIN reconciler.fence AS f ON m.environment = f.environment AND m.deployment = f.deployment
    WHERE
        m.project = v_project AND m.component = p_change ->> 'component'
        AND m.uri IS NOT DISTINCT FROM p_change ->> 'uri';
    IF NOT FOUND THEN
        INSERT INTO reconciler.modules (project, component, uri, environment, deployment)
        SELECT
            v_project, p_change ->> 'component', p_change ->> 'uri', NULLIF(f.environment, ''),
            NULLIF(f.deployment, '')
        FROM reconciler.fence AS f
        ON CONFLICT (project) DO UPDATE
        SET
            component = excluded.component, uri = excluded.uri, environment = excluded.environment,
            deployment = excluded.deployment;
    END IF;

    -- A reworked change takes the name over; its older instance is known by the next tag from then on.
    UPDATE reconciler.changes AS c
    SET name = c.name || '@' || COALESCE(
        (
            SELECT t.name
            FROM reconciler.tags AS t
            INNER JOIN reconciler.changes AS o ON t.change_id = o.change_id
            WHERE t.project = v_project AND o."position" >= c."position"
            ORDER BY o."position", t.planned_at, t.name
            LIMIT 1
        ),
        c.change_id
    )
    WHERE c.project = v_project AND c.name = v_name AND c.change_id <> v_change_id;

    INSERT INTO reconciler.changes (
        change_id, project, name, script_hash, parse_hash, revert_script, verify_script, note,
        planned_at, planner, deployed_at, deployed_by, commit, operation
    ) VALUES (
        v_change_id, v_project, v_name, p_change ->> 'script_hash', p_change ->> 'parse_hash',
        p_change ->> 'revert_script', p_change ->> 'verify_script', p_change ->> 'note',
        (p_change ->> 'planned_at')::pg_catalog.timestamptz, p_change ->> 'planner',
        COALESCE((p_change ->> 'deployed_at')::pg_catalog.timestamptz, pg_catalog.clock_timestamp()),
        p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation'
    ) RETURNING "position" INTO v_position;
    IF p_change -> 'requires' <> '[]' THEN
        INSERT INTO reconciler.dependencies (change_id, kind, dependency, dependency_id)
        SELECT v_change_id, (d ->> 0)::reconciler.dependency_kind, d ->> 1, d ->> 2
        FROM pg_catalog.jsonb_array_elements(p_change -> 'requires') AS d;
    END IF;
    IF p_change -> 'tags' <> '[]' THEN
        PERFORM reconciler.record_tags(p_change);
    END IF;
    IF p_change -> 'late' = 'true' THEN
        UPDATE reconciler.modules AS m SET late = pg_catalog.array_append(m.late, v_change_id)
        WHERE m.project = v_project;
    END IF;
    DELETE FROM reconciler.unfinished AS u
    WHERE u.change_id = v_change_id OR (u.project = v_project AND u.name = v_name);
    PERFORM reconciler.record_event('deploy', p_change);
    RETURN v_position;
END
$$;
COMMENT ON FUNCTION reconciler.record_change(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and records a deployed change with its dependencies, tags and event, and whose module it is.';


CREATE FUNCTION reconciler.revert_change(
    p_epoch pg_catalog.int8, p_change pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_change_id pg_catalog.text := p_change ->> 'change_id';
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    INSERT INTO reconciler.events (
        kind, project, change_id, name, note, requires, conflicts, tags, planned_at, planner,
        actor, commit, operation
    )
    SELECT
        'revert', c.project, c.change_id, c.name, c.note,
        ARRAY(
            SELECT d.dependency FROM reconciler.dependencies AS d
            WHERE d.change_id = c.change_id AND d.kind = 'require' ORDER BY d.dependency
        ),
        ARRAY(
            SELECT d.dependency FROM reconciler.dependencies AS d
            WHERE d.change_id = c.change_id AND d.kind = 'conflict' ORDER BY d.dependency
        ),
        ARRAY(
            SELECT t.name FROM reconciler.tags AS t
            WHERE t.change_id = c.change_id ORDER BY t.planned_at, t.name
        ),
        c.planned_at, c.planner, p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation'
    FROM reconciler.changes AS c
    WHERE c.change_id = v_change_id AND c.project = p_change ->> 'project';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'change "%" of project "%" is not deployed', v_change_id, p_change ->> 'project'
            USING ERRCODE = 'RC010';
    END IF;
    UPDATE reconciler.modules AS m SET late = pg_catalog.array_remove(m.late, v_change_id)
    WHERE v_change_id = ANY(m.late);
    DELETE FROM reconciler.changes AS c WHERE c.change_id = v_change_id;
    DELETE FROM reconciler.unfinished AS u WHERE u.change_id = v_change_id;
END
$$;
COMMENT ON FUNCTION reconciler.revert_change(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence, forgets a change with its dependencies and tags, and appends the event that it was reverted.';

REVOKE ALL ON FUNCTION reconciler.revert_change(pg_catalog.int8, pg_catalog.jsonb) FROM PUBLIC;

-- A function that is made later belongs to whoever owns the others, where this role may give it away.
DO $$
BEGIN
    EXECUTE 'ALTER FUNCTION reconciler.revert_change(pg_catalog.int8, pg_catalog.jsonb) OWNER TO ' || (
        SELECT n.nspowner::pg_catalog.regrole::pg_catalog.text
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname OPERATOR(pg_catalog.=) 'reconciler'
    );
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$;


-- The plan file may give a deployed change another name, and move a tag to another change.

ALTER TYPE reconciler.event_kind ADD VALUE IF NOT EXISTS 'rename';
COMMENT ON TYPE reconciler.event_kind IS 'What was done with a change: deployed, reverted, failed, or renamed.';


CREATE OR REPLACE FUNCTION reconciler.record_tags(p_change pg_catalog.jsonb) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    INSERT INTO reconciler.tags AS o (
        tag_id, project, name, change_id, note, planned_at, planner, recorded_by, commit, operation
    )
    SELECT
        t ->> 0, p_change ->> 'project', t ->> 1, p_change ->> 'change_id', t ->> 2,
        (t ->> 3)::pg_catalog.timestamptz, t ->> 4,
        p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation'
    FROM pg_catalog.jsonb_array_elements(p_change -> 'tags') AS t
    ON CONFLICT (project, name) DO UPDATE
    SET
        tag_id = excluded.tag_id, change_id = excluded.change_id, note = excluded.note,
        planned_at = excluded.planned_at, planner = excluded.planner,
        recorded_at = pg_catalog.clock_timestamp(), recorded_by = excluded.recorded_by,
        commit = excluded.commit, operation = excluded.operation
    WHERE o.change_id <> excluded.change_id;
END
$$;
COMMENT ON FUNCTION reconciler.record_tags(pg_catalog.jsonb) IS
'Records the tags of a change that are not recorded on it yet; a tag stands on one change, so it moves.';


CREATE FUNCTION reconciler.rename_change(
    p_epoch pg_catalog.int8, p_change pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_change_id pg_catalog.text := p_change ->> 'change_id';
    v_project pg_catalog.text := p_change ->> 'project';
    v_name pg_catalog.text := p_change ->> 'name';
    v_before pg_catalog.text;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    SELECT c.name INTO v_before FROM reconciler.changes AS c
    WHERE c.change_id = v_change_id AND c.project = v_project;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'change "%" of project "%" is not deployed', v_change_id, v_project
            USING ERRCODE = 'RC010';
    END IF;
    IF v_before = v_name THEN
        RETURN;
    END IF;
    -- Whoever has the name now left the plan, or is renamed next.
    UPDATE reconciler.changes AS c
    SET name = c.name || '@' || c.change_id
    WHERE c.project = v_project AND c.name = v_name;
    UPDATE reconciler.changes AS c SET name = v_name WHERE c.change_id = v_change_id;
    INSERT INTO reconciler.events (
        kind, project, change_id, name, note, planned_at, planner, actor, commit, operation
    )
    SELECT
        'rename', c.project, c.change_id, c.name, 'was: ' || v_before, c.planned_at, c.planner,
        p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation'
    FROM reconciler.changes AS c
    WHERE c.change_id = v_change_id;
END
$$;
COMMENT ON FUNCTION reconciler.rename_change(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and gives the record of a deployed change the name that the plan file has now.';

REVOKE ALL ON FUNCTION reconciler.rename_change(pg_catalog.int8, pg_catalog.jsonb) FROM PUBLIC;

DO $$
BEGIN
    EXECUTE 'ALTER FUNCTION reconciler.rename_change(pg_catalog.int8, pg_catalog.jsonb) OWNER TO ' || (
        SELECT n.nspowner::pg_catalog.regrole::pg_catalog.text
        FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname OPERATOR(pg_catalog.=) 'reconciler'
    );
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$;


-- Changes that cannot run in one transaction are noted while they run, so that they are gone on with.

CREATE TABLE reconciler.unfinished (
    change_id pg_catalog.text PRIMARY KEY CHECK (change_id <> ''),
    project pg_catalog.text NOT NULL,
    name pg_catalog.text NOT NULL,
    script_hash pg_catalog.text,
    done pg_catalog.text [] NOT NULL DEFAULT '{}',
    running pg_catalog.text,
    transaction_id pg_catalog.text,
    there_before pg_catalog.text [] NOT NULL DEFAULT '{}',
    words pg_catalog.text NOT NULL DEFAULT '',
    begun_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    noted_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    actor pg_catalog.text NOT NULL,
    commit pg_catalog.text NOT NULL,
    operation pg_catalog.text NOT NULL
);
COMMENT ON TABLE reconciler.unfinished IS
'Changes outside of transactions that were begun and are not recorded as deployed, with how far they are.';
COMMENT ON COLUMN reconciler.unfinished.change_id IS 'Id of the change.';
COMMENT ON COLUMN reconciler.unfinished.project IS 'Project of the change.';
COMMENT ON COLUMN reconciler.unfinished.name IS 'Name of the change.';
COMMENT ON COLUMN reconciler.unfinished.script_hash IS 'Hash of the bytes of the script that was begun.';
COMMENT ON COLUMN reconciler.unfinished.done IS
'Hashes of the statements, or transactions, of the script that are done, in order.';
COMMENT ON COLUMN reconciler.unfinished.running IS 'Hash of the one that was begun; empty between two of them.';
COMMENT ON COLUMN reconciler.unfinished.transaction_id IS
'Transaction that it runs in; whether that committed tells whether it is done.';
COMMENT ON COLUMN reconciler.unfinished.there_before IS
'What was there before it began, of the kind that it makes; anything else was left by it.';
COMMENT ON COLUMN reconciler.unfinished.words IS 'What was begun last, and its place in the script.';
COMMENT ON COLUMN reconciler.unfinished.begun_at IS 'When the change was begun.';
COMMENT ON COLUMN reconciler.unfinished.noted_at IS 'When the row was last written.';
COMMENT ON COLUMN reconciler.unfinished.actor IS 'On whose behalf it is done.';
COMMENT ON COLUMN reconciler.unfinished.commit IS 'Commit it is done from.';
COMMENT ON COLUMN reconciler.unfinished.operation IS 'Operation, in the control database, that does it.';


CREATE FUNCTION reconciler.note_unfinished(
    p_epoch pg_catalog.int8, p_change pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    -- What is begun next cannot be taken back, so that a crash must not forget that it was begun.
    PERFORM pg_catalog.set_config('synchronous_commit', 'on', TRUE);
    PERFORM reconciler.check_fence(p_epoch);
    INSERT INTO reconciler.unfinished (
        change_id, project, name, script_hash, done, running, transaction_id, there_before, words,
        actor, commit, operation
    ) VALUES (
        p_change ->> 'change_id', p_change ->> 'project', p_change ->> 'name', p_change ->> 'script_hash',
        ARRAY(SELECT pg_catalog.jsonb_array_elements_text(p_change -> 'done')),
        p_change ->> 'running', p_change ->> 'transaction_id',
        ARRAY(SELECT pg_catalog.jsonb_array_elements_text(p_change -> 'there_before')),
        p_change ->> 'words', p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation'
    )
    ON CONFLICT (change_id) DO UPDATE
    SET
        name = excluded.name, script_hash = excluded.script_hash, done = excluded.done,
        running = excluded.running, transaction_id = excluded.transaction_id,
        there_before = excluded.there_before, words = excluded.words,
        noted_at = pg_catalog.clock_timestamp(), actor = excluded.actor, commit = excluded.commit,
        operation = excluded.operation;
END
$$;
COMMENT ON FUNCTION reconciler.note_unfinished(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and notes, for good, how far a change outside of transactions is.';

REVOKE ALL ON TABLE reconciler.unfinished FROM PUBLIC;
REVOKE ALL ON FUNCTION reconciler.note_unfinished(pg_catalog.int8, pg_catalog.jsonb) FROM PUBLIC;
