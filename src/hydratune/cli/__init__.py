"""The command line: one module for each command."""

import os
import sys

# The modules of the commands import others. A relative path, which an editable install can add, may lead to a directory
# of a cloned project.
sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]  # noqa: PTH117
