-- Environments that left their source and are removed by a person.

ALTER TABLE reconciler_control.environments
ADD COLUMN removing_at timestamptz,
ADD COLUMN removed_at timestamptz,
ADD CONSTRAINT environments_removed_once_they_left CHECK (removed_at IS NULL OR orphaned_at IS NOT NULL),
ADD CONSTRAINT environments_removing_are_open CHECK (removing_at IS NULL OR orphaned_at IS NULL);
COMMENT ON COLUMN reconciler_control.environments.removing_at IS
'Since when a rollout removes it; open to that until it is over, though it left its source.';
COMMENT ON COLUMN reconciler_control.environments.removed_at IS
'When it was removed; its history stays, and its name is free.';

ALTER TABLE reconciler_control.rollouts
ADD COLUMN removes boolean NOT NULL DEFAULT FALSE;
COMMENT ON COLUMN reconciler_control.rollouts.removes IS
'Whether it removes an environment that left its source.';
