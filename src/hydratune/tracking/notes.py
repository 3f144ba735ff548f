"""Notes of runs, sweeps, and experiments in Markdown, which MLflow shows above their details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hydratune.utils.escaping import escape_markdown, markdown_code

NOTE = "mlflow.note.content"  # tag
OWN_NOTE = "hydratune.note"  # tag: the note that we wrote last; a different note is the user's, which stays


def note(lines: Sequence[str], facts: Mapping[str, object], command: str = "") -> str:
    """Return a note: the most important lines first, since MLflow shows about four of them.

    Args:
        lines: Sentences, the most important first.
        facts: Name -> value of a table below; empty values are omitted.
        command: Shell command, as it was typed.
    """
    sentences = [escape_markdown(line) for line in lines]
    top = [f"**{sentences[0]}**", *sentences[1:]] if sentences else []
    rows = [f"| {escape_markdown(name)} | {escape_markdown(str(value))} |" for name, value in facts.items() if value]
    rows += [f"| command | {markdown_code(command)} |"] if command else []
    table = "\n".join(["| | |", "| --- | --- |", *rows]) if rows else ""
    return "\n\n".join(part for part in ("  \n".join(top), table) if part)


def with_facts(text: str, facts: Mapping[str, object]) -> str:
    """Return a note with more rows at the end of its table, in place of rows with the same names."""
    rows = {f"| {escape_markdown(name)} |": escape_markdown(str(value)) for name, value in facts.items()}
    lines = [line for line in text.splitlines() if not line.startswith(tuple(rows))]
    return "\n".join([*lines, *(f"{name} {value} |" for name, value in rows.items())])


def failed_note(error: str, resume: str, before: str) -> str:
    """Return the note of a run that ended by an error: the error, how to continue, then the note before.

    Args:
        error: The error on one line.
        resume: Command that resumes the run; empty if it cannot be resumed.
        before: Note that the run had until then.
    """
    top = f"**Failed:** {escape_markdown(error)}"
    return "\n\n".join(part for part in (top + _continue(resume), before) if part)


def interrupted_note(resume: str, before: str) -> str:
    """Return the note of a run that was interrupted: how to continue, then the note before."""
    return "\n\n".join(part for part in (f"**Interrupted**{_continue(resume)}", before) if part)


def _continue(resume: str) -> str:
    return f"  \nResume it with {markdown_code(resume)}" if resume else ""
