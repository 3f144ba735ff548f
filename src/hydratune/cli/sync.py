"""Upload pending records of runs to MLflow, e.g. after its server was down."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import Timeout

from hydratune.cli.notes import update_experiment_note
from hydratune.cli.run_argument import RUN_FORMS
from hydratune.config import servers
from hydratune.tracking import client
from hydratune.tracking.delivery import Delivery
from hydratune.tracking.entries import Registration
from hydratune.tracking.journal import JOURNAL, LOCK, Journal, journals, not_tracked
from hydratune.tracking.run_lookup import RunLookup
from hydratune.tracking.uploader import format_error, upload_ended
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import FAILED, ConfigError, Problem
from hydratune.utils.files import check_links, file_lock
from hydratune.utils.provenance import redact
from hydratune.utils.secret_patterns import MASK


def main(arguments: Sequence[str]) -> int:
    """Upload each run's journal and print the result; return 1 if a store did not take all of it."""
    parser = ArgumentParser(prog="hydratune sync", description=__doc__)
    parser.add_argument("run", nargs="+", metavar="RUN", help=f"{RUN_FORMS}, or a sweep")
    parser.add_argument("--uri", help="MLflow store [default: the store of the run]")
    parser.add_argument(
        "--register",
        action=argparse.BooleanOptionalAction,
        help="register models and move aliases, or not; required if the records register a model",
    )
    args = parser.parse_args(arguments)
    lookup = RunLookup()  # --uri is where to upload the records to, also of a run that is not there yet
    directories = [lookup.directory(text, allows_several=True) for text in args.run]
    for directory in directories:
        check_links(directory)
    journals_of = {directory: journals(directory.absolute()) for directory in directories}
    problems = [
        problem for directory in journals_of for problem in _problems(directory, journals_of[directory], args.uri)
    ]
    if problems:
        raise ConfigError(*problems)
    code = max([_sync(journal, args.uri, args.register) for group in journals_of.values() for journal in group])
    for group in journals_of.values():
        update_experiment_note(group[-1].directory)
    return code


def _problems(directory: Path, run_journals: Sequence[Journal], uri: str | None) -> Iterator[Problem]:
    if not run_journals:
        yield not_tracked(directory)
    for journal in run_journals:
        if not journal.uri:
            text = f"{os.path.relpath(journal.directory / JOURNAL)} has lost its first entry, so it cannot be uploaded"
            yield Problem("RUN", text, "restore the file from a backup")
            return
    for recorded in {_recorded_uri(journal) for journal in run_journals} if uri is None else ():
        path = client.sqlite_path(recorded)
        if wrong := client.address_problem(recorded, "--uri") or servers.stored_problem(recorded, directory, "--uri"):
            yield wrong
        elif MASK in recorded:
            hint = "export the address with its password, and add --uri '${oc.env:NAME}'"
            yield Problem("--uri", f"the recorded address of the store has no password: {recorded!r}", hint)
        elif path is not None and not path.is_file():
            hint = "add --uri=ADDRESS, which creates the store if it does not exist"
            yield Problem("--uri", f"MLflow store not found: {str(path)!r}", hint)


def _recorded_uri(journal: Journal) -> str:
    """Return the address that the run recorded; the address of a local store follows a project that was moved."""
    return client.stored_uri(journal.uri, journal.directory_before, journal.directory)


def _registrations(journal: Journal, start: int) -> list[Registration]:
    """Return name and alias of each model that an upload from a byte on would register."""
    models = (entry.values for entry in journal.entries(start) if entry.kind == "model")
    return [(model["registered_name"], model["alias"]) for model in models if model["registered_name"]]


def _unconfirmed(run: str, registrations: Sequence[Registration]) -> ConfigError:
    """Return the error for models that the records of a run would register; they may be someone else's."""
    names = ", ".join(f"{name!r}" + (f" with alias {alias!r}" if alias else "") for name, alias in registrations)
    text = f"uploading the records of {run!r} would register a version of {names}"
    return ConfigError(Problem("--register", text, "if the run is yours, add --register; otherwise --no-register"))


def _sync(journal: Journal, uri_option: str | None, registers: bool | None) -> int:
    """Upload a run's entries; return 0 if the store has all of them or if the run still uploads them itself."""
    name = os.path.relpath(journal.directory)
    uri = client.typed_uri(uri_option) if uri_option else _recorded_uri(journal)
    try:
        with file_lock(journal.directory / LOCK, timeout=0):
            delivery = Delivery(client.connect(uri), uri, journal.directory)
            registrations = _registrations(journal, delivery.position(journal).end)
            if registrations and registers is None:
                raise _unconfirmed(name, registrations)
            delivery.registrations = registrations if registers else []
            upload_ended(journal, delivery)
    except Timeout:
        print(f"{name}: still running; the run uploads its records itself")
        return 0
    except client.TrackingUnavailableError as error:
        print(f"{name}: upload failed: {format_error(error)}")
        return FAILED
    damaged = [f"{journal.damaged} invalid lines of tracking.jsonl"] if journal.damaged else []
    if missing := [*journal.sent().refused, *damaged]:
        print(f"{name}: uploaded to MLflow at {redact(uri)}, except for:")
        for entry in missing:
            print(f"  {entry}")
        return FAILED
    print(f"{name}: up to date in MLflow at {redact(uri)}")
    return 0
