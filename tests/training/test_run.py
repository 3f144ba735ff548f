"""One run: what it leaves, what it repeats exactly, what it keeps."""

import json
from pathlib import Path

import pytest

from conftest import UPSTREAM, looked_at_every, write_rows
from hydratune.tracking.client import connect
from hydratune.utils.errors import ConfigError
from processes import python


def weights(result) -> bytes:
    """The final model, byte for byte."""
    return (result.directory / "model" / "model.safetensors").read_bytes()


def test_leaves_a_self_contained_directory(train, toy):
    """Config, metrics, predictions, checkpoints, model and tokenizer lie in the run's own directory."""
    result = train(*toy)
    names = {path.name for path in result.directory.iterdir()}
    written = {"config.yaml", "overrides.yaml", "environment.txt", "metrics.json", "predictions.jsonl", "labels.json"}
    assert names == {
        *written,
        "training_args.json",
        "predictions_sample.json",
        "report.html",
        "tables",
        "checkpoints",
        "model",
    }
    metrics = json.loads((result.directory / "metrics.json").read_text())
    assert {"eval_accuracy", "eval_f1", "eval_loss", "test_accuracy", "test_f1", "train_loss"} <= set(metrics)
    assert metrics["eval_accuracy"] == result.objective
    assert "interpolat" not in (result.directory / "config.yaml").read_text()
    assert "${" not in (result.directory / "config.yaml").read_text()


@pytest.mark.usefixtures("drawn_plots")
def test_labels_of_dollar_signs(train, toy, own_directory):
    """Labels that matplotlib could read as formulas are trained and plotted."""
    names = {"neg": "$", "pos": "$$"}
    for split in ("train", "validation", "test"):
        path = own_directory / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_rows(path, [{**row, "label": names[row["label"]]} for row in rows])
    folder = train(*toy, "trainer.args.max_steps=1").directory / "tables"
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".png"}


@pytest.mark.parametrize(
    ("broken", "missing"),
    [
        ("hydratune.utils.provenance.git_commit", "git commit"),
        ("hydratune.utils.provenance.git_diff", "git.diff"),
        ("hydratune.utils.provenance.environment", "environment.txt"),
        ("hydratune.training.tables.write", "tables"),
        ("hydratune.training.model_card.write", "model card"),
        ("hydratune.training.artifacts.source_hash", "datasets"),
        ("hydratune.tasks.single_label.SingleLabelTask.predictions_with_labels", "predictions"),
    ],
)
def test_no_optional_record_ends_a_run(broken, missing, train, toy, monkeypatch, caplog):
    """A record that cannot be made is named in a warning; the model and the metrics are saved."""

    def fail(*_, **__):
        raise UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid continuation byte")

    monkeypatch.setattr(broken, fail)
    folder = train(*toy, "trainer.args.max_steps=1").directory
    assert (folder / "metrics.json").is_file()
    assert (folder / "model" / "model.safetensors").is_file()
    assert [one for one in caplog.records if one.levelname == "WARNING" and missing in one.getMessage()]


def test_model_is_saved_before_predictions_are_recorded(train, toy, monkeypatch):
    """Whatever ends the process while it draws plots cannot cost the model."""

    def end(*_):
        raise SystemExit(9)

    monkeypatch.setattr("hydratune.training.tables.write", end)
    with pytest.raises(SystemExit):
        train(*toy, "trainer.args.max_steps=1")
    assert Path("run/model/model.safetensors").is_file()


def test_learns(train, toy):
    """The tiny network learns the toy task; chance is one half."""
    assert train(*toy, "trainer.args.num_train_epochs=20", *looked_at_every(10)).metrics["test_accuracy"] == 1.0


def test_the_same_seed_gives_the_same_weights(train, toy):
    """Two runs with one seed end with identical bytes; another seed ends elsewhere."""
    first, second, other = (train(*toy, f"seed={s}", directory=d) for s, d in ((1, "a"), (1, "b"), (2, "c")))
    assert weights(first) == weights(second) != weights(other)


def test_tokenizing_again_changes_nothing(train, toy, monkeypatch):
    """Weights do not depend on whether the tokenized rows came from the cache."""
    first = train(*toy, directory="a")
    monkeypatch.setenv("HYDRATUNE_CACHE", "other_cache")
    assert weights(train(*toy, directory="b")) == weights(first)


def test_a_fresh_process_predicts_the_same(train, toy, own_directory):
    """One line of transformers loads the model, and its predictions are those of the evaluation."""
    result = train(*toy)
    texts = [json.loads(line)["text"] for line in (own_directory / "test.jsonl").read_text().splitlines()]
    code = (
        "import sys, json; from transformers import pipeline;"
        "found = pipeline('text-classification', model=sys.argv[1])(json.loads(sys.argv[2]));"
        "print(json.dumps([row['label'] for row in found]))"
    )
    said = json.loads(python(code, str(result.directory / "model"), json.dumps(texts)))
    rows = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
    assert said == [row["prediction"] for row in rows]
    accuracy = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    assert accuracy == result.metrics["test_accuracy"]


