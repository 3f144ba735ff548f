"""Search space of a sweep: parameters in Hydra's sweep grammar, and the overrides of each point."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from hydratune.config.composition import Request, force_add
from hydratune.utils.errors import ConfigError, Mistake, did_you_mean, one_of

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

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
        numbers = [one for one in labels if isinstance(one, int | float) and not isinstance(one, bool)]
        if self.log or not numbers or len(numbers) < len(labels):
            return self.log
        has_floats = any(isinstance(one, float) for one in numbers)  # e.g. seeds are whole
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


def format_value(label: Label) -> str:
    """Format a label for a table or a name."""
    return f"{label:.3g}" if isinstance(label, float) else _text(label)


def short(name: str) -> str:
    """Return the last part of a parameter's keys: `learning_rate` for `trainer.args.learning_rate`."""
    return "+".join(key.rpartition(".")[2] for key in name.split("+"))


@dataclass(frozen=True)
class Space:
    """Search space: parameters in the order in which they were named, but conditional ones last."""

    parameters: tuple[Parameter, ...]

    def overrides(self, point: Point) -> list[str]:
        """Return the overrides of a point."""
        return [text for one in self.parameters if one.name in point for text in one.overrides(point[one.name])]

    def grid(self) -> list[dict[str, Label]]:
        """Return each point once, in the order of Hydra's basic sweeper.

        Raises:
            ConfigError: If a parameter is a range without steps.
        """
        if endless := [one for one in self.parameters if not one.labels]:
            raise ConfigError(*(_endless(one) for one in endless))
        points: dict[tuple[tuple[str, Label], ...], dict[str, Label]] = {}
        for labels in itertools.product(*(one.labels for one in self.parameters)):
            whole = {one.name: label for one, label in zip(self.parameters, labels, strict=True)}
            point = {one.name: whole[one.name] for one in self.parameters if _counts(one, whole)}
            points.setdefault(tuple(point.items()), point)
        return list(points.values())

    def corners(self) -> list[dict[str, Label]]:
        """Return a few points that contain each choice and each end of a range at least once."""
        wide = max((len(one.corners()) for one in self.parameters), default=0)
        wholes = [{p.name: p.corners()[min(i, len(p.corners()) - 1)] for p in self.parameters} for i in range(wide)]
        return [{one.name: whole[one.name] for one in self.parameters if _counts(one, whole)} for whole in wholes]

    def suggest(self, trial: BaseTrial) -> dict[str, Label]:
        """Return the point that the study's sampler draws, or drew before, for a trial."""
        point: dict[str, Label] = {}
        for one in self.parameters:
            if _counts(one, point):
                point[one.name] = one.suggest(trial)
        return point


def _counts(parameter: Parameter, point: Point) -> bool:
    """Return whether a parameter is active in a point that has the values of all parameters before it."""
    return parameter.only_if is None or point.get(parameter.only_if[0]) in parameter.only_if[1]


def _endless(parameter: Parameter) -> Mistake:
    got, fix = (
        f"all numbers from {parameter.low:g} to {parameter.high:g}",
        "Search them with sweep=tpe sweep.n_trials=30.",
    )
    return Mistake(parameter.name, "values that a grid can have", got, fix)


# --- from overrides --------------------------------------------------------------------------------------


def read_space(request: Request, zipped: Sequence[Sequence[str]], conditions: Mapping[str, str]) -> Space:
    """Return the search space of the sweep overrides of a request, inside `composer`.

    Args:
        request: Request with the typed overrides.
        zipped: Lists of keys whose values are zipped.
        conditions: Key -> `KEY=VALUE` or `KEY=A,B` of another parameter; the key is active only with these values.

    Raises:
        ConfigError: If overrides, zipped keys, or conditions are invalid; it lists all errors.
    """
    found: dict[str, Parameter] = {}
    for override, text in zip(request.parsed, force_add(request), strict=True):
        if override.is_sweep_override() and not override.key_or_group.startswith("hydra"):
            one = _parameter(override, text)
            found[one.name] = one
    mistakes = [*_together(found, zipped), *_on_condition(found, conditions)]
    if not found and not mistakes:
        fix = "Give a key several values: hydratune -m trainer.args.learning_rate=1e-5,3e-5."
        mistakes.append(Mistake("-m", "something to sweep", "none", fix))
    mistakes += [
        Mistake(one.name, "numbers above 0 on a logarithmic scale", f"{one.low:g}", "Raise the lower end.")
        for one in found.values()
        if one.log and one.low <= 0
    ]
    if mistakes:
        raise ConfigError(*mistakes)
    return Space(tuple(sorted(found.values(), key=lambda one: one.only_if is not None)))


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
        numbers = [float(one) for one in texts]
        whole = all(number.is_integer() for number in numbers) and "." not in "".join(texts)
        low, high = min(numbers), max(numbers)
        return Parameter((key,), (prefix,), low=low, high=high, step=abs(numbers[1] - numbers[0]), whole=whole)
    return Parameter((key,), (prefix,), choices=tuple((one,) for one in texts))


def _together(found: dict[str, Parameter], zipped: Sequence[Sequence[str]]) -> Iterator[Mistake]:
    """Replace zipped parameters by one parameter each, and yield the errors of invalid lists."""
    for keys in zipped:
        parts = [found.get(key) for key in keys]
        for key, part in zip(keys, parts, strict=True):
            if part is None or not part.labels:
                fix = did_you_mean(key, found, f"Give it several values: {key}=A,B.")
                yield Mistake("sweep.zip", "keys that have a list of values", repr(key), fix)
        known = [part for part in parts if part is not None and part.labels]
        if len(known) < len(keys):
            continue
        if len({len(part.labels) for part in known}) > 1 or len(keys) < 2:
            got = ", ".join(f"{len(part.labels)} of {part.name}" for part in known)
            yield Mistake("sweep.zip", "two or more keys with as many values each", got, "Give each as many values.")
            continue
        texts = [[one[0] for one in p.choices] if p.choices else [_text(label) for label in p.labels] for p in known]
        joined = Parameter(
            tuple(part.keys[0] for part in known), tuple(p.prefix[0] for p in known), tuple(zip(*texts, strict=True))
        )
        place = list(found).index(keys[0])
        rest = [one for name, one in found.items() if name not in keys]
        before = sum(name not in keys for name in list(found)[:place])
        found.clear()
        found.update({one.name: one for one in [*rest[:before], joined, *rest[before:]]})


def _on_condition(found: dict[str, Parameter], conditions: Mapping[str, str]) -> Iterator[Mistake]:
    """Mark the conditional parameters, and yield the errors of invalid conditions."""
    for key, condition in conditions.items():
        other, _, values = condition.partition("=")
        for name in (key, other):
            if name not in found:
                yield Mistake("sweep.conditions", one_of(found), repr(name), did_you_mean(name, found, "Sweep it too."))
        if key not in found or other not in found:
            continue
        if found[other].only_if or key == other:
            got = f"{key} if {condition}"
            yield Mistake("sweep.conditions", "a key that always counts", got, "Name the key that the others hang on.")
            continue
        wanted = tuple(_label((value.strip(),)) for value in values.split(","))
        labels = found[other].labels
        for label in wanted:
            if label not in labels:
                yield Mistake("sweep.conditions", f"{other}: {one_of(labels)}", repr(label), "Name one of its values.")
        found[key] = replace(found[key], only_if=(other, wanted))
