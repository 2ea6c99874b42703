"""The composition root: builds every part from settings, runs the loops, stops them in order."""
