"""Scores of finished runs on other data: the head's own ids, the same MLflow run, a file."""

import json
from pathlib import Path

import pytest

from conftest import looked_at_every, write_rows
from hydratune.cli.evaluate import main
from hydratune.evaluation.evaluate import evaluate
from hydratune.evaluation.load_run import open_run
from hydratune.tracking.client import connect
from hydratune.utils.errors import FAILED, ConfigError

OTHER = ["dataset=local", "dataset.files.test=other.jsonl"]


def scored(result, *overrides, **more):
    """The evaluation of a run."""
    return evaluate(open_run(str(result.directory), ""), overrides, **more)


@pytest.fixture
def finished(train, toy):
    """A run that has learned a little, and is right about some rows."""
    return train(*toy)


def other(rows, name="other.jsonl"):
    """A file of other data."""
    return write_rows(Path(name), rows)


def test_the_own_test_rows_get_the_own_scores(finished):
    """Without a change of the data, the run's test metrics come out again."""
    found = scored(finished)
    assert (found.split, found.rows) == ("test", 16)
    expected = {name: value for name, value in finished.metrics.items() if name.startswith("test_")}
    assert {f"test_{name}": pytest.approx(value, abs=1e-6) for name, value in found.metrics.items()}.items() <= (
        expected.items()
    )


def test_ids_are_those_of_the_head(finished):
    """Labels in another order, of which one may be missing, count as the labels that they name."""
    rows = [json.loads(line) for line in Path("test.jsonl").read_text().splitlines()]
    other(list(reversed(rows)))
    assert scored(finished, *OTHER).metrics["accuracy"] == pytest.approx(finished.metrics["test_accuracy"])
    other([row for row in rows if row["label"] == "pos"], "pos.jsonl")
    right = scored(finished, "dataset=local", "dataset.files.test=pos.jsonl")
    said = [json.loads(line) for line in (finished.directory / "predictions.jsonl").read_text().splitlines()]
    expected = [row["prediction"] == "pos" for row in said if row["label"] == "pos"]
    assert right.metrics["accuracy"] == pytest.approx(sum(expected) / len(expected))


def test_ids_of_other_data_are_named(finished):
    """Numbers count as what the data's own list of labels calls them; without such a list they are an error."""
    rows = [json.loads(line) for line in Path("test.jsonl").read_text().splitlines()]
    other([{"text": row["text"], "label": int(row["label"] == "neg")} for row in rows])
    found = scored(finished, *OTHER, "dataset.labels=[pos,neg]")
    assert found.metrics["accuracy"] == pytest.approx(finished.metrics["test_accuracy"])
    with pytest.raises(ConfigError, match=r"\['0', '1'\]") as caught:
        scored(finished, *OTHER)
    assert [problem.key for problem in caught.value.problems] == ["dataset.labels"]


def test_negative_ids(train, toy, own_directory):
    """Labels -1 and 0 keep their ids, whatever rows other data has of them."""
    words = {"good": 0, "bad": -1}
    rows = [{"text": f"{word} {more}", "label": label} for word, label in words.items() for more in ("the", "a", "is")]
    for split in ("train", "validation", "test"):
        other(rows, f"{split}.jsonl")
    result = train(*toy, "trainer.args.num_train_epochs=30", *looked_at_every(10))
    assert result.metrics["test_accuracy"] == 1
    other([row for row in rows if row["label"] >= 0])
    assert scored(result, *OTHER).metrics["accuracy"] == 1
    assert own_directory.name == "work"


def test_indicators_are_reordered(train, tiny):
    """Columns of 0 and 1 in another order count as the labels that they stand for."""
    rows = [{"text": text, "good": 1, "film": 0} for text in ("the film was good", "a bad book", "good", "a film")]
    for split in ("train", "validation", "test"):
        other(rows * 8, f"{split}.jsonl")
    names = ["dataset.columns.labels=[good,film]", "dataset.labels=[good,film]"]
    files = ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))]
    learn = ["trainer.args.max_steps=20", "trainer.args.learning_rate=0.02"]
    task = ["task=multi_label_classification", "task.label_format=multi_hot"]
    result = train(*files, *task, *names, *tiny, *learn)
    assert result.metrics["test_micro_f1"] == 1
    turned = ["dataset.columns.labels=[film,good]", "dataset.labels=[film,good]"]
    same = ["dataset=local", "dataset.files.train=test.jsonl", *turned]
    assert scored(result, *same).metrics["micro_f1"] == 1
    with pytest.raises(ConfigError) as caught:
        scored(result, *same[:2], "dataset.columns.labels=[film]", "dataset.labels=[film]")
    assert [problem.key for problem in caught.value.problems] == ["dataset.labels"]
    assert "dataset.labels=[good,film]" in caught.value.problems[0].hint.replace("\ue000", "dataset.labels")


