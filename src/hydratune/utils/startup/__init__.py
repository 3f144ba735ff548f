"""Folder on `PYTHONPATH` of child processes; see `hydratune.utils.process.protect_children`."""
