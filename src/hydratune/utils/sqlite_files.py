"""SQLite databases that may come from someone else."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from hydratune.utils.errors import KEY, Problem

_MAGIC = bytes.fromhex("d9d505f920a163d7")  # the last bytes of a journal that ends with the name of a super-journal

_CHANGES = re.compile(r"\b(insert|update|delete|replace)\b", re.IGNORECASE)  # statements of a trigger
_STATEMENT = re.compile(r"CREATE (?:UNIQUE (?=INDEX))?(TABLE|INDEX|TRIGGER) ")
_TIMEOUT = 120  # seconds that another process may lock the database


def journal_problem(database: Path, key: str) -> Problem | None:
    """Return an error if opening a database would delete another file, else None.

    SQLite rolls back a journal that it finds next to a database, and then deletes the super-journal that the journal
    names, wherever that file is. Only transactions over several attached databases have one; ours have a single one.

    Args:
        database: The file, which need not exist.
        key: Key that the error names.
    """
    journal = Path(f"{database.resolve()}-journal")
    if not journal.is_file() or journal.stat().st_size < len(_MAGIC):
        return None
    with journal.open("rb") as file:
        file.seek(-len(_MAGIC), os.SEEK_END)
        if file.read() != _MAGIC:
            return None
    text = f"opening the database in {KEY} would delete another file: {str(journal)!r} names a super-journal"
    return Problem(key, text, f"remove {journal}")


def schema_problem(database: Path, key: str) -> Problem | None:
    """Return an error if a database changes or computes what is written to it, else None.

    Its triggers could, for example, replace the artifact location of a new run. Neither MLflow nor optuna has such
    triggers, views, or virtual tables; a trigger of MLflow only rejects values. SQLite executes the text of an entry
    without regard to its type, so the text must be as SQLite itself writes it.

    Args:
        database: An existing file.
        key: Key that the error names.
    """
    try:
        with closing(sqlite3.connect(database, timeout=_TIMEOUT)) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        return Problem(key, f"cannot read the database in {KEY}, {str(database)!r}: {error}", "use another database")
    for kind, name, sql in rows:
        if not _is_passive(kind, sql):
            text = f"the database in {KEY} has the {kind} {name!r}, which can change what is stored: {str(database)!r}"
            return Problem(key, text, "use another database")
    return None


def _is_passive(kind: object, sql: object) -> bool:
    """Return whether an entry of a schema is a table, an index, or a trigger that changes nothing."""
    if sql is None:
        return kind == "index"  # of a constraint
    found = _STATEMENT.match(str(sql))
    if found is None or found[1].lower() != kind:
        return False
    body = re.split(r"\bbegin\b", str(sql), maxsplit=1, flags=re.IGNORECASE)[-1]
    return kind != "trigger" or not _CHANGES.search(body)
