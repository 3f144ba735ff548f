"""Real data that is no part of the project; skipped where it is absent."""

from pathlib import Path

import pytest

MRPC = Path(__file__).parents[2] / "shared" / "data" / "mrpc"


@pytest.mark.slow
@pytest.mark.skipif(not MRPC.is_dir(), reason=f"needs {MRPC}")
def test_pairs_of_mrpc(train):
    """MRPC's own files and the demo model, by yaml and command line alone: pairs, label names, test accuracy and F1."""
    files = [f"dataset.files.{split}={MRPC / split}.jsonl" for split in ("train", "validation", "test")]
    columns = ["dataset.columns.text=sentence1", "dataset.columns.text_pair=sentence2"]
    names = "dataset.labels=[not_equivalent,equivalent]"
    result = train("dataset=local", *files, *columns, names, "dataset.limit.test=256", "trainer.args.max_steps=10")
    assert {"test_accuracy", "test_f1"} <= set(result.metrics)
    assert result.metrics["test_accuracy"] > 0.5
    assert '"equivalent"' in (result.directory / "predictions.jsonl").read_text()
