-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: read_programs :many
-- Services, jobs and routes of deployments of an environment as they were applied, with outputs and job runs.
SELECT
    d.name AS deployment,
    e.stopped_at IS NOT NULL AS stopped,
    d.applied_commit IS NOT NULL AND (
        e.started_at IS NULL OR EXISTS (
            SELECT FROM reconciler_control.operations AS o
            WHERE
                o.environment = %(environment)s AND o.deployment = d.name AND o.state = 'completed'
                AND o.finished_at > e.started_at
        )
    ) AS started,
    ARRAY(
        SELECT DISTINCT r.component
        FROM reconciler_control.job_runs AS r
        WHERE
            r.environment = %(environment)s AND r.deployment = d.name
            AND r.trigger = CASE WHEN e.stopped_at IS NULL THEN 'start' ELSE 'stop' END
            AND r.began_at >= coalesce(e.stopped_at, e.started_at, '-infinity')
            AND r.ended_at IS NOT NULL AND r.error IS NULL
        ORDER BY 1
    ) AS ran,
    extract(EPOCH FROM clock_timestamp())::double precision AS read_at,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'component', p.component, 'kind', p.kind, 'stage', p.stage,
                'definition_hash', coalesce(p.definition_hash, ''),
                'definition', coalesce(p.definition, p.applying_definition),
                'instance', p.instance, 'applying', p.applying, 'place', p.place, 'commit', p.commit,
                'heals', p.heals, 'healed_at', extract(EPOCH FROM p.healed_at)
            ) ORDER BY p.component
        )
        FROM reconciler_control.programs AS p
        WHERE p.environment = %(environment)s AND p.deployment = d.name
    ) AS components,
    (
        SELECT jsonb_agg(
            jsonb_build_object(
                'component', o.component, 'name', o.name, 'inputs_hash', o.inputs_hash,
                'sensitive', o.sealed IS NOT NULL
            ) ORDER BY o.component, o.name
        )
        FROM reconciler_control.outputs AS o
        WHERE o.environment = %(environment)s AND o.deployment = d.name
    ) AS outputs,
    (
        SELECT jsonb_object_agg(j.component, j.inputs_hash)
        FROM (
            SELECT DISTINCT ON (r.component) r.component, r.inputs_hash
            FROM reconciler_control.job_runs AS r
            WHERE
                r.environment = %(environment)s AND r.deployment = d.name
                AND r.ended_at IS NOT NULL AND r.error IS NULL
            ORDER BY r.component, r.id DESC
        ) AS j
    ) AS jobs
FROM (
    SELECT n.name, n.applied_commit
    FROM reconciler_control.environment_deployments AS n
    WHERE n.environment = %(environment)s
    UNION ALL
    SELECT DISTINCT k.deployment, NULL
    FROM (
        SELECT %(deployment)s::text AS deployment WHERE %(deployment)s::text IS NOT NULL
        UNION ALL
        SELECT p.deployment FROM reconciler_control.programs AS p WHERE p.environment = %(environment)s
        UNION ALL
        SELECT o.deployment FROM reconciler_control.outputs AS o WHERE o.environment = %(environment)s
        UNION ALL
        SELECT r.deployment FROM reconciler_control.job_runs AS r WHERE r.environment = %(environment)s
    ) AS k
    WHERE NOT EXISTS (
        SELECT FROM reconciler_control.environment_deployments AS n
        WHERE n.environment = %(environment)s AND n.name = k.deployment
    )
) AS d (name, applied_commit)
INNER JOIN reconciler_control.environments AS e ON e.name = %(environment)s
WHERE %(deployment)s::text IS NULL OR d.name = %(deployment)s
ORDER BY d.name;

-- name: environments_with_programs :many
-- Environments that services, jobs or routes are recorded of.
SELECT DISTINCT p.environment FROM reconciler_control.programs AS p;

-- name: note_applying :one
-- Notes under the lease what is about to be there of a component; what is live stays noted beside it.
INSERT INTO reconciler_control.programs AS p (
    environment, deployment, component, kind, stage, applying_hash, applying_definition, applying, place,
    commit, operation
)
SELECT
    o.environment, o.deployment, %(component)s, %(kind)s, %(stage)s, %(definition_hash)s, %(definition)s,
    %(instance)s, %(place)s, r.commit, o.id
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
FOR SHARE OF o
ON CONFLICT (environment, deployment, component) DO UPDATE
SET
    applying_hash = excluded.applying_hash, applying_definition = excluded.applying_definition,
    applying = excluded.applying, place = coalesce(excluded.place, p.place), commit = excluded.commit,
    operation = excluded.operation
