"""Tables and plots by label."""

import pandas as pd
import pytest
from sklearn.metrics import ConfusionMatrixDisplay

from hydratune.tasks.metrics.tables import one_label
from hydratune.training import tables


@pytest.mark.parametrize(
    "names",
    [["$", "$$", "$$$"], ["$a$b", "[bold]", "{}"], ["<b>", "a\\$", "_"], ["x" * 300 + "1", "x" * 300 + "2", "日本"]],
)
def test_write_draws_any_label(names, tmp_path):
    """Each table becomes a csv and a plot; the csv has the labels as they are."""
    made = one_label([*names, names[0]], [*names, names[1]], names)
    files = {path.name: path for path in tables.write(made, tmp_path / "tables")}
    assert {*files} == {f"{name}.{kind}" for name in ("confusion_matrix", "per_label") for kind in ("csv", "png")}
    assert list(pd.read_csv(files["per_label.csv"], index_col="label").index) == names
    assert all(files[f"{name}.png"].read_bytes().startswith(b"\x89PNG") for name in made)


def test_write_continues_after_failed_plot(tmp_path, monkeypatch, caplog):
    """A plot that cannot be drawn leaves no file, and the other files are written."""
    monkeypatch.setattr(ConfusionMatrixDisplay, "plot", lambda *_, **__: 1 / 0)
    made = one_label(["a", "b"], ["a", "a"], ["a", "b"])
    files = [path.name for path in tables.write(made, tmp_path / "tables")]
    assert files == ["confusion_matrix.csv", "per_label.csv", "per_label.png"]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == files
    assert "tables/confusion_matrix.png" in caplog.text
