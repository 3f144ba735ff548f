"""Hyperparameter sweeps: what is searched, the study that remembers it, the workers that pull from it, the report."""