RETURNING p.component;

-- name: note_applied_program :one
-- Notes under the lease that a component is live; said again it changes nothing. One operation puts it back once.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment, r.commit
    FROM reconciler_control.operations AS o
    INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE OF o
),
newest AS MATERIALIZED (
    SELECT c.proxy, c.host, c.path, c.environment, c.deployment
    FROM reconciler_control.routes AS c
    INNER JOIN held AS h ON c.environment = h.environment AND c.deployment = h.deployment
    WHERE c.component = %(component)s
    ORDER BY c.claimed_at DESC
    LIMIT 1
),
freed AS (
    DELETE FROM reconciler_control.routes AS c
    USING newest AS n
    WHERE
        c.environment = n.environment AND c.deployment = n.deployment AND c.component = %(component)s
        AND (c.proxy, c.host, c.path) <> (n.proxy, n.host, n.path)
),
led AS (
    UPDATE reconciler_control.routes AS c
    SET is_live = TRUE
    FROM newest AS n
    WHERE (c.proxy, c.host, c.path) = (n.proxy, n.host, n.path) AND NOT c.is_live
)
INSERT INTO reconciler_control.programs AS p (
    environment, deployment, component, kind, stage, definition_hash, definition, instance, place, commit,
    operation, applied_at, heals, healed_at, healed_by, state, state_since
)
SELECT
    h.environment, h.deployment, %(component)s, %(kind)s, %(stage)s, %(definition_hash)s, %(definition)s,
    %(instance)s, %(place)s, h.commit, h.id, clock_timestamp(),
    CASE WHEN %(healed)s THEN 1 ELSE 0 END,
    CASE WHEN %(healed)s THEN clock_timestamp() END,
    CASE WHEN %(healed)s THEN h.id END,
    %(state)s::text,
    CASE WHEN %(state)s::text IS NOT NULL THEN clock_timestamp() END
FROM held AS h
ON CONFLICT (environment, deployment, component) DO UPDATE
SET
    kind = excluded.kind, stage = excluded.stage, definition_hash = excluded.definition_hash,
    definition = excluded.definition, instance = excluded.instance, applying_hash = NULL,
    applying_definition = NULL, applying = NULL, place = coalesce(excluded.place, p.place),
    commit = excluded.commit, operation = excluded.operation, applied_at = excluded.applied_at,
    heals = CASE
        WHEN NOT %(healed)s THEN 0
        WHEN p.healed_by = excluded.operation THEN p.heals
        ELSE p.heals + 1
    END,
    healed_at = CASE
        WHEN %(healed)s AND p.healed_by = excluded.operation THEN p.healed_at
        ELSE excluded.healed_at
    END,
    healed_by = excluded.healed_by, state = excluded.state, state_reason = NULL,
    state_since = excluded.state_since
RETURNING p.component;

-- name: note_rolled_back :one
-- Notes under the lease that nothing is there any more of what was being applied; what never was, is forgotten.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
forgotten AS (
    DELETE FROM reconciler_control.programs AS p
    USING held AS h
    WHERE
        p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
        AND p.definition_hash IS NULL
),
back AS (
    UPDATE reconciler_control.programs AS p
    SET applying_hash = NULL, applying_definition = NULL, applying = NULL, operation = h.id
    FROM held AS h
    WHERE
        p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
        AND p.definition_hash IS NOT NULL
),
freed AS (
    DELETE FROM reconciler_control.routes AS c
    USING held AS h
    WHERE
        c.environment = h.environment AND c.deployment = h.deployment AND c.component = %(component)s
        AND NOT c.is_live
)
SELECT h.id FROM held AS h;

-- name: note_stopped_program :one
-- Notes under the lease that no instance of a service runs; what it was is kept.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
forgotten AS (
    DELETE FROM reconciler_control.programs AS p
    USING held AS h
    WHERE
        p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
        AND p.definition_hash IS NULL
),
stopped AS (
    UPDATE reconciler_control.programs AS p
    SET
        instance = NULL, applying_hash = NULL, applying_definition = NULL, applying = NULL, operation = h.id,
        heals = 0, healed_at = NULL, healed_by = NULL, state = 'stopped', state_reason = NULL,
        state_since = clock_timestamp()
    FROM held AS h
    WHERE
        p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
        AND p.definition_hash IS NOT NULL
)
SELECT h.id FROM held AS h;

