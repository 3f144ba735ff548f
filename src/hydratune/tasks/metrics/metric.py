"""Definition of a metric: its function, the direction that is better, and the range of its values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydratune.config.configurable import Configurable
from hydratune.config.signatures import signature
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value, one_line, similar

# Names that Trainer reports by itself.
RESERVED = ("loss", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
# Inputs of metrics. All have one value per row, except the matrix `scores` and the settings of the last line.
PREDICTIONS, REFERENCES = "predictions", "references"
CONFIDENCES = "confidences"  # probability of the prediction
TRUE_PROBABILITIES = "true_probabilities"  # probability of the true label
SQUARED_ERRORS = "squared_errors"  # sum over labels of the squared differences of probabilities to 0 or 1
RANKS = "ranks"  # number of labels that are more probable than the true one
SCORES = "scores"  # (rows, labels) probabilities
LABEL_NAMES, TOP_K = "label_names", "top_k"
# Inputs that need the probabilities of all labels.
OF_PROBABILITIES = (TRUE_PROBABILITIES, SQUARED_ERRORS, RANKS, SCORES)


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
    def needs_confidences(self) -> bool:
        """Return whether the metric needs the probabilities of the predictions, or those of all labels."""
        return CONFIDENCES in self.inputs.values() or self.needs_all_probabilities

    @property
    def needs_all_probabilities(self) -> bool:
        """Return whether the metric needs the probabilities of all labels."""
        return not {*self.inputs.values()}.isdisjoint(OF_PROBABILITIES)

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
            text = f"{KEY} must return one number for the whole split, not {one_line(repr(value), 100)}"
            raise ConfigError(Problem(f"task.extra_metrics.{self.name}.function", text)) from error

    def check(self, available: Iterable[str]) -> Iterator[Problem]:
        """Yield the errors of a metric of `task.extra_metrics`, whose function may still be a node of the config.

        Args:
            available: Inputs that the task has.
        """
        for parameter, source in self.inputs.items():
            if source not in available:
                text = f"{KEY}: the task has no input {source!r}"
                yield Problem(f"inputs.{parameter}", text, similar("input", source, available))
        if self.low >= self.high:
            yield invalid_value("low", f"below {NODE}high ({self.high})", self.low)
        if not isinstance(self.function, Mapping):
            if not callable(self.function):
                hint = f"set {KEY} to {{_target_: my_package.my_metric, _partial_: true}}"
                yield invalid_value("function", "a node with a _target_", repr(self.function), hint)
        elif self.function.get("_partial_") is not True:
            text = f"{KEY}=true is required, since the task calls the function"
            yield Problem("function._partial_", text, f"set {KEY}=true")
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
                text = f"{KEY} passes {parameter!r}, but {function_signature.path} has the parameters {params}"
                hint = f"map parameters to inputs of the task, e.g. {KEY}={{{''.join(params[:1])}: predictions}}"
                yield Problem("inputs", text, hint if params else "")
        for name, argument in function_signature.parameters.items():
            if argument.required and not name.startswith("*") and name not in (*self.inputs, *node):
                hint = f"set {KEY}=VALUE, or map {name} to an input of the task in {NODE}inputs"
                yield Problem(f"function.{name}", f"{KEY} is required by {function_signature.path}", hint)


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
