"""Code that Python runs when a child process starts, before any other module: it removes relative import paths.

Editable installs of other packages add relative paths. In a cloned project, such a path can be a directory with modules
and with plugins, which MLflow, submitit, and torch call.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_OWN = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (each start of Python would import pathlib)


def _remove_relative_paths() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]  # noqa: PTH117


_remove_relative_paths()
# The environment can have a module of the same name, which this one would replace.
_spec = PathFinder.find_spec(__name__, [entry for entry in sys.path if os.path.abspath(entry) != _OWN])  # noqa: PTH100
if _spec and _spec.loader:
    sys.modules[__name__] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
    _remove_relative_paths()
