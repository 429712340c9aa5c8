"""Data sets that alikit draws itself, the same on every machine: every factor of each example is known."""
