"""Reads the three states of a deployment and plans it; what a pass, a dry run and a worker share."""
