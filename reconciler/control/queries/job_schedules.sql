-- name: environments_with_schedules :many
-- Environments of which jobs with schedules are recorded.
SELECT DISTINCT environment FROM reconciler_control.job_schedules;

-- name: forget_schedules :exec
-- Forgets jobs that the spec of an environment has no more, or no more with a schedule.
DELETE FROM reconciler_control.job_schedules AS s
WHERE
    s.environment = %(environment)s
    AND NOT EXISTS (
        SELECT FROM unnest(%(deployments)s::text [], %(components)s::text []) AS k (deployment, component)
        WHERE (s.deployment, s.component) = (k.deployment, k.component)
    );

-- name: declare_schedules :many
-- Records jobs, or their new schedules, of deployments that are known; gives those that stand as they should.
WITH wanted AS (
    SELECT k.deployment, k.component, k.schedule, k.due_at
    FROM unnest(
        %(deployments)s::text [], %(components)s::text [], %(schedules)s::text [], %(due)s::timestamptz []
    ) AS k (deployment, component, schedule, due_at)
    INNER JOIN reconciler_control.environment_deployments AS d
        ON d.environment = %(environment)s AND k.deployment = d.name
),
written AS (
    INSERT INTO reconciler_control.job_schedules AS s (environment, deployment, component, schedule, due_at)
    SELECT %(environment)s, w.deployment, w.component, w.schedule, w.due_at FROM wanted AS w
    ON CONFLICT (environment, deployment, component) DO UPDATE
    SET schedule = excluded.schedule, due_at = excluded.due_at
    WHERE s.schedule <> excluded.schedule
)
SELECT w.deployment, w.component FROM wanted AS w;

-- name: take_due_jobs :many
-- Takes jobs that are due in environments that a worker passes over, where no operation is at the deployment or
-- has a run of the job; what a dead one had, is free. `missed`: it was due while its environment was stopped.
WITH due AS MATERIALIZED (
    SELECT
        s.environment, s.deployment, s.component, e.source, c.commit,
        coalesce(s.due_at < e.started_at, FALSE) AS missed
    FROM reconciler_control.job_schedules AS s
    INNER JOIN reconciler_control.environments AS e ON s.environment = e.name
    INNER JOIN reconciler_control.environment_deployments AS d
        ON s.environment = d.environment AND s.deployment = d.name
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN s.component = ANY(d.left_out) THEN d.applied_commit
            ELSE coalesce(d.provisioned_commit, d.applied_commit) END AS commit
    ) AS c
    WHERE
        s.due_at <= clock_timestamp() AND s.environment = ANY(%(environments)s)
        AND e.owner = %(worker)s::uuid AND e.suspended_at IS NULL AND e.orphaned_at IS NULL
        AND e.stopped_at IS NULL AND e.removing_at IS NULL AND c.commit IS NOT NULL
        AND (
            s.running_by IS NULL OR s.running_by = %(worker)s::uuid
            OR NOT reconciler_control.is_alive(s.running_by)
        )
        AND NOT EXISTS (
            SELECT FROM unnest(
                %(busy_environments)s::text [], %(busy_deployments)s::text [], %(busy_components)s::text []
            ) AS k (environment, deployment, component)
            WHERE (s.environment, s.deployment, s.component) = (k.environment, k.deployment, k.component)
        )
        AND NOT EXISTS (
            SELECT FROM reconciler_control.operations AS o
            WHERE
                o.environment = s.environment AND o.deployment = s.deployment
                AND o.state IN ('running', 'promoting', 'reverting')
        )
        AND NOT EXISTS (
            SELECT FROM reconciler_control.job_runs AS r
            INNER JOIN reconciler_control.operations AS o ON r.operation = o.id
            WHERE
                r.environment = s.environment AND r.deployment = s.deployment AND r.component = s.component
                AND r.ended_at IS NULL AND o.finished_at IS NULL
        )
    ORDER BY s.due_at, s.environment, s.deployment, s.component
    LIMIT %(room)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE reconciler_control.job_schedules AS s
SET running_by = %(worker)s::uuid, claims = s.claims + 1, started_at = clock_timestamp()
FROM due AS d
WHERE (s.environment, s.deployment, s.component) = (d.environment, d.deployment, d.component)
RETURNING
    s.environment, s.deployment, s.component, s.schedule, s.due_at, s.claims, s.failures, d.source,
    d.commit, d.missed, clock_timestamp() AS now;

