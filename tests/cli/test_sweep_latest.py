"""Names of sweeps on the command line."""

import os

from hydratune.cli.sweep import sweep_directory
from hydratune.utils.files import PLAN


def test_latest_stands_for_the_newest_sweep(own_directory):
    """`latest` is the sweep that began last, unless a sweep has this name."""
    for number, name in enumerate(("old", "new", "older")):
        folder = own_directory / "multirun" / name
        folder.mkdir(parents=True)
        (folder / PLAN).write_text("{}")
        began = 1000 + (number if name != "older" else -1)
        os.utime(folder / PLAN, (began, began))
    assert sweep_directory("latest").name == "new"
    (own_directory / "multirun" / "latest").mkdir()
    (own_directory / "multirun" / "latest" / PLAN).write_text("{}")
    assert sweep_directory("latest").name == "latest"
