"""Passes from source to recorded rollout, and the facade that the edges call."""
