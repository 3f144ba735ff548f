"""Search space of a sweep: parameters in Hydra's sweep grammar, and the overrides of each point."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from hydratune.config.composition import Request, force_add
from hydratune.utils.errors import KEY, ConfigError, Problem, similar

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_MOST_STEPS = 10**9  # of a range
_SEVERAL = "give a key several values, e.g. hydratune -m trainer.args.learning_rate=1e-5,3e-5"
Label = bool | int | float | str
Point = Mapping[str, Label]  # parameter -> its label or number


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search space.

    Args:
        keys: Config keys; several keys whose values are zipped are one parameter.
        prefix: Prefix of the override of each key: `++` for values, empty for config groups.
        choices: Override texts of each choice, one per key; empty for a range of numbers.
        low: Lowest number of a range.
        high: Highest number of a range, inclusive.
        step: Step between the numbers of a range; None for any number in between.
        log: Whether the range is log-uniform.
        whole: Whether the numbers are integers.
        only_if: Another parameter, and its labels with which this parameter is active; None if it always is.
    """

    keys: tuple[str, ...]
    prefix: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False
    only_if: tuple[str, tuple[Label, ...]] | None = None

    def is_valid(self) -> bool:
        """Return whether the values fit each other, as in each parameter of `read_space`."""
        if not self.keys or len(self.prefix) != len(self.keys) or {*self.prefix} - {"", "+", "++"}:
            return False
        if self.choices:
            return all(len(texts) == len(self.keys) for texts in self.choices)
        if self.step is not None and not (self.step > 0 and (self.high - self.low) / self.step <= _MOST_STEPS):
            return False
        return -math.inf < self.low <= self.high < math.inf and (not self.log or self.low > 0)

    @property
    def name(self) -> str:
        """Name in the study and in tables."""
        return "+".join(self.keys)

    @property
    def labels(self) -> list[Label]:
        """Labels of the choices (numbers, booleans, or texts), or numbers of a range with steps; empty otherwise."""
        if self.choices:
            return [_label(texts) for texts in self.choices]
        if self.step is None:
            return []
        count = round((self.high - self.low) / self.step) + 1
        return [self._number(self.low + i * self.step) for i in range(count)]

    @property
    def is_logarithmic(self) -> bool:
        """Return whether charts show the logarithms: for a log-uniform range, or choices such as 1e-5, 1e-4, 1e-3."""
        labels = self.labels if self.choices else []
        numbers = [label for label in labels if isinstance(label, int | float) and not isinstance(label, bool)]
        if self.log or not numbers or len(numbers) < len(labels):
            return self.log
        has_floats = any(isinstance(label, float) for label in numbers)  # e.g. seeds are whole
        return has_floats and min(numbers) > 0 and max(numbers) > 10 * min(numbers)

    def overrides(self, label: Label) -> list[str]:
        """Return the overrides of a label or a number."""
        texts = self.choices[self.labels.index(label)] if self.choices else (_text(label),)
        return [f"{prefix}{key}={text}" for prefix, key, text in zip(self.prefix, self.keys, texts, strict=True)]

    def suggest(self, trial: BaseTrial) -> Label:
        """Return the value that the study's sampler draws, or drew before."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.labels)  # type: ignore[return-value]
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def corners(self) -> list[Label]:
        """Return the labels that test whether all labels compose: each choice, or the ends of a range."""
        return self.labels if self.choices else [self._number(self.low), self._number(self.high)]

    def _number(self, value: float) -> Label:
        return int(value) if self.whole else float(f"{value:.12g}")


def _with_commas(overrides: Iterable[str]) -> Iterator[str]:
    """Yield a hint for each override whose numbers are separated by spaces."""
    for override in overrides:
        key, _, value = override.partition("=")
        words = value.split()
        if len(words) > 1 and all(re.fullmatch(r"[+-]?\d[\w.+-]*", word) for word in words):
            yield f"separate values by commas: {key}={','.join(words)}"


def _label(texts: Sequence[str]) -> Label:
    if len(texts) > 1:
        return ", ".join(texts)
    (text,) = texts
    if text[:1] in ("'", '"'):
        return text[1:-1]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(label: Label) -> str:
    return str(label).lower() if isinstance(label, bool) else repr(label) if isinstance(label, float) else str(label)


@dataclass(frozen=True)
class Space:
    """Search space: parameters in the order in which they were named, but conditional ones last."""

    parameters: tuple[Parameter, ...]

    def overrides(self, point: Point) -> list[str]:
        """Return the overrides of a point."""
        return [text for p in self.parameters if p.name in point for text in p.overrides(point[p.name])]

    def grid(self) -> list[dict[str, Label]]:
        """Return each point once, in the order of Hydra's basic sweeper.

        Raises:
            ConfigError: If a parameter is a range without steps.
        """
        if endless := [p for p in self.parameters if not p.labels]:
            raise ConfigError(*(_endless(p) for p in endless))
        points: dict[tuple[tuple[str, Label], ...], dict[str, Label]] = {}
        for labels in itertools.product(*(p.labels for p in self.parameters)):
            full_point = {p.name: label for p, label in zip(self.parameters, labels, strict=True)}
            point = {p.name: full_point[p.name] for p in self.parameters if _counts(p, full_point)}
            points.setdefault(tuple(point.items()), point)
        return list(points.values())

    def corners(self) -> list[dict[str, Label]]:
        """Return a few points that contain each choice and each end of a range at least once."""
        count = max((len(p.corners()) for p in self.parameters), default=1)
        points = [{p.name: p.corners()[min(i, len(p.corners()) - 1)] for p in self.parameters} for i in range(count)]
        return [{p.name: point[p.name] for p in self.parameters if _counts(p, point)} for point in points]

    def suggest(self, trial: BaseTrial) -> dict[str, Label]:
        """Return the point that the study's sampler draws, or drew before, for a trial."""
        point: dict[str, Label] = {}
        for parameter in self.parameters:
            if _counts(parameter, point):
                point[parameter.name] = parameter.suggest(trial)
        return point