def test_unknown_labels(finished):
    """A label that the model has not is told with its line, or its row is left out."""
    other([{"text": "a film", "label": "pos"}, {"text": "a film", "label": "neutral"}])
    with pytest.raises(ConfigError) as error:
        scored(finished, *OTHER)
    first, total = error.value.problems
    assert (first.key, first.source) == ("dataset.columns.label", "other.jsonl:2")
    assert ("'neutral'" in first.text, first.hint.endswith(": neg, pos")) == (True, True)
    assert (total.key, total.hints[0].split()[1]) == ("dataset.unseen_labels", "dataset.unseen_labels=keep")
    assert scored(finished, *OTHER, "dataset.unseen_labels=drop").rows == 1


def test_evaluate_needs_rows_with_labels_of_the_model(finished):
    """If every label is unseen and their rows are dropped, there is nothing to score."""
    other([{"text": "a film", "label": "neutral"}])
    with pytest.raises(ConfigError) as error:
        scored(finished, *OTHER, "dataset.unseen_labels=drop")
    assert [problem.key for problem in error.value.problems] == ["dataset.unseen_labels"]


def test_evaluate_maps_ids_of_other_data(train, toy):
    """A mapping takes the place of a list of names, and a list that of a mapping."""
    rows = [json.loads(line) for line in Path("test.jsonl").read_text().splitlines()]
    ids = {"neg": 1, "pos": 2}
    other([{**row, "label": ids[row["label"]]} for row in rows])
    files = "dataset.files.test=other.jsonl"
    result = train(*toy, "dataset.labels=[neg,pos]")
    expected = scored(result).metrics["accuracy"]
    assert scored(result, files, "dataset.labels={1:neg,2:pos}").metrics["accuracy"] == pytest.approx(expected)
    with pytest.raises(ConfigError) as error:
        scored(result, files, "dataset.on_bad_rows=skip")
    assert [problem.key for problem in error.value.problems] == ["dataset.labels"]


def test_evaluate_keeps_rows_with_unseen_labels(finished):
    """They are in the denominator, and never right, whatever becomes of invalid rows."""
    other([{"text": "a film", "label": label} for label in ("pos", "neutral", "neutral", "neg")])
    with pytest.raises(ConfigError) as error:
        scored(finished, *OTHER, "dataset.on_bad_rows=skip")
    assert error.value.problems[-1].key == "dataset.unseen_labels"
    found = scored(finished, *OTHER, "dataset.unseen_labels=keep")
    assert (found.rows, found.metrics["accuracy"]) == (4, pytest.approx(1 / 4))


@pytest.mark.parametrize(
    ("overrides", "split", "rows"),
    [
        (["dataset.files.test=other.jsonl"], "test", 3),
        (["dataset=local", "dataset.files.train=other.jsonl"], "train", 3),
        (["dataset=local", "dataset.files.validation=other.jsonl"], "validation", 3),
        (["dataset.max_samples.test=5"], "test", 5),
        ([*OTHER, "dataset.max_samples.train=2"], "test", 2),
    ],
)
def test_which_rows(finished, overrides, split, rows):
    """The test split; else validation; else all rows of the only one, of which none is held out."""
    other([{"text": f"a {word} film", "label": "pos"} for word in ("good", "great", "very good")])
    found = scored(finished, *overrides)
    assert (found.split, found.rows) == (split, rows)


def test_a_task_without_labels(train, tiny_gpt):
    """A language model is scored on another text."""
    Path("train.txt").write_text("the film was good\n" * 30)
    Path("new.txt").write_text("a book\n" * 30)
    files = ["dataset=local", "dataset.files.train=train.txt", "task.block_size=32", "task.document_separator=newline"]
    result = train("task=causal_lm", *files, *tiny_gpt)
    found = scored(result, "dataset.files.test=new.txt", "task.metrics=[bits_per_byte]")
    assert found.metrics["bits_per_byte"] > 1
    assert "perplexity" not in found.metrics


