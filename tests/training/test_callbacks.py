"""What a user sees while a run trains."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
from tqdm.auto import tqdm

from hydratune.training.run_params import schedule
from hydratune.training.trainer.callbacks import (
    PreemptionCallback,
    Progress,
    ProgressLines,
    closing_bars,
    progress_callback,
)


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


@pytest.mark.parametrize("is_asked", [True, False])
def test_process_says_if_another_one_was_asked_to_stop(is_asked, monkeypatch, caplog):
    """All processes of a run stop at the same step; those without a signal say why."""
    caplog.set_level("INFO")
    monkeypatch.setattr("torch.distributed.all_reduce", lambda flag, _: flag.fill_(1))
    monkeypatch.setattr("hydratune.utils.signals.stop_requested", lambda: is_asked)
    monkeypatch.setattr("hydratune.utils.signals.end", sys.exit)
    args = SimpleNamespace(world_size=2, device="cpu")
    state, control = SimpleNamespace(global_step=7, epoch=0.5), SimpleNamespace(should_training_stop=False)
    callback = PreemptionCallback(None)
    callback.on_step_end(args, state, control)
    assert control.should_save
    with pytest.raises(SystemExit):
        callback.on_save(args, state, control)
    assert ("another process" in caplog.text) is not is_asked


def test_progress_lines_log_losses_and_evaluations(caplog):
    """Each log has the step and its values, without a bar; those of other processes are not logged."""
    caplog.set_level("INFO")
    state = SimpleNamespace(is_world_process_zero=True, global_step=5, max_steps=20, epoch=0.25)
    lines = ProgressLines()
    lines.on_log(None, state, None, {"loss": 1.25, "learning_rate": 3e-5, "grad_norm": 1.0})
    lines.on_log(None, state, None, {"eval_accuracy": 0.5, "eval_runtime": 1.0})
    lines.on_log(None, state, None, {"train_runtime": 1.0})
    state.is_world_process_zero = False
    lines.on_log(None, state, None, {"loss": 1.25})
    assert [{"5/20,", "0.25:"} <= set(message.split()) for message in caplog.messages] == [True, True]
    assert ["1.25" in message for message in caplog.messages] == [True, False]
    assert ["accuracy 0.5000" in message for message in caplog.messages] == [False, True]
    assert "runtime" not in caplog.text


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, Progress), (False, ProgressLines)])
def test_progress_callback_depends_on_the_terminal(monkeypatch, is_terminal, kind):
    """In a file, each update of a bar would be a line."""
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: is_terminal))
    assert type(progress_callback()) is kind


def _trainer(rows, **changed):
    args = {"train_batch_size": 8, "gradient_accumulation_steps": 1, "world_size": 1, "dataloader_drop_last": False}
    args |= {"max_steps": -1, "num_train_epochs": 3.0, **changed}
    return SimpleNamespace(args=SimpleNamespace(**args), train_dataset=rows)


@pytest.mark.parametrize(
    ("changed", "batch", "per_epoch", "steps"),
    [
        ({}, 8, 13, 39),
        ({"gradient_accumulation_steps": 4}, 32, 4, 12),
        ({"world_size": 2}, 16, 7, 21),
        ({"dataloader_drop_last": True}, 8, 12, 36),
        ({"num_train_epochs": 0.5}, 8, 13, 7),
        ({"max_steps": 5}, 8, 13, 5),
    ],
)
def test_schedule_counts_steps_as_trainer_does(changed, batch, per_epoch, steps):
    """For 100 rows; the last batch of an epoch may be smaller."""
    numbers = re.sub(r"\(.*?\)", "", schedule(_trainer(range(100), **changed)))
    assert [int(number) for number in re.findall(r"\d+", numbers)] == [batch, per_epoch, steps]


def test_schedule_of_a_stream_has_no_epochs():
    """Its length is not known."""
    assert re.findall(r"\d+", schedule(_trainer(iter([]), max_steps=5))) == ["8", "5"]