-- name: remove_program :one
-- Forgets under the lease all there is of a component.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
programs AS (
    DELETE FROM reconciler_control.programs AS p
    USING held AS h
    WHERE p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
),
outputs AS (
    DELETE FROM reconciler_control.outputs AS p
    USING held AS h
    WHERE p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
),
passwords AS (
    DELETE FROM reconciler_control.passwords AS p
    USING held AS h
    WHERE p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
),
runs AS (
    DELETE FROM reconciler_control.job_runs AS p
    USING held AS h
    WHERE p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
),
claims AS (
    DELETE FROM reconciler_control.routes AS p
    USING held AS h
    WHERE p.environment = h.environment AND p.deployment = h.deployment AND p.component = %(component)s
)
SELECT h.id FROM held AS h;

-- name: note_states :exec
-- How services and routes were found, where that is not what is known; while something is put in its place, that
-- is told elsewhere.
UPDATE reconciler_control.programs AS p
SET
    state = n.state, state_reason = n.reason, ordinal = n.ordinal,
    state_since = CASE
        WHEN n.state IS NULL THEN NULL
        WHEN p.state = n.state THEN p.state_since
        ELSE clock_timestamp()
    END
FROM jsonb_to_recordset(%(states)s) AS n (component text, state text, reason text, ordinal integer)
WHERE
    p.environment = %(environment)s AND p.deployment = %(deployment)s AND p.component = n.component
    AND p.applying_hash IS NULL
    AND (p.state, p.state_reason, p.ordinal) IS DISTINCT FROM (n.state, n.reason, n.ordinal);

-- name: forget_heals :many
-- Services that were found as they should be, so long after they were put back last, that this counts no more.
UPDATE reconciler_control.programs AS p
SET heals = 0, healed_at = NULL, healed_by = NULL
WHERE
    p.environment = %(environment)s AND p.deployment = %(deployment)s
    AND p.component = ANY(%(components)s) AND p.heals > 0
    AND p.healed_at <= clock_timestamp() - make_interval(secs => %(quiet_s)s)
RETURNING p.component;

-- name: read_output :one
-- An output with its value, sealed or not, for an operation that is held; without one, no name either.
SELECT u.name, u.value, u.sealed, u.inputs_hash
FROM reconciler_control.operations AS o
LEFT JOIN reconciler_control.outputs AS u
    ON
        o.environment = u.environment AND o.deployment = u.deployment
        AND u.component = %(component)s AND u.name = %(name)s
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s;

-- name: read_kept_output :one
-- An output of a deployment with its value, sealed or not.
SELECT u.value, u.sealed, u.inputs_hash
FROM reconciler_control.outputs AS u
WHERE
    u.environment = %(environment)s AND u.deployment = %(deployment)s AND u.component = %(component)s
    AND u.name = %(name)s;

-- name: keep_outputs :one
-- Keeps all outputs of a component under the lease, in place of those it had.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
made AS MATERIALIZED (
    SELECT n.name, n.type, n.value, n.sealed
    FROM jsonb_to_recordset(%(outputs)s) AS n (name text, type text, value jsonb, sealed text)
),
gone AS (
    DELETE FROM reconciler_control.outputs AS u
    USING held AS h
    WHERE
        u.environment = h.environment AND u.deployment = h.deployment AND u.component = %(component)s
        AND NOT u.name IN (SELECT m.name FROM made AS m)
),
kept AS (
    INSERT INTO reconciler_control.outputs AS u (
        environment, deployment, component, name, type, inputs_hash, value, sealed, operation
    )
    SELECT
        h.environment, h.deployment, %(component)s, m.name, m.type, %(inputs_hash)s,
        CASE WHEN m.sealed IS NULL THEN coalesce(m.value, 'null') END, m.sealed, h.id
    FROM held AS h
    CROSS JOIN made AS m
    ON CONFLICT (environment, deployment, component, name) DO UPDATE
    SET
        type = excluded.type, inputs_hash = excluded.inputs_hash, value = excluded.value,
        sealed = excluded.sealed, operation = excluded.operation, made_at = clock_timestamp()
)
SELECT h.id FROM held AS h;

-- name: keep_password :one
-- The sealed password of a role: the one that is kept, else this one, kept under the lease from now on.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
)
INSERT INTO reconciler_control.passwords AS p (environment, deployment, component, role, sealed, operation)
SELECT h.environment, h.deployment, %(component)s, %(role)s, %(sealed)s, h.id
FROM held AS h
ON CONFLICT (environment, deployment, component, role) DO UPDATE SET operation = excluded.operation
RETURNING p.sealed;

-- name: read_password :one
-- The sealed password of a role, for an operation that is held; null where none is kept.
SELECT p.sealed
FROM reconciler_control.operations AS o
LEFT JOIN reconciler_control.passwords AS p
    ON
        o.environment = p.environment AND o.deployment = p.deployment
        AND p.component = %(component)s AND p.role = %(role)s
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s;

