"""Reading of `calibration.json`: every number is checked, since a wrong one would give wrong probabilities."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hydratune.tasks.calibration import FILE, LOG_TEMPERATURES, Calibrator, Isotonic, Temperature
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.stored_files import StoredFileError, parse_stored, read_regular

_LOW, _HIGH = (math.exp(limit) for limit in LOG_TEMPERATURES)
_Divisor = Annotated[float, Field(ge=_LOW, le=_HIGH, allow_inf_nan=False)]
_Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Axis = tuple[_Probability, ...]


@dataclass(frozen=True)
class _Form:
    """Values of the file; `method` is null if the fit was skipped, and decides which of the others it needs."""

    method: Literal["temperature", "isotonic"] | None
    is_multi_label: bool | None = None
    temperature: _Divisor | None = None
    curves: tuple[tuple[_Axis, _Axis], ...] | None = None


def read(folder: Path, num_labels: int, is_multi_label: bool) -> Calibrator | None:
    """Return the calibrator in the folder of a model; None if the fit was skipped.

    Args:
        folder: Folder of the model.
        num_labels: Number of labels of the model.
        is_multi_label: Whether each label of the model has its own probability.

    Raises:
        ConfigError: There is no file, or it does not have the values of a fit.
    """
    source = os.path.relpath(folder / FILE)
    hint = "restore the file from a backup, or train the model again"
    try:
        return parse(read_regular(folder / FILE), num_labels, is_multi_label)
    except OSError as error:
        text = "cannot read the file, with which the probabilities of the model are calibrated"
        raise ConfigError(Problem("RUN", text, hint, source)) from error
    except StoredFileError as error:
        raise ConfigError(Problem("RUN", f"not a calibration of this model: {error}", hint, source)) from error


def parse(text: str | bytes, num_labels: int, is_multi_label: bool) -> Calibrator | None:
    """Return the calibrator of a JSON document; see `read`.

    Raises:
        StoredFileError: The document does not have the values of a fit; the message names the first wrong one.
    """
    form = parse_stored(text, _Form)
    if form.method is None:
        return None
    if form.is_multi_label is not is_multi_label:
        raise StoredFileError(f"is_multi_label must be {str(is_multi_label).lower()} for this task")
    if form.method == Temperature.method and form.temperature is not None:
        return Temperature(is_multi_label, form.temperature)
    if form.method == Isotonic.method and form.curves is not None:
        for problem in _curve_problems(form.curves, num_labels, is_multi_label):
            raise StoredFileError(problem)
        return Isotonic(is_multi_label, form.curves)
    raise StoredFileError(f"method {form.method} lacks its values")


def _curve_problems(curves: Sequence[tuple[_Axis, _Axis]], num_labels: int, is_multi_label: bool) -> Iterator[str]:
    if len(curves) != num_labels:
        yield f"the number of curves must be {num_labels}, the number of labels, not {len(curves)}"
    for label, (x, y) in enumerate(curves):
        if len(x) != len(y):
            yield f"curves.{label} must have as many values as probabilities"
        if any(left >= right for left, right in pairwise(x)) or any(low > high for low, high in pairwise(y)):
            yield f"curves.{label} must increase"
    if num_labels == 2 and not is_multi_label and curves[0][0]:
        yield "curves.0 must be empty: of two labels, only the second has a curve"
