"""Imported by the fork server, so that its forks have done what each command does at its start."""

import os
from pathlib import Path

import preloaded

preloaded.warm()
_paths = os.environ.pop("PYTHONPATH").split(os.pathsep)  # for this module; forks work without it
if others := [path for path in _paths if path != str(Path(__file__).parent)]:
    os.environ["PYTHONPATH"] = os.pathsep.join(others)
