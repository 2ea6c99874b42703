"""The operation state machine, the order of a rollout and when to try again; pure."""