def _counts(parameter: Parameter, point: Point) -> bool:
    """Return whether a parameter is active in a point that has the values of all parameters before it."""
    return parameter.only_if is None or point.get(parameter.only_if[0]) in parameter.only_if[1]


def _endless(parameter: Parameter) -> Problem:
    text = f"a grid needs discrete values, but {KEY} is a range from {parameter.low:g} to {parameter.high:g}"
    return Problem(parameter.name, text, "set sweep=tpe sweep.n_trials=30")


# --- from overrides --------------------------------------------------------------------------------------


def read_space(
    request: Request,
    zipped: Sequence[Sequence[str]],
    conditions: Mapping[str, str],
    may_be_empty: bool = False,
) -> Space:
    """Return the search space of the sweep overrides of a request, inside `composer`.

    Args:
        request: Request with the typed overrides.
        zipped: Lists of keys whose values are zipped.
        conditions: Key -> `KEY=VALUE` or `KEY=A,B` of another parameter; the key is active only with these values.
        may_be_empty: Whether a single configuration is a sweep, as with folds.

    Raises:
        ConfigError: If overrides, zipped keys, or conditions are invalid; it lists all errors.
    """
    parameters: dict[str, Parameter] = {}
    for override, text in zip(request.parsed, force_add(request), strict=True):
        if override.is_sweep_override() and not override.key_or_group.startswith("hydra"):
            parameter = _parameter(override, text)
            parameters[parameter.name] = parameter
    problems = [*_together(parameters, zipped), *_on_condition(parameters, conditions)]
    problems += _not_sweepable(parameters)
    if not parameters and not problems and not may_be_empty:
        hint = next(_with_commas(request.overrides), _SEVERAL)
        problems.append(Problem("-m", "-m needs a key to sweep", hint))
    problems += [
        Problem(parameter.name, f"the log-uniform range of {KEY} must start above 0, not at {parameter.low:g}")
        for parameter in parameters.values()
        if parameter.log and parameter.low <= 0
    ]
    if problems:
        raise ConfigError(*problems)
    return Space(tuple(sorted(parameters.values(), key=lambda parameter: parameter.only_if is not None)))


def _not_sweepable(parameters: Mapping[str, Parameter]) -> Iterator[Problem]:
    """Yield an error for each key that has one value for all trials: how folds are made, and options of the sweep."""
    for name in ("cv.fold", "cv.folds", "cv.repeat", "cv.repeats"):
        if name in parameters:
            yield Problem(name, f"{KEY} cannot be swept", "set cv.folds=5 to train each configuration on all folds")
    for name, parameter in parameters.items():
        if any(key == "sweep" or key.startswith("sweep.") for key in parameter.keys):
            values = ",".join(map(str, parameter.labels))
            seeds_hint = f"train each trial with several seeds: '{KEY}=[{values}]'"
            hint = seeds_hint if name == "sweep.seeds" else "give it one value"
            yield Problem(name, f"{KEY} is an option of the sweep and cannot be swept", hint)


