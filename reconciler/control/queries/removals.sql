-- name: removal_ground :one
-- What is known of an environment that somebody wants to remove: whose it is, and the commits that had it.
SELECT
    name, source, observed_commit, applied_commit, removed_at IS NOT NULL AS removed,
    orphaned_at IS NOT NULL AS orphaned, removing_at IS NOT NULL AS removing
FROM reconciler_control.environments
WHERE name = %(environment)s;

-- name: begin_removal :one
-- Opens an environment that left its source to the one rollout that removes it; gives no row where it is back.
UPDATE reconciler_control.environments
SET orphaned_at = NULL, removing_at = clock_timestamp()
WHERE name = %(environment)s AND (orphaned_at IS NOT NULL OR removing_at IS NOT NULL)
RETURNING name;

-- name: end_removal :one
-- Closes it again when that rollout is over; where all was done, the environment is no more.
UPDATE reconciler_control.environments
SET
    removing_at = NULL,
    orphaned_at = clock_timestamp(),
    removed_at = CASE WHEN %(done)s THEN clock_timestamp() END
WHERE name = %(environment)s AND removing_at IS NOT NULL
RETURNING removed_at IS NOT NULL AS removed;

-- name: nothing_removed :one
-- Notes that an environment is no more of which nothing was left that could be removed.
UPDATE reconciler_control.environments
SET removed_at = clock_timestamp()
WHERE name = %(environment)s AND orphaned_at IS NOT NULL
RETURNING name;
