"""Datasets that work offline."""