-- name: hold_scheduled_job :one
-- Whether a job that was taken is still its taker's.
SELECT s.component
FROM reconciler_control.job_schedules AS s
WHERE
    s.environment = %(environment)s AND s.deployment = %(deployment)s AND s.component = %(component)s
    AND s.running_by = %(worker)s::uuid AND s.claims = %(claims)s
FOR SHARE;

-- name: operation_at_work :one
-- An operation that is at a deployment just now.
SELECT o.id::text AS operation
FROM reconciler_control.operations AS o
WHERE
    o.environment = %(environment)s AND o.deployment = %(deployment)s
    AND o.state IN ('running', 'promoting', 'reverting')
LIMIT 1;

-- name: settle_scheduled_job :many
-- Records what came of a run, and when the next one is due; nothing where it is another's by now.
UPDATE reconciler_control.job_schedules
SET
    running_by = NULL,
    ended_at = clock_timestamp(),
    due_at = CASE WHEN schedule = %(schedule)s THEN %(due)s ELSE due_at END,
    succeeded_at = CASE WHEN %(error)s::text IS NULL THEN clock_timestamp() ELSE succeeded_at END,
    failures = CASE WHEN %(error)s::text IS NULL THEN 0 ELSE failures + 1 END,
    error = %(error)s
WHERE
    environment = %(environment)s AND deployment = %(deployment)s AND component = %(component)s
    AND running_by = %(worker)s::uuid AND claims = %(claims)s
RETURNING failures;

-- name: release_scheduled_job :exec
-- Leaves a job to whoever takes it next, at its time or, where one is given, at another.
UPDATE reconciler_control.job_schedules
SET
    running_by = NULL,
    due_at = CASE WHEN schedule = %(schedule)s THEN coalesce(%(due)s::timestamptz, due_at) ELSE due_at END
WHERE
    environment = %(environment)s AND deployment = %(deployment)s AND component = %(component)s
    AND running_by = %(worker)s::uuid AND claims = %(claims)s;

-- name: note_scheduled :exec
-- Notes that there may be something of a job that only its schedule runs; what was applied stays noted.
INSERT INTO reconciler_control.programs AS p (
    environment, deployment, component, kind, stage, applying_hash, applying_definition, applying, place,
    commit
)
VALUES (
    %(environment)s, %(deployment)s, %(component)s, 'Job', %(stage)s, %(definition_hash)s, %(definition)s,
    %(instance)s, %(place)s, %(commit)s
)
ON CONFLICT (environment, deployment, component) DO UPDATE
SET
    applying_hash = excluded.applying_hash, applying_definition = excluded.applying_definition,
    applying = excluded.applying, place = excluded.place, commit = excluded.commit
WHERE p.definition_hash IS NULL AND p.operation IS NULL;

-- name: note_scheduled_done :exec
-- Notes that a job which only its schedule runs was done; what rollouts noted stays.
UPDATE reconciler_control.programs AS p
SET
    definition_hash = p.applying_hash, definition = p.applying_definition, applied_at = clock_timestamp(),
    applying_hash = NULL, applying_definition = NULL, applying = NULL
WHERE
    p.environment = %(environment)s AND p.deployment = %(deployment)s AND p.component = %(component)s
    AND p.definition_hash IS NULL AND p.operation IS NULL;

-- name: note_scheduled_gone :exec
-- Forgets what was noted of a run that failed, where nothing was ever done of the job.
DELETE FROM reconciler_control.programs AS p
WHERE
    p.environment = %(environment)s AND p.deployment = %(deployment)s AND p.component = %(component)s
    AND p.definition_hash IS NULL AND p.operation IS NULL;

-- name: begin_scheduled_job :one
-- Notes that a run of a job begins, and ends those that nobody told the end of; counts those for one time.
WITH lost AS (
    UPDATE reconciler_control.job_runs AS r
    SET ended_at = clock_timestamp(), error = 'how it ended is not known: who ran it was gone'
    WHERE
        r.environment = %(environment)s AND r.deployment = %(deployment)s AND r.component = %(component)s
        AND r.ended_at IS NULL
)
INSERT INTO reconciler_control.job_runs AS j (
    environment, deployment, component, trigger, inputs_hash, instance, attempt
)
SELECT
    %(environment)s, %(deployment)s, %(component)s, %(trigger)s, %(inputs_hash)s, %(instance)s,
    1 + (
        SELECT count(*) FROM reconciler_control.job_runs AS r
        WHERE
            r.environment = %(environment)s AND r.deployment = %(deployment)s AND r.component = %(component)s
            AND r.operation IS NULL AND starts_with(r.instance, %(prefix)s)
    )