def test_label_names_are_stored_in_the_model(train, toy):
    """`id2label` of the saved config has the names of the data."""
    config = json.loads((train(*toy).directory / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}


def test_the_best_checkpoint_is_kept(train, toy, own_directory):
    """Where learning makes evaluation worse, the weights and metrics of the first evaluation are kept."""
    path = own_directory / "validation.jsonl"
    swapped = [json.loads(line) for line in path.read_text().splitlines()]
    write_rows(path, [{**row, "label": {"pos": "neg", "neg": "pos"}[row["label"]]} for row in swapped])
    more = ["objective=eval_loss", "trainer.args.num_train_epochs=8", "trainer.args.save_total_limit=2"]
    result = train(*toy, *more)
    last = sorted((result.directory / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[-1]
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert result.metrics["eval_loss"] == min(losses) < losses[-1]


def test_early_stopping(train, toy):
    """With the callback, training ends when the objective has not improved for `patience` evaluations."""
    stop = ["trainer/callbacks=[early_stopping]", "trainer.callbacks.early_stopping.early_stopping_patience=1"]
    result = train(*toy, *stop, "trainer.args.learning_rate=0", "trainer.args.num_train_epochs=9")
    assert result.metrics["epoch"] < 9


def test_no_test_split(train, toy):
    """Without test rows there are no test metrics and no predictions."""
    result = train(*toy, "dataset.files.test=null")
    assert not [name for name in result.metrics if name.startswith("test_")]
    assert not (result.directory / "predictions.jsonl").exists()


def test_without_evaluation_while_training(train, toy):
    """A run that never evaluates while it trains still reports validation metrics at its end."""
    off = [
        "trainer.args.eval_strategy=no",
        "trainer.args.save_strategy=no",
        "trainer.args.load_best_model_at_end=false",
    ]
    assert 0 <= train(*toy, *off).metrics["eval_accuracy"] <= 1


def test_says_how_many_texts_were_cut(train, toy, own_directory, caplog):
    """Texts longer than the network's 32 positions are cut, counted and said, also from the cache."""
    rows = [json.loads(line) for line in (own_directory / "train.jsonl").read_text().splitlines()]
    long = [{**row, "text": row["text"] + " very" * 40} for row in rows[:3]]
    write_rows(own_directory / "train.jsonl", [*long, *rows[3:]])
    for directory in ("a", "b"):
        caplog.clear()
        train(*toy, "trainer.args.max_steps=1", directory=directory)
        assert "data: 3 texts were truncated to 32 tokens: 3 of train" in caplog.messages


def test_max_length_above_the_positions_is_reported(train, toy, caplog):
    """The model has 32 positions: a user who asked for 100 tokens learns that texts are cut earlier."""
    train(*toy, "task.max_length=100", "trainer.args.max_steps=1")
    assert any("task.max_length" in message and "100" in message and "32" in message for message in caplog.messages)


def test_max_length_cuts_earlier(train, toy, caplog):
    """`task.max_length` below the network's positions wins."""
    train(*toy, "task.max_length=5", "trainer.args.max_steps=1")
    assert any("were truncated to 5 tokens" in message for message in caplog.messages)


def test_pairs(train, toy, own_directory):
    """Two columns of text make one input."""
    for split in ("train", "validation", "test"):
        path = own_directory / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_rows(path, [{**row, "other": "a book"} for row in rows])
    result = train(*toy, "dataset.columns.text_pair=other", "trainer.args.max_steps=2")
    assert 0 <= result.objective <= 1


def test_arguments_that_transformers_refuses(train, toy):
    """What only TrainingArguments knows to be wrong is one message too, before data or weights are loaded."""
    with pytest.raises(ConfigError) as caught:
        train(*toy, "trainer.args.fp16=true", "trainer.args.bf16=true")
    assert [problem.key for problem in caught.value.problems] == ["trainer.args"]


def test_arguments_that_trainer_refuses(train, toy, store):
    """What only Trainer knows to be wrong is told before anything is tracked."""
    with pytest.raises(ConfigError) as caught:
        train(*toy, "trainer.args.batch_eval_metrics=true")
    assert [problem.key for problem in caught.value.problems] == ["trainer"]
    client = connect(store)
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_drop_last_must_leave_a_batch(train, toy):
    """A run whose rows do not fill one batch would end without a step, with an untrained model."""
    options = ["trainer.args.dataloader_drop_last=true", "trainer.args.per_device_train_batch_size=1000"]
    with pytest.raises(ConfigError) as error:
        train(*toy, *options)
    assert [problem.key for problem in error.value.problems] == ["trainer.args.dataloader_drop_last"]


def test_another_trainer_by_target(train, toy):
    """`trainer._target_` may name any Trainer; hardware settings that the user gave are left alone."""
    result = train(*toy, *UPSTREAM, "trainer.args.bf16=false",
                   "trainer.args._target_=transformers.Seq2SeqTrainingArguments", "trainer.args.max_steps=1")  # fmt: skip
    assert Path(result.directory, "model").is_dir()
