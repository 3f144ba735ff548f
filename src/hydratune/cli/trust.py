"""Trust the code that pyproject.toml lists, symlinks outputs and multirun, and settings of trackers and git.

A cloned repository can contain such a list, such symlinks, and such settings, so they take effect only after you trust
them, as with `direnv allow`. Trust applies to one list, one target of a symlink, or one content of a file, at one path.
After a change, run this command again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydratune.config import tracker_settings
from hydratune.config.project import FILE, project_settings
from hydratune.utils import places
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.user_records import write_record


def main(arguments: Sequence[str]) -> int:
    """Print this directory's list and its links for results, record that the user trusts them; return the exit code."""
    parser = ArgumentParser(prog="hydratune trust", description=__doc__)
    parser.parse_args(arguments)
    path, names, _ = project_settings()
    links = {folder: target for folder in places.RESULTS if (target := _target_outside(folder))}
    settings = tracker_settings.settings_here()
    if not (names or links or settings):
        no_links = "outputs and multirun are not links out of this directory"
        text = f"nothing to trust: {path} lists no code, {no_links}, and there are no settings of trackers"
        hint = f'to allow a package, add allow = ["my_package"] under [tool.hydratune] in {FILE}'
        raise ConfigError(Problem(FILE, text, hint))
    trusted = {str(path): places.digest(names)} if names else {}
    trusted |= {str(Path.cwd() / folder): places.digest([str(target)]) for folder, target in links.items()}
    trusted |= {str(file): places.digest(digest) for file, digest in settings.items()}
    write_record(places.RECORD, {**places.recorded(), **trusted})
    print(f"trusted from now on, as listed in {path}:" if names else "trusted from now on:")
    for name in names:
        print(f"  {name}")
    for folder, target in links.items():
        print(f"  {folder}, a link to {target!r}")
    for file in settings:
        print(f"  {os.path.relpath(file)}, settings of a tracker or of git")
    return 0


def _target_outside(folder: str) -> str | None:
    path = Path(folder).resolve()
    return None if path.is_relative_to(Path.cwd().resolve()) else str(path)
