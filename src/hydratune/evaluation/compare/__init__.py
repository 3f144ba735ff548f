"""Comparison of runs: the better run, and whether the difference is statistically significant."""
