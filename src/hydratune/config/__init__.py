"""Composition, validation, and instantiation of configs."""
