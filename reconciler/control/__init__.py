"""The control schema `reconciler_control`: environments, rollouts, operations, events."""
