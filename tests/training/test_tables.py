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


def test_write_draws_many_labels(tmp_path):
    """77 labels have plots of those with the most errors; the csv files have all."""
    names = [f"label {i}" for i in range(77)]
    made = one_label(names * 2, [*names, *names[1:], names[0]], names)
    files = {path.name: path for path in tables.write(made, tmp_path / "tables")}
    assert len(files) == 4
    assert len(pd.read_csv(files["confusion_matrix.csv"])) == 77


def test_confusion_matrix_is_colored_by_shares():
    """A rare label is as dark as a frequent one; cells without rows have no text."""
    made = one_label(["a"] * 90 + ["b"] * 2, ["a"] * 90 + ["b", "a"], ["a", "b"])
    axes = tables.draw_matrix(made["confusion_matrix"])
    assert axes.images[0].get_array().tolist() == [[1, 0], [0.5, 0.5]]
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "90"),
        ((0, 1), "1"),
        ((1, 1), "1"),
    }
