"""Compare desired, tracked and live state; pending changes, drift and divergence stay apart; pure."""
