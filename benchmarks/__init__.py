"""Measurements of the project's own limits: medians of interleaved runs, as ratios to a limit or a peer."""