RETURNING j.attempt;

-- name: end_scheduled_job :one
-- Notes how a run ended; gives no row where that is noted already, for a rollout ended it.
UPDATE reconciler_control.job_runs AS r
SET ended_at = clock_timestamp(), exit_status = %(exit_status)s, error = %(error)s
WHERE
    r.environment = %(environment)s AND r.deployment = %(deployment)s AND r.component = %(component)s
    AND r.instance = %(instance)s AND r.ended_at IS NULL
RETURNING r.id;

-- name: forget_old_scheduled_runs :exec
-- Of each job the newest runs are kept, and the last that was done.
DELETE FROM reconciler_control.job_runs AS r
WHERE
    r.environment = %(environment)s AND r.deployment = %(deployment)s AND r.component = %(component)s
    AND r.operation IS NULL
    AND r.id <= (
        SELECT k.id FROM reconciler_control.job_runs AS k
        WHERE
            k.environment = %(environment)s AND k.deployment = %(deployment)s
            AND k.component = %(component)s
        ORDER BY k.id DESC
        LIMIT 1 OFFSET %(kept)s
    )
    AND r.id <> coalesce(
        (
            SELECT max(k.id) FROM reconciler_control.job_runs AS k
            WHERE
                k.environment = %(environment)s AND k.deployment = %(deployment)s
                AND k.component = %(component)s AND k.ended_at IS NOT NULL AND k.error IS NULL
        ), 0
    );

-- name: keep_scheduled_outputs :exec
-- Keeps all outputs of a job in place of those it had.
WITH made AS MATERIALIZED (
    SELECT n.name, n.type, n.value, n.sealed
    FROM jsonb_to_recordset(%(outputs)s) AS n (name text, type text, value jsonb, sealed text)
),
gone AS (
    DELETE FROM reconciler_control.outputs AS u
    WHERE
        u.environment = %(environment)s AND u.deployment = %(deployment)s AND u.component = %(component)s
        AND NOT u.name IN (SELECT m.name FROM made AS m)
)
INSERT INTO reconciler_control.outputs AS u (
    environment, deployment, component, name, type, inputs_hash, value, sealed
)
SELECT
    %(environment)s, %(deployment)s, %(component)s, m.name, m.type, %(inputs_hash)s,
    CASE WHEN m.sealed IS NULL THEN coalesce(m.value, 'null') END, m.sealed
FROM made AS m
ON CONFLICT (environment, deployment, component, name) DO UPDATE
SET
    type = excluded.type, inputs_hash = excluded.inputs_hash, value = excluded.value,
    sealed = excluded.sealed, operation = NULL, made_at = clock_timestamp();

-- name: read_job_statuses :many
-- The jobs of an environment that ran or have a schedule, with their last runs and when they run next.
SELECT
    k.deployment, k.component, r.trigger, r.began_at, r.ended_at, r.exit_status, r.error, r.attempt,
    s.schedule, s.due_at AS next_at, coalesce(s.failures, 0) AS failures
FROM (
    SELECT a.deployment, a.component FROM reconciler_control.job_schedules AS a
    WHERE a.environment = %(environment)s
    UNION
    SELECT j.deployment, j.component FROM reconciler_control.job_runs AS j
    WHERE j.environment = %(environment)s
    UNION
    SELECT p.deployment, p.component FROM reconciler_control.programs AS p
    WHERE p.environment = %(environment)s AND p.kind = 'Job'
) AS k
LEFT JOIN reconciler_control.job_schedules AS s
    ON s.environment = %(environment)s AND k.deployment = s.deployment AND k.component = s.component
LEFT JOIN LATERAL (
    SELECT n.trigger, n.began_at, n.ended_at, n.exit_status, n.error, n.attempt
    FROM reconciler_control.job_runs AS n
    WHERE n.environment = %(environment)s AND n.deployment = k.deployment AND n.component = k.component
    ORDER BY n.id DESC
    LIMIT 1
) AS r ON TRUE
ORDER BY k.deployment, k.component
LIMIT %(limit)s;
