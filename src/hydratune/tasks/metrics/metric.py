"""Definition of a metric: its function, the direction that is better, and the range of its values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydratune.config.configurable import Configurable
from hydratune.config.signatures import signature
from hydratune.utils.errors import ConfigError, Mistake, Problem, did_you_mean, one_of

# Names that Trainer reports by itself.
RESERVED = ("loss", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
PREDICTIONS, REFERENCES = "predictions", "references"
SCORES = "scores"  # probabilities, which predictions.jsonl does not hold


@dataclass(frozen=True, kw_only=True)
class Metric(Configurable):
    """Definition of a metric. The direction and the range are stored here and nowhere else.

    Args:
        name: Name, reported as `eval_NAME` and `test_NAME`; a metric of `task.extra_metrics` gets its key as name.
        function: Function from its inputs, by keyword, to a number; None if a task computes the metric with others.
        higher_is_better: Whether higher values are better; False for errors and losses.
        low: Lowest possible value.
        high: Highest possible value.
        inputs: Parameter of the function -> input of the task, from `Task.metric_inputs`.

    Example:
        >>> def error_rate(predictions, references):
        ...     pairs = list(zip(predictions, references, strict=True))
        ...     return sum(a != b for a, b in pairs) / len(pairs)
        >>> metric = Metric(name="error_rate", function=error_rate, higher_is_better=False, low=0, high=1)
        >>> metric.compute({"predictions": [0, 1], "references": [0, 0]})
        0.5
    """

    name: str = ""
    function: Any = None
    higher_is_better: bool = True
    low: float = -math.inf
    high: float = math.inf
    inputs: dict[str, str] = field(default_factory=lambda: {PREDICTIONS: PREDICTIONS, REFERENCES: REFERENCES})

    @property
    def is_share(self) -> bool:
        """Return whether values are shares from 0 to 1, whose differences are shown in percentage points."""
        return (self.low, self.high) == (0, 1)

    @property
    def direction(self) -> str:
        """Direction as in an Optuna study: `maximize` or `minimize`."""
        return "maximize" if self.higher_is_better else "minimize"

    def is_better(self, value: float, other: float) -> bool:
        """Return whether `value` is strictly better than `other`."""
        return value > other if self.higher_is_better else value < other

    def clip(self, value: float) -> float:
        """Return the value, limited to the range of the metric."""
        return min(max(value, self.low), self.high)

    def compute(self, inputs: Mapping[str, Any]) -> float:
        """Return the value of the metric over a whole split.

        Args:
            inputs: Name of an input -> its values; those that the function does not take are ignored.

        Raises:
            ConfigError: If the function does not return a number.
        """
        value = self.function(**{parameter: inputs[source] for parameter, source in self.inputs.items()})
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            fix = "Return one number for the whole split."
            key = f"task.extra_metrics.{self.name}.function"
            raise ConfigError(Mistake(key, "a function that returns a number", repr(value), fix)) from error

    def check(self, available: Iterable[str]) -> Iterator[Problem]:
        """Yield the errors of a metric of `task.extra_metrics`, whose function may still be a node of the config.

        Args:
            available: Inputs that the task has.
        """
        for parameter, source in self.inputs.items():
            if source not in available:
                fix = did_you_mean(source, available, "Name an input of the task.")
                yield Mistake(f"inputs.{parameter}", one_of(available), repr(source), fix)
        if self.low >= self.high:
            yield Mistake("low", f"a number below high ({self.high})", repr(self.low), "Lower it.")
        if not isinstance(self.function, Mapping):
            if not callable(self.function):
                fix = "Set function to {_target_: my_package.my_metric, _partial_: true}."
                yield Mistake("function", "a node with a _target_", repr(self.function), fix)
        elif self.function.get("_partial_") is not True:
            fix = "Set function._partial_=true: the task calls it."
            yield Mistake("function._partial_", "true", repr(self.function.get("_partial_")), fix)
        else:
            yield from self._check_signature(self.function)

    def _check_signature(self, node: Mapping[str, Any]) -> Iterator[Problem]:
        """Compare the parameters of the function with `inputs` and the arguments of its node."""
        function_signature = signature(str(node.get("_target_")))
        if function_signature is None:
            return
        for parameter in self.inputs:
            if parameter not in function_signature.parameters and not function_signature.accepts_any:
                params = [name for name in function_signature.parameters if name not in node]
                fix = f"Map parameters to inputs, e.g. inputs={{{params[0] if params else 'y_pred'}: predictions}}."
                yield Mistake("inputs", f"parameters of {function_signature.path}: {params}", repr(parameter), fix)
        for name, argument in function_signature.parameters.items():
            if argument.required and not name.startswith("*") and name not in (*self.inputs, *node):
                fix = f"Set function.{name}=VALUE, or map it to an input in inputs."
                yield Mistake(f"function.{name}", "a value", "none", fix)


def is_valid_name(name: object) -> bool:
    """Return whether a metric may have this name: trackers, overrides, and Trainer must accept it."""
    return isinstance(name, str) and bool(re.fullmatch(r"[A-Za-z]\w*", name)) and name not in RESERVED


def share(name: str, function: Callable[..., Any] | None = None) -> Metric:
    """Return a metric from 0 to 1; higher is better."""
    return Metric(name=name, function=function, low=0, high=1)


def percentage(name: str, function: Callable[..., Any] | None = None) -> Metric:
    """Return a metric from 0 to 100; higher is better."""
    return Metric(name=name, function=function, low=0, high=100)


def correlation(name: str, function: Callable[..., Any] | None = None) -> Metric:
    """Return a metric from -1 to 1; higher is better."""
    return Metric(name=name, function=function, low=-1, high=1)


def error(name: str, function: Callable[..., Any] | None = None, low: float = 0) -> Metric:
    """Return a metric without an upper bound; lower is better."""
    return Metric(name=name, function=function, higher_is_better=False, low=low)


LOSS = error("loss")  # of training and evaluation, in any task
