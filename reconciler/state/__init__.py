"""The three states that are compared: desired, tracked and live; values only."""
