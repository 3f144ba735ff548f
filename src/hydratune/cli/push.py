"""Push the model of a finished run to the Hugging Face Hub. If the push fails, run the same command again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydratune.cli.run_argument import add_run_argument
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.later import log_to_run
from hydratune.tracking.run_directories import unfinished_run
from hydratune.tracking.run_lookup import RunLookup
from hydratune.training import model_card
from hydratune.training.push import TAG, Push
from hydratune.utils import hub
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import FAILED, KEY, ConfigError, Problem
from hydratune.utils.files import CONFIG, METRICS, MODEL, check_links
from hydratune.utils.messages import print_error, print_line
from hydratune.utils.yaml_files import read_plain_config


def main(arguments: Sequence[str]) -> int:
    """Push a model, print its address, and return the exit code."""
    parser = ArgumentParser(prog="hydratune push", description=__doc__)
    add_run_argument(parser)
    # A run may be someone else's, and so may be a repository that its config names.
    parser.add_argument("--to", metavar="REPO", help="Hub ID, NAME or OWNER/NAME (required)")
    parser.add_argument("--public", action="store_true", help="create a public repository [default: private]")
    args = parser.parse_args(arguments)
    run_directory = RunLookup(args.uri).directory(args.run)
    _check_finished(run_directory)
    if not args.to:
        raise ConfigError(Problem("--to", f"{KEY} is required", f"add {KEY} OWNER/NAME"))
    hub.check_push("--to", args.to, token=None)
    directory = run_directory.resolve()
    try:
        url = Push(directory, args.to, private=not args.public).send()
    except hub.PushError as error:
        print_error(str(error), "run the same command again to resume the upload")
        return FAILED
    print(f"hub      {url}")
    record_push(directory, url)
    return 0


def _check_finished(directory: Path) -> None:
    """Raise ConfigError unless a directory is that of a finished run without links out of it."""
    missing = [name for name in (CONFIG, METRICS, f"{MODEL}/{model_card.CARD}") if not (directory / name).is_file()]
    if missing:
        raise ConfigError(unfinished_run(directory, missing))
    check_links(directory)
    read_plain_config(directory / CONFIG)  # raises ConfigError for one that no run wrote; nothing of it is used


def record_push(directory: Path, url: str) -> None:
    """Add the address to the run in MLflow, if it is tracked there."""
    try:
        if (pointer := checked_pointer(directory)) is None:
            return
        log_to_run(pointer, tags={TAG: url})
    except ConfigError as error:  # the push itself has succeeded
        print_line(f"the address was not recorded in MLflow: {error}", "warning: ", "bold yellow")