@pytest.mark.parametrize(
    ("overrides", "key", "text", "hint"),
    [
        (["seed=3"], "seed", "'seed=3'", "task.extra_metrics, task.metrics"),
        (["model=bert"], "model", "'model=bert'", "dataset, hardware"),
        (["~dataset"], "dataset", "'~dataset'", ""),
        (["dataset=locl"], "dataset", "'locl'", "local"),
        (["dataset.files.tst=other.jsonl"], "dataset.files.tst", "'tst'", "dataset.files.test"),
        (["dataset=local"], "dataset.files.test", "required", "dataset.files.test="),
        (["dataset.files.test=a,b"], "dataset.files.test", "'a,b'", ""),
        (["dataset.files.test=none.jsonl"], "dataset.files.test", "none.jsonl", ""),
        (["dataset.colums.text=a"], "dataset.colums", "colums", "columns"),
        (["task.metrics=[acuracy]"], "task.metrics", "acuracy", "accuracy"),
        (["dataset._target_=os.system"], "dataset._target_", "'os.system'", ""),
    ],
)
def test_errors(finished, overrides, key, text, hint):
    """Each invalid override is an error that names it, before the model is loaded."""
    with pytest.raises(ConfigError) as error:
        scored(finished, *overrides)
    (problem,) = error.value.problems
    assert problem.key == key
    assert text in problem.message
    assert hint in "; ".join(problem.hints)


def test_a_name_is_a_file_name(finished):
    """What cannot name a file and a metric is refused."""
    with pytest.raises(ConfigError) as error:
        scored(finished, name="a/b")
    (problem,) = error.value.problems
    assert (problem.key, "'a/b'" in problem.text) == ("--name", True)


def test_the_same_mlflow_run(train, toy, store, capsys):
    """Metrics go into the run's MLflow run under a prefix of their own; again on the same data, the latest wins."""
    result = train(*toy, "trainer.args.max_steps=1")
    other([{"text": "a good film", "label": "pos"}, {"text": "a bad film", "label": "pos"}])
    assert main([str(result.directory), *OTHER]) == 0
    other([{"text": "a good film", "label": "pos"}] * 2)
    assert main([str(result.directory), *OTHER]) == 0
    client = connect(store)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert (run.info.status, run.data.metrics["test/accuracy"]) == ("FINISHED", result.metrics["test_accuracy"])
    written = json.loads((result.directory / "evaluations" / "other.json").read_text())
    logged = {name: value for name, value in run.data.metrics.items() if name.startswith("eval_on_other/")}
    assert logged == {f"eval_on_other/{name}": pytest.approx(value) for name, value in written["metrics"].items()}
    assert len(client.get_metric_history(run.info.run_id, "eval_on_other/accuracy")) == 2
    assert written["dataset"]["files"] == {"train": "other.jsonl"} and written["split"] == "test"
    assert "accuracy" in capsys.readouterr().out


def test_evaluation_writes_predictions(finished):
    """Those for the run's own test rows are those of the training, except for positions in files."""
    evaluation = scored(finished)
    evaluation.write(finished.directory)
    lines = [
        [json.loads(line) for line in (finished.directory / name).read_text().splitlines()]
        for name in ("predictions.jsonl", f"evaluations/{evaluation.name}.predictions.jsonl")
    ]
    first, second = ([(row["label"], row["prediction"]) for row in rows] for rows in lines)
    assert first == second
    assert (finished.directory / "evaluations" / f"{evaluation.name}.tables" / "per_label.csv").is_file()
    assert f"Errors ({evaluation.name})" in (finished.directory / "evaluations" / f"{evaluation.name}.html").read_text()


def test_an_untracked_run(finished, capsys):
    """It is said, and the file is written under the name that was asked for."""
    assert main([str(finished.directory), "--name", "again"]) == 0
    assert "the run is not tracked" in capsys.readouterr().out
    assert (finished.directory / "evaluations" / "again.json").is_file()


def test_a_lost_store(train, toy, store, caplog):
    """Where MLflow cannot be told, the file is there, the reason is said and the exit code is not 0."""
    result = train(*toy, "trainer.args.max_steps=1")
    Path(store.removeprefix("sqlite:///")).unlink()
    assert main([str(result.directory), "--name", "again"]) == FAILED
    assert f"not logged to MLflow: MLflow store not found: '{store.removeprefix('sqlite:///')}'" in caplog.text
    assert (result.directory / "evaluations" / "again.json").is_file()
    assert not Path(store.removeprefix("sqlite:///")).exists()


def test_the_split_and_the_name_are_those_of_the_user(finished, caplog):
    """A test file is not called train, and the run's own rows are not named after a class."""
    other([{"text": "a good film", "label": "pos"}, {"text": "a bad film", "label": "new"}])
    with pytest.raises(ConfigError) as error:
        scored(finished, *OTHER)
    assert "train" not in str(error.value).replace("training", "")
    caplog.clear()
    evaluation = scored(finished, *OTHER, "dataset.unseen_labels=drop")
    assert (evaluation.name, evaluation.split) == ("other", "test")
    assert "train" not in caplog.text.replace("training", "").replace("trained", "")
    assert scored(finished).name == "own_test"
