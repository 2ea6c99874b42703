"""Read the live catalog into values; never write."""
