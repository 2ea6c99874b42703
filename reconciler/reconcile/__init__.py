"""Passes from source to recorded rollout, and the facade that the edges call."""

from reconciler.reconcile.facade import Reconciler

__all__ = ["Reconciler"]
