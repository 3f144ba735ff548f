"""Attributes and trials of a study, which may come from someone else or have been changed by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from hydratune.utils import process
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


def _number_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _process(value: Any, *names: str) -> bool:
    """Return whether a value describes a process, with more texts by name."""
    keys = {process.HOST, process.PROCESS, *names}
    return isinstance(value, dict) and value.keys() == keys and all(map(_text, value.values()))


def _owner(value: Any) -> bool:
    return value is None or _process(value, "worker")


# Attribute of a trial -> whether a value has its form. `study` names the attributes.
_FORMS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("again", "failures", "interruptions", "seconds"), _number),
    "progress": lambda value: _number(value) and 0 <= value <= 1,
    **dict.fromkeys(("error", "traceback"), _text),
    "evaluations": _number_list,
    "metrics": _numbers,
    "owner": _owner,
    "values": _lists,
}
_OBJECTS = ("hydratune.identity", "hydratune.rows")  # attributes of a study that are JSON objects
_PARENT = "hydratune.parent"  # attribute of a study: the process that records the sweep


def read_attributes(study: optuna.Study) -> Mapping[str, Any]:
    """Return the attributes of a study; raise ConfigError if one has another form than hydratune writes."""
    try:
        attributes: dict[str, Any] = study.user_attrs
    except _MALFORMED as error:
        raise _unreadable(one_line(error)) from error
    for name, value in attributes.items():
        is_valid = _process(value, "key", "directory") if name == _PARENT else isinstance(value, dict)
        if name.startswith((*_OBJECTS, _PARENT)) and not is_valid:
            raise _unreadable(f"{name} of the study: {value!r}")
    return attributes


def read_trials(study: optuna.Study, parameters: Collection[str]) -> list[FrozenTrial]:
    """Return the trials of a study, uncopied; raise ConfigError if one has another form than hydratune writes.

    Args:
        study: Study of a sweep.
        parameters: Names of the sweep's parameters.
    """
    try:
        trials = study.get_trials(deepcopy=False)
    except _MALFORMED as error:
        raise _unreadable(one_line(error)) from error
    for trial in trials:
        if trial.state.name == "COMPLETE" and not (trial.values and all(map(_number, trial.values))):
            raise _unreadable(f"values of trial {trial.number}: {trial.values!r}")
        if unknown := trial.params.keys() - parameters:
            raise _unreadable(f"parameters of trial {trial.number}: {', '.join(sorted(unknown))}")
        for name in _FORMS.keys() & trial.user_attrs.keys():
            if not _FORMS[name](trial.user_attrs[name]):
                raise _unreadable(f"{name} of trial {trial.number}: {trial.user_attrs[name]!r}")
    return trials


def _unreadable(reason: str) -> ConfigError:
    hint = "restore the database, or start a new sweep"
    return ConfigError(Problem("SWEEP", f"the sweep's database is invalid: {reason[:300]}", hint))