def _parameter(override: Override, text: str) -> Parameter:
    """Return the parameter of an override; a range with equal steps stays one, since samplers can use its order."""
    key, value = override.key_or_group, override.value()
    prefix = text[: text.index(key)]
    if isinstance(value, IntervalSweep):
        low, high = value.start or 0, value.end or 0
        whole = isinstance(low, int) and isinstance(high, int)
        return Parameter((key,), (prefix,), low=low, high=high, log="log" in value.tags, whole=whole)
    texts = list(dict.fromkeys(override.sweep_string_iterator()))
    if isinstance(value, RangeSweep) and len(texts) > 1 and not value.shuffle:
        numbers = [float(choice) for choice in texts]
        whole = all(number.is_integer() for number in numbers) and "." not in "".join(texts)
        low, high = min(numbers), max(numbers)
        return Parameter((key,), (prefix,), low=low, high=high, step=abs(numbers[1] - numbers[0]), whole=whole)
    return Parameter((key,), (prefix,), choices=tuple((choice,) for choice in texts))


def _together(parameters: dict[str, Parameter], zipped: Sequence[Sequence[str]]) -> Iterator[Problem]:
    """Replace zipped parameters by one parameter each, and yield the errors of invalid lists."""
    for keys in zipped:
        members = [parameters.get(key) for key in keys]
        for key, member in zip(keys, members, strict=True):
            if member is None or not member.labels:
                text = f"{key!r} in {KEY} " + ("is not swept" if member is None else "is a range, not a list of values")
                yield Problem("sweep.zip", text, _sweep_it_too(key, parameters if member is None else ()))
        valid = [member for member in members if member is not None and member.labels]
        if len(valid) < len(keys):
            continue
        if len(keys) < 2:
            yield Problem("sweep.zip", f"{KEY} has the key {', '.join(keys)} alone in a list", "add a second key to it")
            continue
        if len({len(member.labels) for member in valid}) > 1:
            counts = ", ".join(f"{member.name} has {len(member.labels)}" for member in valid)
            hint = "give each key the same number of values"
            yield Problem("sweep.zip", f"the keys in {KEY} have different numbers of values: {counts}", hint)
            continue
        texts = [
            [choice[0] for choice in p.choices] if p.choices else [_text(label) for label in p.labels] for p in valid
        ]
        joined = Parameter(
            tuple(member.keys[0] for member in valid),
            tuple(p.prefix[0] for p in valid),
            tuple(zip(*texts, strict=True)),
        )
        index = list(parameters).index(keys[0])
        others = [parameter for name, parameter in parameters.items() if name not in keys]
        n_before = sum(name not in keys for name in list(parameters)[:index])
        parameters.clear()
        parameters.update({parameter.name: parameter for parameter in [*others[:n_before], joined, *others[n_before:]]})


def _on_condition(parameters: dict[str, Parameter], conditions: Mapping[str, str]) -> Iterator[Problem]:
    """Mark the conditional parameters, and yield the errors of invalid conditions."""
    for key, condition in conditions.items():
        other, _, values = condition.partition("=")
        for name in (key, other):
            if name not in parameters:
                yield Problem("sweep.conditions", f"{name!r} in {KEY} is not swept", _sweep_it_too(name, parameters))
        if key not in parameters or other not in parameters:
            continue
        if parameters[other].only_if or key == other:
            reason = "depends on itself" if key == other else f"depends on {other}, which is conditional itself"
            yield Problem(
                "sweep.conditions", f"{key} in {KEY} {reason}", "use a condition on a key that is always active"
            )
            continue
        active_labels = tuple(_label((value.strip(),)) for value in values.split(","))
        labels = parameters[other].labels
        for label in active_labels:
            if label not in labels:
                text = f"{other} has no value {label!r}, which {KEY} names"
                yield Problem("sweep.conditions", text, similar("value", label, map(str, labels)))
        parameters[key] = replace(parameters[key], only_if=(other, active_labels))


def _sweep_it_too(key: str, parameters: Iterable[str]) -> str:
    """Return the hint for a key that has no list of values."""
    return similar("swept key", key, parameters, f"give it several values: {key}=A,B")
