"""What a user sees while a run trains."""

import io
from types import SimpleNamespace

import pytest
from tqdm.auto import tqdm

from hydratune.training.trainer.callbacks import Progress, closing_bars


def test_error_begins_on_a_line_of_its_own():
    """A bar that is open when training fails ends its line."""
    progress, terminal = Progress(), io.StringIO()
    progress.training_bar = tqdm(total=3, file=terminal)
    progress.training_bar.update()
    trainer = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[progress]))
    with pytest.raises(RuntimeError), closing_bars(trainer):
        raise RuntimeError
    assert terminal.getvalue().endswith("\n")
    assert progress.training_bar is None
