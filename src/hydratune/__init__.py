"""Compose a fine-tuning run from small YAML files, run it, sweep it, compare the results in MLflow."""

__version__ = "0.1.0"