-- name: end_lost_runs :one
-- Before another run of a job begins: ends under the lease those that nobody told the end of.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
lost AS (
    UPDATE reconciler_control.job_runs AS r
    SET ended_at = clock_timestamp(), error = 'how it ended is not known: who ran it was gone'
    FROM held AS h
    WHERE
        r.environment = h.environment AND r.deployment = h.deployment AND r.component = %(component)s
        AND r.ended_at IS NULL
)
SELECT h.id FROM held AS h;

-- name: begin_job :one
-- Notes under the lease that a run of a job begins, counted within its operation from the last that was done.
INSERT INTO reconciler_control.job_runs AS j (
    environment, deployment, component, trigger, inputs_hash, instance, attempt, operation
)
SELECT
    o.environment, o.deployment, %(component)s, %(trigger)s, %(inputs_hash)s, %(instance)s,
    1 + (
        SELECT count(*) FROM reconciler_control.job_runs AS r
        WHERE
            r.operation = o.id AND r.component = %(component)s AND r.inputs_hash = %(inputs_hash)s
            AND r.trigger = %(trigger)s
            AND NOT EXISTS (
                SELECT FROM reconciler_control.job_runs AS s
                WHERE
                    s.operation = o.id AND s.component = %(component)s AND s.id >= r.id
                    AND s.ended_at IS NOT NULL AND s.error IS NULL
            )
    ),
    o.id
FROM reconciler_control.operations AS o
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
RETURNING j.attempt;

-- name: forget_old_runs :exec
-- Of each job the newest runs are kept, and the last that was done.
DELETE FROM reconciler_control.job_runs AS r
USING reconciler_control.operations AS o
WHERE
    o.id = %(operation)s AND r.environment = o.environment AND r.deployment = o.deployment
    AND r.component = %(component)s AND r.operation IS DISTINCT FROM o.id
    AND r.id <= (
        SELECT k.id FROM reconciler_control.job_runs AS k
        WHERE k.environment = o.environment AND k.deployment = o.deployment AND k.component = %(component)s
        ORDER BY k.id DESC
        LIMIT 1 OFFSET %(kept)s
    )
    AND r.id <> coalesce(
        (
            SELECT max(k.id) FROM reconciler_control.job_runs AS k
            WHERE
                k.environment = o.environment AND k.deployment = o.deployment
                AND k.component = %(component)s AND k.ended_at IS NOT NULL AND k.error IS NULL
        ), 0
    );

-- name: end_job :one
-- Notes under the lease how a run of a job ended, where that is not noted yet.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
ended AS (
    UPDATE reconciler_control.job_runs AS r
    SET ended_at = clock_timestamp(), exit_status = %(exit_status)s, error = %(error)s
    FROM held AS h
    WHERE
        r.environment = h.environment AND r.deployment = h.deployment AND r.component = %(component)s
        AND r.instance = %(instance)s AND r.ended_at IS NULL
)
SELECT h.id FROM held AS h;

-- name: claim_route :one
-- Takes a host and path under the lease, unless it is another deployment's; gives whose it is then.
INSERT INTO reconciler_control.routes AS c (proxy, host, path, environment, deployment, component)
SELECT %(proxy)s, %(host)s, %(path)s, o.environment, o.deployment, %(component)s
FROM reconciler_control.operations AS o
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
FOR SHARE
ON CONFLICT (proxy, host, path) DO UPDATE
SET
    component = CASE
        WHEN (c.environment, c.deployment) = (excluded.environment, excluded.deployment)
            THEN excluded.component
        ELSE c.component
    END,
    claimed_at = CASE
        WHEN (c.environment, c.deployment) = (excluded.environment, excluded.deployment)
            THEN clock_timestamp()
        ELSE c.claimed_at
    END
RETURNING
    c.environment, c.deployment, c.component,
    EXISTS (
        SELECT FROM reconciler_control.operations AS o
        WHERE o.id = %(operation)s AND o.environment = c.environment AND o.deployment = c.deployment
    ) AS is_ours;

-- name: routes_of_others :many
-- Which of some hosts and paths are other deployments', and whose.
SELECT w.component, c.proxy, c.host, c.path, c.environment, c.deployment, c.component AS taken_by
FROM unnest(%(components)s::text [], %(proxies)s::text [], %(hosts)s::text [], %(paths)s::text [])
    AS w (component, proxy, host, path)
INNER JOIN reconciler_control.routes AS c ON w.proxy = c.proxy AND w.host = c.host AND w.path = c.path
WHERE (c.environment, c.deployment) <> (%(environment)s, %(deployment)s)
ORDER BY w.component;

