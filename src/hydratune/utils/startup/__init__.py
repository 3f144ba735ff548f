"""Folder on `PYTHONPATH` of child processes; see `hydratune.utils.python_processes.protect_children`."""
