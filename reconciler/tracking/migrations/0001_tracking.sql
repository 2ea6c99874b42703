-- The tracking schema of a managed database: what is deployed, what was tried, the base line, the fence.
-- Every name is qualified, so that no search_path can put another object in the place of one of these.

COMMENT ON SCHEMA reconciler IS
'Tracking schema of pg-reconciler: what it applied to this database. Written by the daemon only.';

CREATE TYPE reconciler.event_kind AS ENUM ('deploy', 'revert', 'fail');
COMMENT ON TYPE reconciler.event_kind IS 'What was done with a change: deployed, reverted, or failed.';

CREATE TYPE reconciler.dependency_kind AS ENUM ('require', 'conflict');
COMMENT ON TYPE reconciler.dependency_kind IS 'Whether a change needs another one, or must not stand beside it.';


CREATE TABLE reconciler.modules (
    project pg_catalog.text PRIMARY KEY CHECK (project <> ''),
    component pg_catalog.text NOT NULL CHECK (component <> ''),
    uri pg_catalog.text,
    recorded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE reconciler.modules IS 'Change modules of which something was deployed here.';
COMMENT ON COLUMN reconciler.modules.project IS 'Project name, from the plan file of the module.';
COMMENT ON COLUMN reconciler.modules.component IS 'Component of the environment that declares the module.';
COMMENT ON COLUMN reconciler.modules.uri IS 'URI of the project, from the plan file, where it has one.';
COMMENT ON COLUMN reconciler.modules.recorded_at IS 'When the first change of the module was recorded here.';


CREATE TABLE reconciler.changes (
    change_id pg_catalog.text PRIMARY KEY CHECK (change_id <> ''),
    project pg_catalog.text NOT NULL REFERENCES reconciler.modules (project),
    name pg_catalog.text NOT NULL CHECK (name <> ''),
    script_hash pg_catalog.text CHECK (script_hash ~ '^[0-9a-f]{40,64}$'),
    parse_hash pg_catalog.text CHECK (parse_hash <> ''),
    revert_script pg_catalog.text,
    verify_script pg_catalog.text,
    note pg_catalog.text NOT NULL DEFAULT '',
    "position" pg_catalog.int8 GENERATED ALWAYS AS IDENTITY,
    planned_at pg_catalog.timestamptz,
    planner pg_catalog.text,
    deployed_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    deployed_by pg_catalog.text NOT NULL,
    commit pg_catalog.text NOT NULL,
    operation pg_catalog.text NOT NULL,
    CONSTRAINT changes_name_once UNIQUE (project, name),
    CONSTRAINT changes_position_once UNIQUE ("position")
);
COMMENT ON TABLE reconciler.changes IS 'Changes deployed now; a reverted change leaves, and its events stay.';
COMMENT ON COLUMN reconciler.changes.change_id IS 'Id of the change, as Sqitch computes it.';
COMMENT ON COLUMN reconciler.changes.project IS 'Project of the change.';
COMMENT ON COLUMN reconciler.changes.name IS
'Name of the change, unique within its project; an older instance of a reworked change is name@tag.';
COMMENT ON COLUMN reconciler.changes.script_hash IS 'Hash of the bytes of the deploy script, in hex.';
COMMENT ON COLUMN reconciler.changes.parse_hash IS
'Hash of the parsed deploy script, which layout and comments do not move.';
COMMENT ON COLUMN reconciler.changes.revert_script IS
'Text of the revert script at deployment, so that the change can be reverted without its source.';
COMMENT ON COLUMN reconciler.changes.verify_script IS 'Text of the verify script at deployment.';
COMMENT ON COLUMN reconciler.changes.note IS 'Note of the change, from the plan file.';
COMMENT ON COLUMN reconciler.changes."position" IS 'Order of deployment in this database, counting up; gaps mean nothing.';
COMMENT ON COLUMN reconciler.changes.planned_at IS 'When the change was planned, from the plan file.';
COMMENT ON COLUMN reconciler.changes.planner IS 'Who planned the change, from the plan file.';
COMMENT ON COLUMN reconciler.changes.deployed_at IS 'When the change was recorded, by the clock of this server.';
COMMENT ON COLUMN reconciler.changes.deployed_by IS 'On whose behalf the change was deployed.';
COMMENT ON COLUMN reconciler.changes.commit IS 'Commit that the change was deployed from.';
COMMENT ON COLUMN reconciler.changes.operation IS 'Operation, in the control database, that deployed the change.';
COMMENT ON INDEX reconciler.changes_name_once IS 'One deployed change per name; record_change looks names up.';
COMMENT ON INDEX reconciler.changes_position_once IS 'One change per position.';


CREATE TABLE reconciler.dependencies (
    change_id pg_catalog.text NOT NULL REFERENCES reconciler.changes (change_id) ON DELETE CASCADE,
    kind reconciler.dependency_kind NOT NULL,
    dependency pg_catalog.text NOT NULL CHECK (dependency <> ''),
    dependency_id pg_catalog.text,
    PRIMARY KEY (change_id, kind, dependency),
    CONSTRAINT dependencies_conflict_names_nothing CHECK (kind = 'require' OR dependency_id IS NULL)
);
COMMENT ON TABLE reconciler.dependencies IS 'What each deployed change required, or conflicted with.';
COMMENT ON COLUMN reconciler.dependencies.change_id IS 'The deployed change.';
COMMENT ON COLUMN reconciler.dependencies.kind IS 'Whether it is required or conflicts.';
COMMENT ON COLUMN reconciler.dependencies.dependency IS 'The dependency, as the plan file writes it.';
COMMENT ON COLUMN reconciler.dependencies.dependency_id IS
'Id of the change that met the requirement; empty where it was met outside this database''s changes.';

CREATE INDEX dependencies_dependants ON reconciler.dependencies (dependency_id)
WHERE dependency_id IS NOT NULL;
COMMENT ON INDEX reconciler.dependencies_dependants IS 'Finds what requires a change, before it is reverted.';


CREATE TABLE reconciler.tags (
    tag_id pg_catalog.text PRIMARY KEY CHECK (tag_id <> ''),
    project pg_catalog.text NOT NULL REFERENCES reconciler.modules (project),
    name pg_catalog.text NOT NULL CHECK (name <> '' AND NOT pg_catalog.starts_with(name, '@')),
    change_id pg_catalog.text NOT NULL REFERENCES reconciler.changes (change_id) ON DELETE CASCADE,
    note pg_catalog.text NOT NULL DEFAULT '',
    planned_at pg_catalog.timestamptz,
    planner pg_catalog.text,
    recorded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    recorded_by pg_catalog.text NOT NULL,
    commit pg_catalog.text NOT NULL,
    operation pg_catalog.text NOT NULL,
    CONSTRAINT tags_name_once UNIQUE (project, name)
);
COMMENT ON TABLE reconciler.tags IS 'Tags of deployed changes.';
COMMENT ON COLUMN reconciler.tags.tag_id IS 'Id of the tag, as Sqitch computes it.';
COMMENT ON COLUMN reconciler.tags.project IS 'Project of the tag.';
COMMENT ON COLUMN reconciler.tags.name IS 'Name of the tag, without the @.';
COMMENT ON COLUMN reconciler.tags.change_id IS 'The tagged change.';
COMMENT ON COLUMN reconciler.tags.note IS 'Note of the tag, from the plan file.';
COMMENT ON COLUMN reconciler.tags.planned_at IS 'When the tag was planned, from the plan file.';
COMMENT ON COLUMN reconciler.tags.planner IS 'Who planned the tag, from the plan file.';
COMMENT ON COLUMN reconciler.tags.recorded_at IS 'When the tag was recorded, by the clock of this server.';
COMMENT ON COLUMN reconciler.tags.recorded_by IS 'On whose behalf the tag was recorded.';
COMMENT ON COLUMN reconciler.tags.commit IS 'Commit that the tag was recorded from.';
COMMENT ON COLUMN reconciler.tags.operation IS 'Operation, in the control database, that recorded the tag.';

CREATE INDEX tags_of_change ON reconciler.tags (change_id);
COMMENT ON INDEX reconciler.tags_of_change IS 'Finds the tags of a change.';


CREATE TABLE reconciler.events (
    event_id pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind reconciler.event_kind NOT NULL,
    project pg_catalog.text NOT NULL,
    change_id pg_catalog.text NOT NULL,
    name pg_catalog.text NOT NULL,
    note pg_catalog.text NOT NULL DEFAULT '',
    requires pg_catalog.text [] NOT NULL DEFAULT '{}',
    conflicts pg_catalog.text [] NOT NULL DEFAULT '{}',
    tags pg_catalog.text [] NOT NULL DEFAULT '{}',
    planned_at pg_catalog.timestamptz,
    planner pg_catalog.text,
    occurred_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    actor pg_catalog.text NOT NULL,
    commit pg_catalog.text NOT NULL,
    operation pg_catalog.text NOT NULL,
    sqlstate pg_catalog.text CHECK (sqlstate ~ '^[0-9A-Z]{5}$'),
    message pg_catalog.text,
    file pg_catalog.text,
    line pg_catalog.int4 CHECK (line > 0),
    CONSTRAINT events_only_failures_say_why CHECK ((kind = 'fail') = (message IS NOT NULL)),
    CONSTRAINT events_place_needs_failure CHECK (
        kind = 'fail' OR (sqlstate IS NULL AND file IS NULL AND line IS NULL)
    ),
    CONSTRAINT events_line_needs_file CHECK (line IS NULL OR file IS NOT NULL)
);
COMMENT ON TABLE reconciler.events IS 'Everything that was ever done with a change here; append-only.';
COMMENT ON COLUMN reconciler.events.event_id IS 'Counts up; gaps mean nothing.';
COMMENT ON COLUMN reconciler.events.kind IS 'What was done.';
COMMENT ON COLUMN reconciler.events.project IS 'Project of the change.';
COMMENT ON COLUMN reconciler.events.change_id IS 'Id of the change.';
COMMENT ON COLUMN reconciler.events.name IS 'Name of the change at that time.';
COMMENT ON COLUMN reconciler.events.note IS 'Note of the change.';
COMMENT ON COLUMN reconciler.events.requires IS 'What the change required, as the plan file writes it.';
COMMENT ON COLUMN reconciler.events.conflicts IS 'What the change conflicted with, as the plan file writes it.';
COMMENT ON COLUMN reconciler.events.tags IS 'Tags of the change at that time, without the @.';
COMMENT ON COLUMN reconciler.events.planned_at IS 'When the change was planned.';
COMMENT ON COLUMN reconciler.events.planner IS 'Who planned the change.';
COMMENT ON COLUMN reconciler.events.occurred_at IS 'When it happened, by the clock of this server.';
COMMENT ON COLUMN reconciler.events.actor IS 'On whose behalf it was done.';
COMMENT ON COLUMN reconciler.events.commit IS 'Commit it was done from.';
COMMENT ON COLUMN reconciler.events.operation IS 'Operation, in the control database, that did it.';
COMMENT ON COLUMN reconciler.events.sqlstate IS 'SQLSTATE of a failure that PostgreSQL reported.';
COMMENT ON COLUMN reconciler.events.message IS 'Why it failed, in the words of the server where it has any.';
COMMENT ON COLUMN reconciler.events.file IS 'Script that failed, as a path in the source.';
COMMENT ON COLUMN reconciler.events.line IS 'Line of the script that failed, counted from 1.';

CREATE INDEX events_of_project ON reconciler.events (project, event_id);
COMMENT ON INDEX reconciler.events_of_project IS 'Reads the newest events of one project.';

CREATE FUNCTION reconciler.refuse_rewriting() RETURNS pg_catalog.trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION 'table "%"."%" is append-only', tg_table_schema, tg_table_name
        USING ERRCODE = 'RC009', HINT = 'leave history as it is; add an event instead';
END
$$;
COMMENT ON FUNCTION reconciler.refuse_rewriting() IS 'Keeps history: refuses UPDATE, DELETE and TRUNCATE.';

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciler.events
FOR EACH STATEMENT EXECUTE FUNCTION reconciler.refuse_rewriting();
COMMENT ON TRIGGER events_append_only ON reconciler.events IS 'History is never rewritten.';


CREATE TABLE reconciler.base_line (
    one pg_catalog.bool PRIMARY KEY DEFAULT TRUE CHECK (one),
    moving pg_catalog.bool NOT NULL,
    system_identifier pg_catalog.text NOT NULL,
    database_oid pg_catalog.oid NOT NULL,
    server_major pg_catalog.int4 NOT NULL CHECK (server_major > 0),
    algorithm pg_catalog.int4 CHECK (algorithm > 0),
    probe pg_catalog.text,
    taken_at pg_catalog.timestamptz,
    operation pg_catalog.text NOT NULL,
    moving_since pg_catalog.timestamptz,
    CONSTRAINT base_line_settled_is_complete CHECK (
        moving OR (algorithm IS NOT NULL AND probe IS NOT NULL AND taken_at IS NOT NULL)
    ),
    CONSTRAINT base_line_moving_since CHECK (moving = (moving_since IS NOT NULL))
);
COMMENT ON TABLE reconciler.base_line IS 'At most one row: what the objects were compared with after our last write.';
COMMENT ON COLUMN reconciler.base_line.one IS 'Always true: there is one base line.';
COMMENT ON COLUMN reconciler.base_line.moving IS
'An operation is writing, or was when it died; then the stored objects say nothing.';
COMMENT ON COLUMN reconciler.base_line.system_identifier IS
'Identity of the cluster when it was taken; another one is a copy.';
COMMENT ON COLUMN reconciler.base_line.database_oid IS
'Oid of the database when it was taken; another one is a copy.';
COMMENT ON COLUMN reconciler.base_line.server_major IS 'Major version of the server when it was taken.';
COMMENT ON COLUMN reconciler.base_line.algorithm IS
'Version of the algorithm of the fingerprints; empty until first settled.';
COMMENT ON COLUMN reconciler.base_line.probe IS
'Hash of the catalog as the server computes it; empty until first settled.';
COMMENT ON COLUMN reconciler.base_line.taken_at IS 'When it was last settled.';
COMMENT ON COLUMN reconciler.base_line.operation IS 'Operation, in the control database, that last moved or settled it.';
COMMENT ON COLUMN reconciler.base_line.moving_since IS 'When the operation that writes began to.';

CREATE TABLE reconciler.base_line_objects (
    identity_hash pg_catalog.bytea PRIMARY KEY CHECK (pg_catalog.octet_length(identity_hash) = 16),
    kind pg_catalog.text NOT NULL,
    name pg_catalog.text NOT NULL,
    fingerprint pg_catalog.text NOT NULL,
    definition pg_catalog.text NOT NULL
);
COMMENT ON TABLE reconciler.base_line_objects IS 'The managed objects as our last write left them.';
COMMENT ON COLUMN reconciler.base_line_objects.identity_hash IS
'First 16 bytes of the SHA-256 of "kind name": names may be longer than an index takes.';
COMMENT ON COLUMN reconciler.base_line_objects.kind IS 'Kind of the object.';
COMMENT ON COLUMN reconciler.base_line_objects.name IS 'Qualified, quoted name of the object.';
COMMENT ON COLUMN reconciler.base_line_objects.fingerprint IS 'Hash of the definition.';
COMMENT ON COLUMN reconciler.base_line_objects.definition IS 'Canonical definition, to say what differs.';


CREATE TABLE reconciler.fence (
    one pg_catalog.bool PRIMARY KEY DEFAULT TRUE CHECK (one),
    epoch pg_catalog.int8 NOT NULL CHECK (epoch >= 0),
    held pg_catalog.bool NOT NULL,
    control_id pg_catalog.text NOT NULL,
    environment pg_catalog.text NOT NULL,
    deployment pg_catalog.text NOT NULL,
    operation pg_catalog.text NOT NULL,
    taken_at pg_catalog.timestamptz NOT NULL,
    released_at pg_catalog.timestamptz,
    CONSTRAINT fence_held_or_released CHECK (held = (released_at IS NULL))
);
COMMENT ON TABLE reconciler.fence IS 'One row: who may write to this database now.';
COMMENT ON COLUMN reconciler.fence.one IS 'Always true: there is one fence.';
COMMENT ON COLUMN reconciler.fence.epoch IS
'Raised by every owner; each writing transaction checks that it is still its own.';
COMMENT ON COLUMN reconciler.fence.held IS 'False once the owner has released it.';
COMMENT ON COLUMN reconciler.fence.control_id IS 'Control database of the owner.';
COMMENT ON COLUMN reconciler.fence.environment IS 'Environment of the owner.';
COMMENT ON COLUMN reconciler.fence.deployment IS 'Deployment of the owner.';
COMMENT ON COLUMN reconciler.fence.operation IS 'Operation of the owner.';
COMMENT ON COLUMN reconciler.fence.taken_at IS 'When the owner took it.';
COMMENT ON COLUMN reconciler.fence.released_at IS 'When the owner released it.';

CREATE TABLE reconciler.fence_backends (
    pid pg_catalog.int4 NOT NULL,
    backend_start pg_catalog.timestamptz NOT NULL,
    epoch pg_catalog.int8 NOT NULL,
    holder pg_catalog.bool NOT NULL,
    enrolled_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (pid, backend_start)
);
COMMENT ON TABLE reconciler.fence_backends IS
'The server processes through which the owner of the fence writes; who takes over ends them first.';
COMMENT ON COLUMN reconciler.fence_backends.pid IS 'Process id of the backend.';
COMMENT ON COLUMN reconciler.fence_backends.backend_start IS 'When the backend started; tells reused process ids apart.';
COMMENT ON COLUMN reconciler.fence_backends.epoch IS 'Epoch of the owner that enrolled it.';
COMMENT ON COLUMN reconciler.fence_backends.holder IS 'Whether this backend holds the session lock of the fence.';
COMMENT ON COLUMN reconciler.fence_backends.enrolled_at IS 'When it was enrolled.';

INSERT INTO reconciler.fence (
    epoch, held, control_id, environment, deployment, operation, taken_at, released_at
)
VALUES (0, FALSE, '', '', '', '', pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp());


CREATE FUNCTION reconciler.check_fence(p_epoch pg_catalog.int8) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_owner reconciler.fence;
BEGIN
    PERFORM 1 FROM reconciler.fence AS f WHERE f.epoch = p_epoch AND f.held FOR SHARE;
    IF NOT FOUND THEN
        SELECT * INTO v_owner FROM reconciler.fence;
        RAISE EXCEPTION 'epoch % of the fence is over: it is at epoch %, % by environment "%", deployment "%"',
            p_epoch, v_owner.epoch, CASE WHEN v_owner.held THEN 'held' ELSE 'released' END,
            v_owner.environment, v_owner.deployment
            USING ERRCODE = 'RC001';
    END IF;
    PERFORM 1 FROM reconciler.fence_backends AS b
    WHERE b.pid = pg_catalog.pg_backend_pid() AND b.epoch = p_epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'backend % writes without having been enrolled in the fence', pg_catalog.pg_backend_pid()
            USING ERRCODE = 'RC002';
    END IF;
    RETURN TRUE;
END
$$;
COMMENT ON FUNCTION reconciler.check_fence(pg_catalog.int8) IS
'Fails with RC001 unless the epoch is the current one, and keeps it so until the transaction ends.';


CREATE FUNCTION reconciler.recorded_backends() RETURNS TABLE (
    pid pg_catalog.int4,
    backend_start pg_catalog.timestamptz,
    epoch pg_catalog.int8,
    holder pg_catalog.bool,
    start_known pg_catalog.bool
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT b.pid, b.backend_start, b.epoch, b.holder, a.backend_start IS NOT NULL
    FROM reconciler.fence_backends AS b
    INNER JOIN pg_catalog.pg_stat_activity AS a ON b.pid = a.pid
    INNER JOIN pg_catalog.pg_database AS d ON a.datid = d.oid
    WHERE
        d.datname = pg_catalog.current_database()
        AND b.pid <> pg_catalog.pg_backend_pid()
        AND COALESCE(a.backend_start = b.backend_start, TRUE)
$$;
COMMENT ON FUNCTION reconciler.recorded_backends() IS
'The enrolled backends that are still there; a start this role may not see counts as the recorded one.';


CREATE FUNCTION reconciler.record_backend(
    p_epoch pg_catalog.int8, p_holder pg_catalog.bool
) RETURNS pg_catalog.void
LANGUAGE sql SET search_path = ''
AS $$
    INSERT INTO reconciler.fence_backends (pid, backend_start, epoch, holder)
    SELECT a.pid, a.backend_start, p_epoch, p_holder
    FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a
    ON CONFLICT (pid, backend_start) DO UPDATE SET epoch = excluded.epoch, holder = excluded.holder
$$;
COMMENT ON FUNCTION reconciler.record_backend(pg_catalog.int8, pg_catalog.bool) IS
'Records this backend as one through which the owner of the epoch writes.';


CREATE FUNCTION reconciler.take_fence(
    p_control_id pg_catalog.text,
    p_environment pg_catalog.text,
    p_deployment pg_catalog.text,
    p_operation pg_catalog.text,
    OUT taken pg_catalog.int8,
    OUT lock_free pg_catalog.bool,
    OUT owner_epoch pg_catalog.int8,
    OUT control_id pg_catalog.text,
    OUT environment pg_catalog.text,
    OUT deployment pg_catalog.text,
    OUT operation pg_catalog.text,
    OUT since pg_catalog.text,
    OUT backends pg_catalog.int4 [],
    OUT hidden pg_catalog.int4 []
)
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_owner reconciler.fence;
    v_quiet pg_catalog.bool := FALSE;
BEGIN
    -- An epoch that a crash forgot could be given out twice.
    PERFORM pg_catalog.set_config('synchronous_commit', 'on', TRUE);
    lock_free := pg_catalog.pg_try_advisory_lock(1380206158, 1);
    BEGIN
        IF lock_free THEN
            PERFORM 1 FROM reconciler.fence FOR UPDATE NOWAIT;
            v_quiet := TRUE;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        v_quiet := FALSE; -- a writer stands between its check and its commit
    END;
    SELECT * INTO STRICT v_owner FROM reconciler.fence;
    owner_epoch := v_owner.epoch;
    control_id := v_owner.control_id;
    environment := v_owner.environment;
    deployment := v_owner.deployment;
    operation := v_owner.operation;
    since := pg_catalog.to_char(v_owner.taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"');
    SELECT
        COALESCE(pg_catalog.array_agg(r.pid ORDER BY r.pid), '{}'),
        COALESCE(pg_catalog.array_agg(r.pid ORDER BY r.pid) FILTER (WHERE NOT r.start_known), '{}')
    INTO backends, hidden
    FROM reconciler.recorded_backends() AS r;
    IF v_quiet AND backends = '{}' THEN
        UPDATE reconciler.fence AS f
        SET
            epoch = f.epoch + 1, held = TRUE, control_id = p_control_id, environment = p_environment,
            deployment = p_deployment, operation = p_operation,
            taken_at = pg_catalog.clock_timestamp(), released_at = NULL
        RETURNING f.epoch INTO taken;
        DELETE FROM reconciler.fence_backends;
        PERFORM reconciler.record_backend(taken, TRUE);
    ELSIF lock_free THEN
        -- The lock is kept only together with the epoch: whoever holds it is on record.
        PERFORM pg_catalog.pg_advisory_unlock(1380206158, 1);
    END IF;
END
$$;
COMMENT ON FUNCTION reconciler.take_fence(
    pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text
) IS
'Tries once to take the fence; without success keeps no lock and says who is in the way.';


CREATE FUNCTION reconciler.enroll_backend(p_epoch pg_catalog.int8) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM 1 FROM reconciler.fence AS f WHERE f.epoch = p_epoch AND f.held FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'epoch % of the fence is over', p_epoch USING ERRCODE = 'RC001';
    END IF;
    PERFORM reconciler.record_backend(p_epoch, FALSE);
END
$$;
COMMENT ON FUNCTION reconciler.enroll_backend(pg_catalog.int8) IS
'Enrolls this backend as one more through which the owner of the epoch writes.';


CREATE FUNCTION reconciler.release_fence(p_epoch pg_catalog.int8) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '2s'
AS $$
DECLARE
    v_released pg_catalog.bool;
BEGIN
    UPDATE reconciler.fence AS f
    SET held = FALSE, released_at = pg_catalog.clock_timestamp()
    WHERE f.epoch = p_epoch AND f.held;
    v_released := FOUND;
    DELETE FROM reconciler.fence_backends AS b WHERE b.epoch = p_epoch;
    RETURN v_released;
END
$$;
COMMENT ON FUNCTION reconciler.release_fence(pg_catalog.int8) IS
'Ends the epoch, after which nothing can be written with it; false where it was over already.';


CREATE FUNCTION reconciler.begin_writes(
    p_epoch pg_catalog.int8, p_operation pg_catalog.text
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    INSERT INTO reconciler.base_line AS b (
        moving, moving_since, operation, system_identifier, database_oid, server_major
    )
    SELECT
        TRUE, pg_catalog.clock_timestamp(), p_operation, c.system_identifier::pg_catalog.text, d.oid,
        pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000
    FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
    WHERE d.datname = pg_catalog.current_database()
    ON CONFLICT (one) DO UPDATE
    SET moving = TRUE, moving_since = excluded.moving_since, operation = excluded.operation
    WHERE NOT b.moving;
END
$$;
COMMENT ON FUNCTION reconciler.begin_writes(pg_catalog.int8, pg_catalog.text) IS
'Marks the base line as moving; where it is already, writes nothing.';


CREATE FUNCTION reconciler.record_event(
    p_kind reconciler.event_kind, p_change pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    INSERT INTO reconciler.events (
        kind, project, change_id, name, note, requires, conflicts, tags, planned_at, planner,
        actor, commit, operation, sqlstate, message, file, line
    ) VALUES (
        p_kind, p_change ->> 'project', p_change ->> 'change_id', p_change ->> 'name', p_change ->> 'note',
        ARRAY(
            SELECT d ->> 1 FROM pg_catalog.jsonb_array_elements(p_change -> 'requires') AS d
            WHERE d ->> 0 = 'require'
        ),
        ARRAY(
            SELECT d ->> 1 FROM pg_catalog.jsonb_array_elements(p_change -> 'requires') AS d
            WHERE d ->> 0 = 'conflict'
        ),
        ARRAY(SELECT t ->> 1 FROM pg_catalog.jsonb_array_elements(p_change -> 'tags') AS t),
        (p_change ->> 'planned_at')::pg_catalog.timestamptz, p_change ->> 'planner',
        p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation',
        p_change ->> 'sqlstate', p_change ->> 'message', p_change ->> 'file',
        (p_change ->> 'line')::pg_catalog.int4
    );
END
$$;
COMMENT ON FUNCTION reconciler.record_event(reconciler.event_kind, pg_catalog.jsonb) IS
'Appends one event of a change.';


CREATE FUNCTION reconciler.record_failure(
    p_epoch pg_catalog.int8, p_change pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    PERFORM reconciler.record_event('fail', p_change);
END
$$;
COMMENT ON FUNCTION reconciler.record_failure(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and appends the failure of a change.';


CREATE FUNCTION reconciler.record_tags(p_change pg_catalog.jsonb) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    INSERT INTO reconciler.tags (
        tag_id, project, name, change_id, note, planned_at, planner, recorded_by, commit, operation
    )
    SELECT
        t ->> 0, p_change ->> 'project', t ->> 1, p_change ->> 'change_id', t ->> 2,
        (t ->> 3)::pg_catalog.timestamptz, t ->> 4,
        p_change ->> 'actor', p_change ->> 'commit', p_change ->> 'operation'
    FROM pg_catalog.jsonb_array_elements(p_change -> 'tags') AS t
    ON CONFLICT (tag_id) DO NOTHING;
END
$$;
COMMENT ON FUNCTION reconciler.record_tags(pg_catalog.jsonb) IS 'Records the tags of a change that are not recorded yet.';


CREATE FUNCTION reconciler.tag_change(
    p_epoch pg_catalog.int8, p_change pg_catalog.jsonb
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    PERFORM reconciler.record_tags(p_change);
END
$$;
COMMENT ON FUNCTION reconciler.tag_change(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and records tags that a deployed change gained.';


CREATE FUNCTION reconciler.record_change(
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
    PERFORM 1 FROM reconciler.modules AS m
    WHERE
        m.project = v_project AND m.component = p_change ->> 'component'
        AND m.uri IS NOT DISTINCT FROM p_change ->> 'uri';
    IF NOT FOUND THEN
        INSERT INTO reconciler.modules (project, component, uri)
        VALUES (v_project, p_change ->> 'component', p_change ->> 'uri')
        ON CONFLICT (project) DO UPDATE SET component = excluded.component, uri = excluded.uri;
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
        planned_at, planner, deployed_by, commit, operation
    ) VALUES (
        v_change_id, v_project, v_name, p_change ->> 'script_hash', p_change ->> 'parse_hash',
        p_change ->> 'revert_script', p_change ->> 'verify_script', p_change ->> 'note',
        (p_change ->> 'planned_at')::pg_catalog.timestamptz, p_change ->> 'planner',
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
    PERFORM reconciler.record_event('deploy', p_change);
    RETURN v_position;
END
$$;
COMMENT ON FUNCTION reconciler.record_change(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and records a deployed change with its dependencies, tags and event.';


REVOKE ALL ON SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON TYPE reconciler.event_kind, reconciler.dependency_kind FROM PUBLIC;
