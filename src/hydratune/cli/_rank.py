"""One process of a distributed run: `python -m hydratune.cli._rank CONFIG PARENT`."""

from __future__ import annotations

import sys

from hydratune.sweep.retraining import row_check
from hydratune.training import rank

if __name__ == "__main__":
    rank.main(lambda directory: (None, row_check(directory)), *sys.argv[1:])
