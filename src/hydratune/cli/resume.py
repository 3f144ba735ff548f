"""Resume an interrupted run from its last checkpoint, in the same MLflow run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydratune.cli.run_argument import add_run_argument
from hydratune.cli.train import train
from hydratune.config import config_folders
from hydratune.config.composition import config_flags
from hydratune.evaluation.load_run import started_here
from hydratune.sweep.stored_plan import read_plan, sweep_command
from hydratune.tracking.journal import journals
from hydratune.tracking.run_directories import sweep_of
from hydratune.tracking.run_lookup import RunLookup
from hydratune.utils.arguments import DRY_RUN, ArgumentParser
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import METRICS, check_links, check_started_here, not_a_run
from hydratune.utils.yaml_files import read_hydra_node, read_overrides

_LAUNCH = "hardware.launch."  # start of keys that differ between machines, such as `node_rank`, and change no result


def main(arguments: Sequence[str]) -> int:
    """Run the run's own command again in its directory, with additional overrides if any are given.

    For a finished run, `train` only uploads what MLflow lacks.
    """
    parser = ArgumentParser(prog="hydratune resume", description=__doc__)
    add_run_argument(parser)
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="override, e.g. trainer.args.max_steps=1000")
    parser.add_argument(*DRY_RUN, action="store_true", help="check whether the run can be resumed, without training")
    args = parser.parse_args(arguments)
    lookup = RunLookup(args.uri)
    if (found := lookup.find(args.run, True).directory) and (sweep := sweep_of(found)):
        kind = "a sweep" if found == sweep else "a trial of a sweep"
        raise ConfigError(Problem("RUN", f"{args.run!r} is {kind}, not a run", _sweep_hint(sweep)))
    directory = lookup.directory(args.run)
    if not (directory / ".hydra" / "overrides.yaml").is_file():
        raise ConfigError(not_a_run(directory, ".hydra/overrides.yaml"))
    is_finished = (directory / METRICS).is_file()
    if is_finished and not all(override.lstrip("+~").startswith(_LAUNCH) for override in args.overrides):
        text = "the run is finished; its settings can no longer change"
        raise ConfigError(Problem("KEY=VALUE", text, "train a new run with these overrides"))
    if is_finished and all(journal.is_delivered() for journal in journals(directory)):
        print(f"{args.run}: finished, nothing to do")
        return 0
    directory = directory.absolute()
    check_links(directory)
    hydra_node = read_hydra_node(directory)
    check_started_here(hydra_node.runtime.cwd, shlex.join(["hydratune", "resume", *arguments]))
    flags = config_flags(hydra_node)
    if problems := [*config_folders.problems(dict(zip(flags[::2], flags[1::2], strict=True)))]:
        raise ConfigError(*problems)
    stored_overrides = _overrides(directory)
    dry_run_flags = [DRY_RUN[-1]] if args.dry_run else []
    arguments = [*flags, *stored_overrides, *args.overrides, *dry_run_flags]
    origin = None if started_here(directory) else hydra_node.runtime.cwd
    return train(arguments, directory, len(stored_overrides), origin=origin)


def _sweep_hint(sweep: Path) -> str:
    """Return the hint with the command that resumes a sweep, if its plan can be read."""
    with suppress(ConfigError):
        if command := sweep_command(read_plan(sweep)):
            return f"resume the sweep: {command}"
    return "to resume the sweep, run its command again"


def _overrides(directory: Path) -> list[str]:
    """Return the overrides of a run, without flags.

    Raises:
        ConfigError: A flag, e.g. `-m`, is among them. It would be a command that the user has not typed.
    """
    stored = read_overrides(directory / ".hydra" / "overrides.yaml")
    if flags := [text for text in stored if not isinstance(text, str) or text.startswith("-")]:
        text = f"cannot resume the run: {flags[0]!r} in its .hydra/overrides.yaml is not KEY=VALUE"
        raise ConfigError(Problem("RUN", text, "restore the file, or train a new run"))
    return [text.removeprefix("++") for text in stored]
