"""From a diff to an immutable, ordered, complete plan; pure."""
