"""Carry out one step; decide nothing."""
