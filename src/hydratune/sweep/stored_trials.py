"""Attributes and trials of a study, which may come from someone else or have been changed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hydratune.utils.errors import ConfigError, Problem, one_line

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

# Exceptions of optuna and SQLAlchemy for values of another form.
_MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _lists(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(numbers, list) and all(map(_number, numbers)) for numbers in value.values()
    )


def _owner(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_text, value.values())))


# Attribute of a trial -> whether a value has its form. `study` names the attributes.
_FORMS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("again", "failures", "interruptions", "progress", "seconds"), _number),
    **dict.fromkeys(("error", "traceback"), _text),
    "metrics": _numbers,
    "owner": _owner,
    "values": _lists,
}
_OBJECTS = ("hydratune.identity", "hydratune.parent", "hydratune.rows")  # attributes of a study that are JSON objects


def read_attributes(study: optuna.Study) -> Mapping[str, Any]:
    """Return the attributes of a study; raise ConfigError if one has another form than hydratune writes."""
    try:
        attributes: dict[str, Any] = study.user_attrs
    except _MALFORMED as error:
        raise _unreadable(one_line(error)) from error
    for name, value in attributes.items():
        if name.startswith(_OBJECTS) and not isinstance(value, dict):
            raise _unreadable(f"{name} of the study: {value!r}")
    return attributes


def read_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials of a study, uncopied; raise ConfigError if one has another form than hydratune writes."""
    try:
        trials = study.get_trials(deepcopy=False)
    except _MALFORMED as error:
        raise _unreadable(one_line(error)) from error
    for trial in trials:
        if trial.state.name == "COMPLETE" and not trial.values:
            raise _unreadable(f"trial {trial.number} without values")
        for name in _FORMS.keys() & trial.user_attrs.keys():
            if not _FORMS[name](trial.user_attrs[name]):
                raise _unreadable(f"{name} of trial {trial.number}: {trial.user_attrs[name]!r}")
    return trials


def _unreadable(reason: str) -> ConfigError:
    hint = "restore the database, or start a new sweep"
    return ConfigError(Problem("SWEEP", f"the sweep's database is invalid: {reason[:300]}", hint))
