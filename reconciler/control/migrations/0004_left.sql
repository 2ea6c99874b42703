-- Deployments that left: where they are described, and why they are still as they are.

ALTER TABLE reconciler_control.deployments_left
ADD COLUMN declared_commit text CHECK (declared_commit <> ''),
ADD COLUMN why text CHECK (why <> '');
COMMENT ON TABLE reconciler_control.deployments_left IS
'Deployments that the spec no longer names and that something was done to, until they are taken back or forgotten.';
COMMENT ON COLUMN reconciler_control.deployments_left.declared_commit IS
'Last commit a pass looked at that has it; its spec says how to reach it, and no secret is kept here.';
COMMENT ON COLUMN reconciler_control.deployments_left.why IS
'Why the last pass left it as it is, or what is next.';
