"""The HTTP edge: routes translate, nothing else."""
