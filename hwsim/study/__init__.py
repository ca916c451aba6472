"""The sweeps behind the verdict: one quantity varied, everything else held."""