-- name: read_program_statuses :many
-- Services, jobs and routes of environments as people are shown them; jobs with what came of their last run. One
-- that failed and is recorded nowhere else counts until all of a later operation was done without it.
SELECT
    k.environment, k.deployment, k.component, coalesce(p.kind, 'Job') AS kind, p.stage,
    CASE
        WHEN r.id IS NULL THEN p.state
        WHEN r.ended_at IS NULL THEN 'running'
        WHEN r.error IS NULL THEN 'done'
        ELSE 'failed'
    END AS state,
    CASE WHEN r.id IS NULL THEN p.state_reason ELSE r.error END AS reason,
    CASE WHEN r.id IS NULL THEN p.state_since ELSE coalesce(r.ended_at, r.began_at) END AS since,
    p.instance, p.place, p.commit, p.applied_at, p.applying_hash IS NOT NULL AS applying,
    coalesce(p.heals, 0) AS heals
FROM (
    SELECT a.environment, a.deployment, a.component FROM reconciler_control.programs AS a
    WHERE %(names)s::text [] IS NULL OR a.environment = ANY(%(names)s)
    UNION
    SELECT j.environment, j.deployment, j.component FROM reconciler_control.job_runs AS j
    WHERE %(names)s::text [] IS NULL OR j.environment = ANY(%(names)s)
) AS k
LEFT JOIN reconciler_control.programs AS p
    ON k.environment = p.environment AND k.deployment = p.deployment AND k.component = p.component
LEFT JOIN LATERAL (
    SELECT n.id, n.began_at, n.ended_at, n.error, n.trigger
    FROM reconciler_control.job_runs AS n
    WHERE
        n.environment = k.environment AND n.deployment = k.deployment AND n.component = k.component
        AND coalesce(p.kind, 'Job') = 'Job'
    ORDER BY n.id DESC
    LIMIT 1
) AS r ON TRUE
WHERE
    p.component IS NOT NULL OR r.error IS NULL OR r.trigger = 'schedule'
    OR NOT EXISTS (
        SELECT FROM reconciler_control.operations AS o
        WHERE
            o.environment = k.environment AND o.deployment = k.deployment
            AND o.state = 'completed' AND o.finished_at > r.ended_at
    )
ORDER BY
    k.environment, k.deployment, p.ordinal,
    array_position(ARRAY['Job', 'Service', 'Route'], coalesce(p.kind, 'Job')),
    p.stage, k.component
LIMIT %(limit)s;

-- name: read_outputs :many
-- What the components of an environment put out; sensitive values stay out of this.
SELECT
    u.deployment, u.component, u.name, u.type, u.sealed IS NOT NULL AS sensitive, u.value, u.made_at
FROM reconciler_control.outputs AS u
WHERE
    u.environment = %(environment)s
    AND (%(deployment)s::text IS NULL OR u.deployment = %(deployment)s)
ORDER BY u.deployment, u.component, u.name
LIMIT %(limit)s;

-- name: program_gauges :many
-- How many services and routes of an environment were found in which state, and how many jobs ended how.
SELECT s.environment, s.kind, s.state, count(*) AS count
FROM (
    SELECT p.environment, p.kind, coalesce(p.state, 'unknown') AS state
    FROM reconciler_control.programs AS p
    WHERE p.kind <> 'Job'
    UNION ALL
    SELECT
        r.environment, 'Job' AS kind,
        CASE
            WHEN r.ended_at IS NULL THEN 'running'
            WHEN r.error IS NULL THEN 'done'
            ELSE 'failed'
        END AS state
    FROM (
        SELECT DISTINCT ON (j.environment, j.deployment, j.component)
            j.environment, j.deployment, j.component, j.ended_at, j.error, j.trigger
        FROM reconciler_control.job_runs AS j
        ORDER BY j.environment, j.deployment, j.component, j.id DESC
    ) AS r
    WHERE
        r.error IS NULL OR r.trigger = 'schedule'
        OR EXISTS (
            SELECT FROM reconciler_control.programs AS k
            WHERE
                k.environment = r.environment AND k.deployment = r.deployment AND k.component = r.component
        )
        OR NOT EXISTS (
            SELECT FROM reconciler_control.operations AS o
            WHERE
                o.environment = r.environment AND o.deployment = r.deployment
                AND o.state = 'completed' AND o.finished_at > r.ended_at
        )
) AS s
INNER JOIN reconciler_control.environments AS e ON s.environment = e.name
WHERE e.orphaned_at IS NULL
GROUP BY s.environment, s.kind, s.state
ORDER BY s.environment, s.kind, s.state;
