"""A run whose inputs or labels have another meaning is not resumed; scores of other validation rows are not compared."""

import json
import shutil

import pytest
import safetensors.torch

from conftest import UPSTREAM
from hydratune.training.trainer.checkpoint_files import STATE
from hydratune.utils.errors import ConfigError

STEPS = ["trainer.args.max_steps=16", "trainer.args.save_strategy=steps", "trainer.args.eval_strategy=steps",
         "trainer.args.save_steps=8", "trainer.args.eval_steps=8", "trainer.args.save_total_limit=null",
         "trainer.args.per_device_train_batch_size=4"]  # fmt: skip
MORE = "trainer.args.max_steps=24"
TRANSFORMERS = [*UPSTREAM, "trainer._target_=transformers.Trainer"]
LORA = ["adapter=lora", "adapter.config.target_modules=[query]"]
STREAM = ["dataset.streaming=true", "dataset.labels=[neg,pos]"]


@pytest.fixture
def model(tiny_model, own_directory):
    """Return a copy of the tiny model that a test can change."""
    return shutil.copytree(tiny_model, own_directory / "base")


@pytest.fixture
def run(train, toy, model):
    """Return a function that trains in a directory, or resumes there."""

    def train_in_run(*overrides):
        (model.parent / "run" / "metrics.json").unlink(missing_ok=True)
        base = f"model.pretrained_model_name_or_path={model}"
        return train(*toy, base, *STEPS, *overrides, directory="run")

    return train_in_run


def swap_words(model):
    """Swap the IDs of two words in the tokenizer of a checkpoint."""
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content))


def change_labels(path):
    """Give all rows of a file one label, except for the first row."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    labels = ["neg", *["pos"] * (len(rows) - 1)]
    path.write_text(
        "".join(json.dumps({**row, "label": label}) + "\n" for row, label in zip(rows, labels, strict=True))
    )


CHANGES = {
    "order of labels": ([], "dataset.labels=[pos,neg]", None),
    "tokenizer": ([], MORE, swap_words),
    "maximum length": ([], "task.max_length=3", None),
    "order of labels, stream": (STREAM, "dataset.labels=[pos,neg]", None),
    "tokenizer, stream": (STREAM, MORE, swap_words),
    "maximum length, stream": (STREAM, "task.max_length=3", None),
    "Trainer of transformers": (TRANSFORMERS, "dataset.labels=[pos,neg]", None),
    "LoRA": (LORA, "dataset.labels=[pos,neg]", None),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_run_of_another_meaning_is_not_resumed(run, model, kind):
    """The weights belong to the earlier labels and tokens."""
    overrides, override, change = CHANGES[kind]
    run(*overrides)
    if change:
        change(model)
    with pytest.raises(ConfigError) as caught:
        run(*overrides, override)
    (problem,) = caught.value.problems
    assert problem.key.endswith("checkpoints")
    assert problem.hint


@pytest.mark.parametrize("overrides", [[], STREAM, TRANSFORMERS], ids=["table", "stream", "transformers"])
def test_run_with_the_same_meaning_is_resumed(run, caplog, overrides):
    """Positive control: nothing changes except the number of steps."""
    caplog.set_level("INFO")
    run(*overrides)
    assert run(*overrides, MORE).metrics["step"] in (8, 16, 24)
    assert "resuming from step 16" in caplog.text
    assert "skipped" not in caplog.text


@pytest.mark.parametrize("steps", [MORE, "trainer.args.max_steps=16"], ids=["more steps", "no more steps"])
@pytest.mark.parametrize("averaging", [[], ["trainer.averaging=soup"], ["trainer.averaging=ema"], TRANSFORMERS])
def test_scores_are_those_of_the_current_validation_rows(run, own_directory, caplog, steps, averaging):
    """The checkpoint that was the best one on other rows is not compared, and its score is not reported."""
    before = run(*averaging, "dataset.files.test=validation.jsonl")
    change_labels(own_directory / "validation.jsonl")
    after = run(*averaging, "dataset.files.test=validation.jsonl", steps)
    assert "skipped the best checkpoint so far" in caplog.text
    assert after.metrics["eval_accuracy"] != before.metrics["eval_accuracy"]
    assert after.metrics["eval_accuracy"] == pytest.approx(after.metrics["test_accuracy"])
    assert after.metrics["eval_loss"] == pytest.approx(after.metrics["test_loss"])


def test_score_of_an_earlier_objective_is_not_compared(run, own_directory):
    """A loss of 0.1 would be the best accuracy."""
    run("objective=eval_loss", "trainer.args.metric_for_best_model=eval_loss")
    run("objective=eval_accuracy", MORE)
    state = json.loads((own_directory / "run" / "checkpoints" / "checkpoint-24" / STATE).read_text())
    assert state["best_global_step"] == 24


def larger(model):
    """Change the weights of a checkpoint."""
    path = model / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: 2 * weight for name, weight in weights.items()}, path, {"format": "pt"})


def more_dropout(model):
    """Change a setting in the config of a checkpoint."""
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_dropout_prob": 0.5}))


@pytest.mark.parametrize(
    ("overrides", "change", "reason"),
    [(LORA, larger, "frozen weights"), (LORA, more_dropout, "config.hidden_dropout_prob"), ([], larger, None)],
)
def test_run_on_another_base_checkpoint_is_not_exact(run, model, caplog, overrides, change, reason):
    """Checkpoints of an adapter lack the weights of the base model; those of a whole model have them."""
    caplog.set_level("INFO")
    run(*overrides)
    change(model)
    caplog.clear()
    run(*overrides, "trainer.args.max_steps=16")
    assert "resuming from step 16" in caplog.text
    (line,) = (message for message in caplog.messages if message.startswith("resume: "))
    assert (f"{reason} changed" in line) if reason else (line == "resume: bit-exact")


def test_best_checkpoint_of_a_moved_run_is_used(train, toy, own_directory, monkeypatch):
    """Checkpoints have no path that would be wrong, so upstream does not warn of it."""
    warnings = []
    monkeypatch.setattr("transformers.trainer.logger.warning", lambda text, *_: warnings.append(text))
    fixed = [*toy, *STEPS, "trainer.args.learning_rate=0"]  # the first checkpoint is the best one
    train(*fixed, directory="run")
    (own_directory / "run" / "metrics.json").unlink()
    (own_directory / "run").rename(own_directory / "moved")
    assert train(*fixed, MORE, directory="moved").metrics["step"] == 8
    assert not [text for text in warnings if "best checkpoint" in text]
