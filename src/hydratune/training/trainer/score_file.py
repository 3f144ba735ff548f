"""Temporary file for the probabilities of an evaluation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.tasks.metrics.metric import SCORES

if TYPE_CHECKING:
    from transformers import EvalPrediction


class ScoreFile:
    """The (rows, labels) matrix that metrics such as ROC-AUC need, in a file instead of in memory.

    Upstream joins the outputs of all batches in memory, and copies them for each batch. The file has no name, so that
    nothing is left of it even if the process is killed. The values are float32: float16 would round probabilities near
    1 to equal ones, which changes areas under curves.

    Args:
        directory: Directory of the file; if it does not exist, its first parent that does.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = next(path for path in (directory, *directory.absolute().parents) if path.is_dir())
        self._file: Any = None
        self._labels = 0

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:  # the matrix remains readable
            self._file.close()

    def take(self, outputs: Any) -> Any:
        """Move the `scores` of a batch, if it has any, to the file; return the other outputs."""
        if not isinstance(outputs, dict) or SCORES not in outputs:
            return outputs
        scores = outputs[SCORES].float().contiguous().cpu().numpy()
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 (see `__exit__`)
            self._labels = scores.shape[1]
        self._file.write(scores.data)
        return {name: values for name, values in outputs.items() if name != SCORES}

    def completing(self, compute_metrics: Callable[[EvalPrediction], Any]) -> Callable[[EvalPrediction], Any]:
        """Return a function that adds the matrix to the predictions, and then computes the metrics."""

        def compute(prediction: EvalPrediction) -> Any:
            import numpy as np

            if self._file is not None:
                self._file.flush()
                shape = (-1, self._labels)
                prediction.predictions[SCORES] = np.memmap(self._file, np.float32, mode="r").reshape(shape)
            return compute_metrics(prediction)

        return compute
