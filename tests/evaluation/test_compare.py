"""`hydratune compare`: which runs, what is said of them, and what is refused with a reason."""

import csv
import html
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag

from hydratune.cli.main import dispatch
from hydratune.evaluation.compare.best_two import best_two
from hydratune.evaluation.compare.pairing import next_steps
from hydratune.evaluation.compare.runs import Run
from hydratune.tracking.client import connect
from hydratune.tracking.runs_view import PARENT
from hydratune.utils import process
from hydratune.utils.errors import ConfigError

ACCURACY = {"objective": "eval_accuracy", "task": {"_target_": "hydratune.tasks.SequenceClassification"}}  # fmt: skip
QUESTIONS = {"objective": "eval_exact_match", "task": {"_target_": "hydratune.tasks.QuestionAnswering"}}  # fmt: skip
PERPLEXITY = {"objective": "eval_perplexity", "task": {"_target_": "hydratune.tasks.CausalLm"}}


def decoded(right, count=200):
    """Rows of which the first `right` have the label that was predicted."""
    return [{"label": "ab"[i % 2], "prediction": "ab"[(i + (i >= right)) % 2]} for i in range(count)]


def log_test(client, run_id, rows, digest, labels=("a", "b")):
    """Leaves in MLflow what a run leaves there of its test, where it has not done so itself."""
    have = {file.path for file in client.list_artifacts(run_id)}
    if rows is not None and "predictions.jsonl" not in have:
        client.log_text(run_id, "".join(json.dumps(row) + "\n" for row in rows), "predictions.jsonl")
    if labels and "labels.json" not in have:
        client.log_text(run_id, json.dumps(labels), "labels.json")
    if digest and not client.get_run(run_id).inputs.dataset_inputs:
        profile = json.dumps({"num_rows": len(rows or ())})
        dataset = Dataset(name="films", digest=digest, source_type="local", source="films", profile=profile)
        client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "test")])])


@pytest.fixture
def record(store):
    """Records a run as a finished one leaves it, without training; returns its id."""
    client = connect(store)

    def add(name, params=None, *, right=None, count=200, rows=None, digest="d1", status="FINISHED", config=None, experiment="films", **metrics):  # fmt: skip
        found = client.get_experiment_by_name(experiment)
        where = found.experiment_id if found else client.create_experiment(experiment, f"file://{store[10:]}.files")
        run_id = client.create_run(where, run_name=name).info.run_id
        for key, value in {"seed": 1, **(params or {})}.items():
            client.log_param(run_id, key, value)
        rows = decoded(right, count) if right is not None else rows
        measured = {} if right is None else {"test_accuracy": right / count}
        speed = {"test_runtime": 3.0} if digest or measured else {}
        for key, value in {**measured, **speed, **metrics}.items():
            client.log_metric(run_id, key.replace("_", "/", 1), value, step=2)
        client.log_text(run_id, yaml.safe_dump(config or ACCURACY), "config.yaml")
        log_test(client, run_id, rows, digest)
        if status != "RUNNING":
            client.set_terminated(run_id, status)
        time.sleep(0.002)  # MLflow orders runs by the millisecond
        return run_id

    return add


@pytest.fixture
def say(capsys):
    """Runs `hydratune compare` in this process: its exit code and what it printed."""

    def run(*arguments):
        code = dispatch(["compare", *map(str, arguments)])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def ask(say):
    """The same as JSON, of a comparison that was made."""

    def run(*arguments):
        code, out = say(*arguments, "--json")
        assert code == 0
        return json.loads(out)

    return run


def test_two_real_runs(train, toy, store, say, ask, own_directory):
    """Runs of `hydratune` are compared by their directories: params that differ, metrics, a test of the objective."""
    client = connect(store)
    for name, steps in (("good", 40), ("bad", 1)):
        result = train(*toy, f"trainer.args.max_steps={steps}", directory=name)
        pointer = json.loads((result.directory / "mlflow.json").read_text())
        rows = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
        log_test(client, pointer["run_id"], rows, "d1", ["neg", "pos"])
    code, out = say("bad", "good", "--plot", "both.png")
    assert code == 0
    assert "│ steps" in out  # the short names of max_steps and learning_rate
    assert "│ lr" not in out
    assert "test accuracy" in out
    assert "runtime" not in out
    assert (own_directory / "both.png").read_bytes().startswith(b"\x89PNG")
    found = ask("bad", "good")
    assert [run["label"] for run in found["runs"]] == ["A", "B"]
    (one,) = found["comparisons"]
    assert (one["better"], one["interval"]["p"] < 0.05) == (None, True)
    assert "exact McNemar test, score interval, 16 rows" in one["sentence"]
    assert "these two trained models, on this fixed test set" in one["sentence"]
    assert ask(*(run["id"] for run in found["runs"])) == found


def test_a_better_run_and_an_equal_one(record, say):
    """The sentence says by how much, in points, or that the comparison is inconclusive."""
    record("base", {"learning_rate": 1}, right=120)
    record("more", {"learning_rate": 2}, right=150)
    record("same", {"learning_rate": 3}, right=120)
    _, out = say("base", "more")
    assert "B is better than A by 15.0 points, 95% interval 10." in out
    _, out = say("base", "same")
    assert "A and B have the same scores on all 200 rows" in out
    assert "0.0 to 0.0" not in out


def test_few_rows_that_differ_make_no_verdict(record, ask):
    """Nine rows, all in one direction, are p = 0.004 and no verdict; ten are one."""
    record("base", {"learning_rate": 1}, right=120)
    record("nine", {"learning_rate": 2}, right=129)
    record("ten", {"learning_rate": 3}, right=130)
    (one,) = ask("base", "nine")["comparisons"]
    assert (one["better"], one["interval"]["p"]) == (None, pytest.approx(2 / 2**9))
    assert one["refusal"]
    assert one["sentence"].startswith("not tested")
    assert "4.5 points" in one["sentence"]
    assert "p 0.0039 " in one["sentence"] and "p 0.0039," not in one["sentence"]  # which would look like a verdict
    (one,) = ask("base", "ten")["comparisons"]
    assert (one["better"], one["refusal"]) == ("B", "")


def test_rows_of_a_group_are_tested_together(record, ask):
    """Rows with a group are resampled by it, and a verdict needs ten groups that differ."""
    for name, right in (("base", 100), ("more", 150)):
        rows = [{**row, "group": i // 10} for i, row in enumerate(decoded(right))]
        record(name, {"learning_rate": right}, rows=rows)
    (one,) = ask("base", "more")["comparisons"]
    assert "200 rows in 20 groups" in one["method"]
    assert one["better"] is None
    assert one["refusal"]


@pytest.mark.parametrize("changes", [{"digest": "d2"}, {"rows": [], "test_accuracy": 0.75}])
def test_a_pair_without_a_test_shows_its_difference(record, ask, changes):
    """A reason for no test does not hide the numbers that both runs have."""
    record("one", {"learning_rate": 1}, right=120)
    record("two", {"learning_rate": 2}, **{"right": None if "rows" in changes else 150, **changes})
    found = ask("one", "two")
    assert found["comparisons"] == []
    assert any("15.0 points" in remark for remark in found["remarks"])


def test_an_unknown_metric_names_all_shared_ones(record):
    """The error lists the metrics that every run has, not those of some runs or of training."""
    shared = [f"metric{i}" for i in range(12)]
    for name, own, right in (("one", "alone", 120), ("two", "other", None)):
        values = {f"test_{metric}": 0.5 for metric in [*shared, own, "accuracy"]}
        record(name, {"learning_rate": 1}, right=right, train_speed=1.0, **values)
    with pytest.raises(ConfigError) as error:
        dispatch(["compare", "one", "two", "--metric", "nonsense"])
    hint = error.value.problems[0].hint
    assert all(metric in hint for metric in [*shared, "accuracy"])
    assert not any(metric in hint for metric in ("alone", "other", "speed", "runtime"))


def test_runs_without_predictions_have_only_recorded_metrics(record):
    """A metric that nobody recorded, and that no rows can be scored with, is an error with those that exist."""
    for name in ("one", "two"):
        record(name, {"learning_rate": 1}, digest="", best_accuracy=0.5)
    with pytest.raises(ConfigError) as error:
        dispatch(["compare", "one", "two", "--metric", "f1"])
    (problem,) = error.value.problems
    assert (problem.key, "accuracy" in problem.hint) == ("--metric", True)


def test_table_shows_params_literally(record, say):
    """Brackets in a param are no markup."""
    record("base", {"separator": "[/INST] "}, right=120)
    record("more", {"separator": "[bold]x"}, right=150)
    code, out = say("base", "more")
    assert code == 0
    assert "[/INST]" in out
    assert "[bold]x" in out


def test_another_metric(record, ask):
    """`--metric` names one that no run reported but that predictions can be scored with."""
    record("base", right=120)
    record("more", {"epochs": 2}, right=150)
    (one,) = ask("base", "more", "--metric", "f1")["comparisons"]
    assert one["better"] == "B"
    assert (one["unit"]["metric"], one["unit"]["is_share"]) == ("f1", True)


@pytest.fixture
def two_sets(record):
    """Two runs with 100 rows of the set `news` and 40 of `web`: the second is better on `news` alone."""
    sets = {"news": ((60, 90), 100), "web": ((36, 36), 40)}
    config = ACCURACY | {"objective": "eval_mean_accuracy"}
    for number, name in enumerate("xy"):
        rows = {name_of_set: decoded(right[number], count) for name_of_set, (right, count) in sets.items()}
        for name_of_set, part in rows.items():
            record(f"{name}_{name_of_set}", {"learning_rate": number}, rows=part)
        marked = [{"set": name_of_set, **row} for name_of_set, part in rows.items() for row in part]
        scores = {f"test_{part}_accuracy": right[number] / count for part, (right, count) in sets.items()}
        scores["test_mean_accuracy"] = sum(scores.values()) / 2
        record(name, {"learning_rate": number}, rows=marked, config=config, **scores)


@pytest.mark.usefixtures("two_sets")
@pytest.mark.parametrize("part", ["news", "web"])
def test_metric_of_one_set_is_tested_on_its_rows(ask, part):
    """As for runs that were tested on this set alone."""
    (found,) = ask("x", "y", "--metric", f"{part}_accuracy")["comparisons"]
    (alone,) = ask(f"x_{part}", f"y_{part}", "--metric", "accuracy")["comparisons"]
    assert (found["interval"], found["method"], found["better"]) == (
        alone["interval"],
        alone["method"],
        alone["better"],
    )


@pytest.mark.usefixtures("two_sets")
@pytest.mark.parametrize(("metric", "value"), [(None, 0.15), ("min_accuracy", 0.3), ("accuracy", 30 / 140)])
def test_summary_over_sets_is_tested(ask, metric, value):
    """The objective is the mean over sets; without a set or a summary in its name, a metric is that of all rows."""
    (found,) = ask("x", "y", *(["--metric", metric] if metric else []))["comparisons"]
    assert found["interval"]["value"] == pytest.approx(value)
    assert found["better"] == "B"
    assert ("140 rows of 2 sets" in found["method"]) == (metric != "accuracy")


def test_questions_about_one_context_are_tested_together(record, ask):
    """Five questions about each of 24 paragraphs are 24 groups, whatever `dataset.group_by_column` was."""
    for name, right in (("base", 60), ("more", 110)):
        rows = [
            {"context": f"text {i // 5}", "answers": ["yes"], "prediction": "yes" if i < right else "no"}
            for i in range(120)
        ]
        record(name, {"learning_rate": right}, rows=rows, config=QUESTIONS)
    (one,) = ask("base", "more")["comparisons"]
    assert "120 rows in 24 groups" in one["method"]
    assert (one["better"], one["unit"]["metric"]) == ("B", "exact_match")


def test_each_against_the_best(record, ask):
    """More than two runs that are no groups: each against the best, with what many comparisons mean."""
    for i, right in enumerate((120, 150, 149)):
        record(f"run{i}", {"learning_rate": i}, right=right)
    found = ask("--experiment", "films")
    assert [(one["first"], one["second"], one["better"]) for one in found["comparisons"]] == [
        ("A", "B", "B"),
        ("C", "B", None),
    ]
    assert {one["tests"] for one in found["comparisons"]} == {3}
    assert "B was selected on these test rows" in found["remarks"][-1]


def test_the_last_of_an_experiment(record, ask):
    """`--last` takes the newest, the older first."""
    for i in range(4):
        record(f"run{i}", right=120 + i)
    record("elsewhere", right=1, experiment="books")
    assert [run["name"] for run in ask("--experiment", "films", "--last", 2)["runs"]] == ["run2", "run3"]


def test_compare_of_an_experiment_takes_finished_runs(record, ask, store):
    """Sweeps, pruned and failed runs are left out of an experiment's, unless all are asked for."""
    ids = [record(f"run{i}", right=120 + i) for i in range(3)]
    record("pruned", status="KILLED")
    record("failed", status="FAILED")
    parent = record("sweep")
    connect(store).set_tag(ids[0], "mlflow.parentRunId", parent)
    assert [run["name"] for run in ask("--experiment", "films")["runs"]] == ["run0", "run1", "run2"]
    assert len(ask("--experiment", "films", "--all")["runs"]) == 6


def test_compare_shows_many_runs_in_rows(record, capsys, monkeypatch):
    """From six runs on each has a line; no cell is cut, and columns without room are named."""
    monkeypatch.setenv("COLUMNS", "60")
    for i in range(8):
        record(
            f"run{i}", {"learning_rate": i / 7, "a_param_of_a_long_name": "x" * 30 + str(i)}, right=120 + i, test_f1=0.5
        )
    dispatch(["compare", "--experiment", "films"])
    out = capsys.readouterr().out
    assert "…" not in out
    row = next(line for line in out.splitlines() if line.startswith("│ H"))
    assert "0.6350" in row and str(7 / 7) in row
    assert "a_param_of_a_long_name" in out.rpartition("└")[2]


def test_report_begins_with_the_verdict(record, say):
    """The page has the sentences of the terminal first, then what differs, the metrics, and the rows that changed."""
    record("base", {"learning_rate": "0.1"}, right=120)
    record("good", {"learning_rate": "0.2"}, right=150)
    _, out = say("base", "good", "--report", "both.html")
    page = Path("both.html").read_text()
    lead = html.unescape(re.search(r'<p class="lead">(.*?)</p>', page)[1])
    assert lead in out and "B is better than A" in lead
    headings = re.findall(r"<h[23]>(.*?)</h", page)
    assert headings[:3] == ["Differing settings", "Metrics", "Differences"]
    assert (
        "B is right, A is wrong: 30 of 200 rows" in headings and "A is right, B is wrong: 0 of 200 rows" not in headings
    )
    assert 'data-value="0.2"' in page and 'data-value="0.75"' in page


def test_report_draws_seeds_as_a_band(record, store):
    """Runs that differ only in their seed are one line: their mean, from the lowest to the highest value."""
    client = connect(store)
    for rate in (1, 2):
        for seed in (1, 2, 3):
            run_id = record(f"{rate} {seed}", {"learning_rate": rate, "seed": seed}, right=100 + seed)
            for step in (1, 2):
                client.log_metric(run_id, "train/loss", seed * step, step=step + 10)
    assert dispatch(["compare", "--experiment", "films", "--report", "all.html"]) == 0
    page = Path("all.html").read_text()
    content = re.search(r'<figcaption>train/loss</figcaption>.*?<script type="application/json">(.*?)</script>', page)[
        1
    ]
    traces = json.loads(content)["data"]
    assert [trace["name"] for trace in traces if "name" in trace] == ["A, B, C", "D, E, F"]
    assert traces[1]["y"] == [2, 4]
    assert traces[0]["y"] == [3, 6, 2, 1]


def test_plot_tells_many_runs_apart(record, monkeypatch):
    """Each of 26 runs has its own look, the same in both plots and in the legend."""
    from matplotlib.figure import Figure

    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **kw: drawn.append(figure) or savefig(figure, *a, **kw))
    for i in range(26):
        record(f"run{i}", {"learning_rate": i}, right=100 + i)
    dispatch(["compare", "--experiment", "films", "--plot", "all.png"])
    looks = [{line.get_label(): (line.get_color(), line.get_linestyle()) for line in a.lines} for a in drawn[0].axes]
    assert looks[0] == looks[1]
    assert len({*looks[0].values()}) == 26


@pytest.mark.parametrize(("seeds", "method"), [((1, 2, 3), "paired t-test"), ((4, 5, 6), "Welch's t-test")])
def test_groups_of_seeds(record, ask, seeds, method):
    """Runs that differ in their seed alone are a group, and groups are tested by the seeds that they have."""
    for i in range(3):
        record(f"low{i}", {"learning_rate": 1, "seed": 1 + i}, right=100 + 2 * i)
        record(f"high{i}", {"learning_rate": 2, "seed": seeds[i]}, right=150 + 3 * i)
    record("alone", {"learning_rate": 3}, right=10)
    found = ask("--experiment", "films")
    assert [group["name"] for group in found["groups"]] == ["lr=1 (A, C, E)", "lr=2 (B, D, F)"]
    (one,) = found["comparisons"]
    assert one["better"] == "lr=2 (B, D, F)"
    assert method in one["sentence"]
    assert found["remarks"] == ["G: no other seed, so not tested against the groups of seeds"]


def test_less_is_better(record, ask):
    """A group of less perplexity is the better one, without any predictions."""
    for i in range(3):
        record(f"a{i}", {"block": 1, "seed": i}, config=PERPLEXITY, test_perplexity=20 + i / 10)
        record(f"b{i}", {"block": 2, "seed": i}, config=PERPLEXITY, test_perplexity=10 + i / 20)
    (one,) = ask("--experiment", "films")["comparisons"]
    assert one["better"].startswith("block=2")
    assert "by 10" in one["sentence"]
    assert " perplexity, 95% interval" in one["sentence"]


OTHERS = {
    "the optimizer": {"optim": "sgd"},
    "the precision": {"precision": "bf16"},
    "the rows": {"rows.train": 60},
}


@pytest.mark.parametrize("case", OTHERS)
def test_groups_agree_in_everything_but_the_seed(record, ask, case):
    """AdamW and SGD, fp32 and bf16, 192 and 60 rows are not one configuration."""
    same = {"optim": "adamw", "precision": "fp32", "rows.train": 192}
    for seed in (1, 2, 3):
        record(f"run{seed}", {**same, **(OTHERS[case] if seed == 3 else {}), "seed": seed}, right=100 + seed)
    assert not [one for one in ask("--experiment", "films")["groups"] if len(one["values"]) > 2]


def test_groups_agree_in_their_rows(record, ask):
    """Runs whose test rows have other digests are not one configuration."""
    for seed in (1, 2, 3):
        record(f"run{seed}", {"seed": seed}, right=100 + seed, digest=f"d{seed}")
    assert ask("--experiment", "films")["groups"] == []


def test_two_seeds_make_no_verdict(record, ask):
    """Groups of two seeds have a range and no interval, and no verdict however far they are apart."""
    for seed in (1, 2):
        record(f"low{seed}", {"learning_rate": 1, "seed": seed}, right=20 + seed)
        record(f"high{seed}", {"learning_rate": 2, "seed": seed}, right=190 + seed)
    found = ask("--experiment", "films")
    assert [(one["interval"]["low"], one["interval"]["high"]) for one in found["groups"]] == [(None, None)] * 2
    (one,) = found["comparisons"]
    assert (one["better"], one["interval"]["low"]) == (None, None)
    assert one["refusal"]


def test_equal_seeds_have_the_sampling_error_of_the_rows(record, ask):
    """Three seeds with one accuracy of 0.5 on 200 rows: Wilson's interval and not a width of 0."""
    for seed in (1, 2, 3):
        record(f"run{seed}", {"seed": seed}, right=100)
    (one,) = ask("--experiment", "films")["groups"]
    assert (one["interval"]["low"], one["interval"]["high"]) == pytest.approx((0.4314, 0.5686), abs=1e-4)


def test_precisions_that_differ_are_said(record, ask):
    """Of a metric that hardly depends on it: the verdict stands beside a remark."""
    record("one", {"precision": "fp32"}, right=100)
    record("two", {"precision": "bf16"}, right=150)
    found = ask("one", "two")
    assert found["comparisons"][0]["better"] == "B"
    assert "A in fp32, B in bf16" in found["remarks"][0]


def test_perplexities_of_other_precisions_are_not_compared(record, ask):
    """They depend on the precision of the evaluation, whatever the training had."""
    for i in range(3):
        for name, precision, value in (("a", "fp32", 10), ("b", "bf16", 20)):
            params = {"block": name, "seed": i, "precision": "bf16", "eval_precision": precision}
            record(f"{name}{i}", params, config=PERPLEXITY, test_perplexity=value + i / 10)
    found = ask("--experiment", "films")
    assert found["comparisons"] == []
    assert "not compared" in found["remarks"][0]


def test_one_configuration(record, ask):
    """Seeds of one configuration have a mean and nothing to be compared with; of a seed twice the newer counts."""
    for seed in (1, 2, 2):
        record(f"run{seed}", {"seed": seed}, right=100 + seed)
    found = ask("--experiment", "films")
    assert found["comparisons"] == []
    assert "B was run again with the same seed and does not count" in found["remarks"]


REFUSED = {
    "another test set": ({"digest": "d2"}, "A and B were not tested on the same rows: the digests of their test sets are d1 and d2"),
    "fewer rows": ({"digest": "", "right": 10, "count": 100}, "A and B were not tested on the same rows: there are 200 and 100"),
    "no predictions": ({"right": None, "test_accuracy": 0.5}, "not tested: B has no predictions.jsonl"),
    "still running": ({"status": "RUNNING"}, "B is RUNNING and was not tested"),
    "another objective": ({"config": PERPLEXITY}, "the runs have no objective in common (accuracy of A, perplexity of B): name one with --metric"),
    "foreign code": ({"config": ACCURACY | {"task": {"_target_": "os.getcwd"}}}, "B has no config.yaml with a task of allowed code"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_tested(record, say, case):
    """The table is shown all the same, with the reason."""
    changes, reason = REFUSED[case]
    record("one", {"learning_rate": 1}, right=120)
    record("two", {"learning_rate": 2}, **{"right": 150, **changes})
    code, out = say("one", "two")
    assert code == 0
    assert "│ lr " in out
    assert reason in out.replace("\n", " ")


def test_runs_without_a_test_split_are_told_what_is_missing(record, say):
    """Their validation scores are shown; the verdict names the split that it needs."""
    for name, score in (("one", 0.5), ("two", 0.6)):
        record(name, {"learning_rate": score}, digest="", best_accuracy=score)
    code, out = say("one", "two")
    assert code == 0
    assert (
        "not tested: A has no test split; score each run with `hydratune evaluate RUN dataset.files.test=FILE`, "
        "or train with dataset.test_size=0.1; B minus A is 10.0 points (validation accuracy)" in out.replace("\n", " ")
    )


@pytest.mark.parametrize("more", [[], ["--metric", "eval_on_other/accuracy"]])
def test_compare_uses_evaluations_of_runs_without_a_test_split(more, record, ask, store):
    """An evaluation with the same name and rows takes the place of the test split."""
    client = connect(store)
    for name, right in (("base", 120), ("more", 150)):
        run_id = record(name, {"learning_rate": right}, digest="")
        client.log_metric(run_id, "eval_on_other/accuracy", right / 200)
        lines = "".join(json.dumps(row) + "\n" for row in decoded(right))
        client.log_text(run_id, lines, "evaluations/other.predictions.jsonl")
        client.log_text(run_id, json.dumps({"digest": "d1"}), "evaluations/other.json")
    found = ask("base", "more", *more)
    assert [comparison["better"] for comparison in found["comparisons"]] == ["B"]
    assert "(other accuracy, " in found["comparisons"][0]["sentence"]
    assert "'other'" in found["remarks"][-1]


def test_compare_rejects_an_evaluation_that_a_run_lacks(record):
    """The error names the evaluations that all runs have."""
    for name in ("one", "two"):
        record(name, {"learning_rate": name}, right=100)
    with pytest.raises(ConfigError) as error:
        dispatch(["compare", "one", "two", "--metric", "eval_on_other/accuracy"])
    assert [problem.key for problem in error.value.problems] == ["--metric"]


@pytest.mark.parametrize("name", ["lr=1 film", "nothing alike"])
def test_unknown_run_lists_names_that_can_be_pasted(record, name):
    """Names have spaces, for which a shell needs quotes."""
    record("lr=1 films", {})
    with pytest.raises(ConfigError) as caught:
        dispatch(["compare", name, "lr=1 films"])
    (problem,) = caught.value.problems
    assert "'lr=1 films'" in problem.hint


@pytest.mark.parametrize("folder", ["s/0", "s/0/seed=1"])
def test_run_knows_its_sweep(folder, tmp_path):
    """By the parent run in MLflow, whose directory is one or two levels above; a retraining is no trial."""
    for name, run_id in (("s", "a" * 32), ("s/best/trial=0/seed=1", "c" * 32)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        pointer = {"uri": "sqlite:///x.db", "run_id": run_id, "experiment_id": "1"}
        (tmp_path / name / "mlflow.json").write_text(json.dumps(pointer))
    record = SimpleNamespace(data=SimpleNamespace(tags={PARENT: "a" * 32}))
    assert Run("A", record, None, tmp_path / folder).sweep == tmp_path / "s"
    assert Run("A", record, None, tmp_path / "s/best/trial=0/seed=1").sweep is None
    assert Run("A", record, None, None).sweep is None


def test_language_models_have_no_rows(record, ask):
    """It is said why two of them cannot be tested."""
    record("one", config=PERPLEXITY, test_perplexity=20)
    record("two", {"block": 2}, config=PERPLEXITY, test_perplexity=10)
    assert "a language model has a prediction for each token" in ask("one", "two")["remarks"][0]


@pytest.mark.parametrize(
    "changes", [{"prediction": ...}, {"label": ...}, {"label": {}}, {"prediction": ["a"]}], ids=str
)
def test_compare_reports_malformed_rows(record, changes):
    """A key that the task has written is missing, or has another type."""
    rows = [{**row, **changes} for row in decoded(190)]
    malformed = [{key: value for key, value in row.items() if value is not ...} for row in rows]
    runs = [record("a", right=180), record("b", rows=malformed, test_accuracy=0.9)]
    with pytest.raises(ConfigError) as caught:
        dispatch(["compare", *runs])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


def test_rows_in_another_order(record, ask, store):
    """The same number of rows is not the same rows."""
    record("one", right=120)
    two = record("two", {"epochs": 2}, right=None, digest="", test_accuracy=0.5)
    client = connect(store)
    client.log_text(two, "".join(json.dumps(row | {"label": "b"}) + "\n" for row in decoded(100)), "predictions.jsonl")
    assert "row 1 has another label" in ask("one", "two")["remarks"][0]


def test_nothing_in_common(record, say):
    """Runs that measured nothing are shown, and that is no success."""
    record("one", status="FAILED")
    record("two", status="RUNNING")
    code, out = say("one", "two")
    assert code == 2
    assert "FAILED" in out


def test_csv(record, say):
    """A line a run, and nothing else on stdout."""
    record("one", {"learning_rate": 1}, right=120, eval_accuracy=0.6, best_accuracy=0.7, eval_loss=1)
    record("two", {"learning_rate": 2}, right=150)
    _, out = say("one", "two", "--csv")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [*lines[0]] == [
        "label",
        "id",
        "name",
        "status",
        "learning_rate",
        "test/accuracy",
        "best/accuracy",
        "eval/loss",
    ]
    assert [line["test/accuracy"] for line in lines] == ["0.6", "0.75"]


# Arguments, and the error's key, a part of its text, and a part of its hint.
PROBLEMS = [
    (["bass", "more"], "RUN", "'bass'", "exists: base"),
    (["zzzzz", "more"], "RUN", "'zzzzz'", "base"),
    (["more", "twin"], "RUN", "2 runs match 'twin'", " UTC)"),
    (["more"], "RUN", "two different runs, not 1", "--last=10"),
    (["more", "more"], "RUN", "two different runs, not 1", "--last=10"),
    (["--experiment", "film"], "--experiment", "'film'", "exists: films"),
    (["--last", "1"], "--last", "2, not 1", ""),
    (["base", "more", "--metric", "acuracy"], "--metric", "'acuracy'", "exists: accuracy"),
    (["base", "more", "--plot", "a.pdf"], "--plot", "'a.pdf'", ""),
    (["base", "more", "--plot", "no/a.png"], "--plot", "'no'", ""),
    (["base", "more", "--report", "a.pdf"], "--report", "'a.pdf'", ""),
    (["base", "more", "--report", "no/a.html"], "--report", "'no'", ""),
    (["base", "."], "RUN", "'.'", "outputs/"),
    (["base", "more", "--uri", "sqlite:///other.db"], "--uri", "/other.db'", "--uri=URI"),
]


@pytest.mark.parametrize(("arguments", "key", "text", "hint"), PROBLEMS)
def test_errors(record, own_directory, arguments, key, text, hint):
    """Names that match no run or several are errors that suggest a similar name; nothing is created."""
    for name in ("base", "more", "twin", "twin"):
        record(name, right=120)
    before = sorted(own_directory.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        dispatch(["compare", *arguments])
    (problem,) = caught.value.problems
    assert problem.key == key
    assert text in problem.message
    assert hint in "; ".join(problem.hints)
    assert sorted(own_directory.rglob("*")) == before


def test_all_errors_at_once(record):
    """Two wrong names are two lines."""
    record("base", right=120)
    with pytest.raises(ConfigError) as caught:
        dispatch(["compare", "bass", "vase", "--experiment", "film"])
    assert len(caught.value.problems) == 3


def test_help_is_light():
    """`--help` imports nothing that takes time."""
    code = (
        "import sys; from hydratune.cli.main import dispatch\n"
        "try: dispatch(['compare', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers', 'datasets', 'mlflow', 'scipy', 'rich', 'hydra', 'matplotlib'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "usage: hydratune compare" in done.stdout


def test_a_run_whose_process_is_gone(record, store, capsys):
    """It is marked KILLED before it is shown, and not as still running."""
    client = connect(store)
    ids = [record(name, right=100, status="RUNNING") for name in ("one", "two")]
    for key, value in {**process.tags(), process.PROCESS: "4194300 1000000"}.items():  # a number above Linux's highest
        client.set_tag(ids[0], key, value)
    dispatch(["compare", *ids])
    assert "KILLED" in capsys.readouterr().out
    assert [client.get_run(run_id).info.status for run_id in ids] == ["KILLED", "RUNNING"]


DIRECTIONS = {
    "of the user": ({"trainer": {}}, {"hydratune.objective": "eval_accuracy", "hydratune.direction": "min"}, "A"),
    "of the metric": ({}, {}, "B"),
}


@pytest.mark.parametrize("case", DIRECTIONS)
def test_direction_is_the_recorded_one(record, ask, store, case):
    """`greater_is_better` of the user, which a run records with its objective, counts more than the definition."""
    config, tags, better = DIRECTIONS[case]
    runs = [record(f"run{i}", {"rate": i}, right=right, config=ACCURACY | config) for i, right in enumerate((100, 160))]
    for run_id in runs:
        for name, value in tags.items():
            connect(store).set_tag(run_id, name, value)
    (one,) = ask("run0", "run1")["comparisons"]
    assert one["better"] == better


def test_direction_that_nobody_tells(record, ask):
    """A number that is not a metric of the task is not ranked."""
    record("one", {"rate": 1}, right=120, test_size=3)
    record("two", {"rate": 2}, right=150, test_size=4)
    found = ask("one", "two", "--metric", "size")
    assert found["comparisons"] == []
    assert len(found["remarks"]) == 1


def test_extra_metric_is_compared(record, ask, own_directory, monkeypatch):
    """A metric of the user is computed from the rows, if its function is allowed here; lower is better if it says so."""
    (own_directory / "costs_of_user.py").write_text(
        "def cost(predictions, references):\n    return sum(a != b for a, b in zip(predictions, references)) / len(references)\n"
    )
    monkeypatch.syspath_prepend(own_directory)
    function = {"_target_": "costs_of_user.cost", "_partial_": True}
    node = {"_target_": "hydratune.tasks.Metric", "function": function, "higher_is_better": False, "low": 0}
    config = {"objective": "eval_cost", "task": {**ACCURACY["task"], "extra_metrics": {"cost": node}}}
    record("one", {"rate": 1}, right=100, config=config)
    record("two", {"rate": 2}, right=160, config=config)
    assert ask("one", "two")["comparisons"] == []
    monkeypatch.setenv("HYDRATUNE_ALLOW", "costs_of_user")
    (one,) = ask("one", "two")["comparisons"]
    assert (one["better"], one["interval"]["value"]) == ("B", pytest.approx(-0.3))


MALFORMED = [
    ("config.yaml", "3"),
    ("config.yaml", "[a]"),
    ("config.yaml", "{"),
    ("config.yaml", "a: 1\n---\nb: 2"),
    ("predictions.jsonl", "{"),
    ("predictions.jsonl", "3"),
    ("predictions.jsonl", "[" * 100_000),
    ("labels.json", "3"),
    ("labels.json", "{"),
]


@pytest.mark.parametrize(("name", "text"), MALFORMED, ids=range(len(MALFORMED)))
def test_compare_reports_a_file_that_no_run_writes(record, store, name, text):
    """The artifacts of a store may come from someone else: one error, not a traceback."""
    runs = [record(label, right=right) for label, right in (("a", 150), ("b", 120))]
    connect(store).log_text(runs[0], text, name)
    with pytest.raises(ConfigError) as caught:
        dispatch(["compare", *runs])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]
    assert name in str(caught.value)


def ranked(store):
    """The runs of a store, best first on validation."""
    client = connect(store)
    ids = [one.experiment_id for one in client.search_experiments()]
    return client, client.search_runs(ids, order_by=["metrics.`best/accuracy` DESC"])


@pytest.mark.parametrize(("right", "verdict"), [(120, "Significant: "), (178, "Not tested: ")])
def test_best_two_are_compared_on_test(store, record, right, verdict):
    """Validation ranks configurations; test rows decide, and another seed of the best one is not the second best."""
    record("best", {"lr": 1}, right=180, best_accuracy=0.9)
    record("best again", {"lr": 1, "seed": 2}, right=179, best_accuracy=0.89)
    record("second", {"lr": 2}, right=right, best_accuracy=0.8)
    found = best_two(*ranked(store), "best/accuracy")
    assert "(second)" in found.sentences[0]
    assert found.sentences[1].startswith(verdict)
    assert any(" compare " in command for command in found.commands.values())


@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])
def test_best_two_are_named_by_their_seeds(store, record, seeds):
    """A difference between one run each may be due to the seed: it is named if it differs."""
    for rate, seed, right in zip((1, 2), seeds, (180, 120), strict=True):
        record(f"run {rate}", {"lr": rate, "seed": seed}, right=right, best_accuracy=1 / rate)
    sentence = best_two(*ranked(store), "best/accuracy").sentences[1]
    assert "lr=1" in sentence
    assert ("seed=1" in sentence, "seed=2" in sentence) == (seeds == (1, 2),) * 2


def test_best_two_name_what_was_not_tested(store, record):
    """Runs without test rows are not compared, but the best two tested configurations are."""
    record("best", {"lr": 1}, digest=None, best_accuracy=0.9)
    ids = [record(f"tested {i}", {"lr": i}, right=100 + i, best_accuracy=1 / i) for i in (2, 3)]
    found = best_two(*ranked(store), "best/accuracy")
    assert "tested 2" in found.sentences[0]
    assert found.sentences[1].startswith("Significance not tested: best has no test split")
    assert all(settings in found.sentences[2] for settings in ("lr=2", "lr=3"))
    (command,) = found.commands.values()
    assert all(run_id.startswith(text) for run_id, text in zip(ids, command.split()[-2:], strict=True))


def test_one_configuration_has_no_second_best(store, record):
    """Seeds of one configuration are not compared with each other."""
    for seed in (1, 2):
        record(f"seed {seed}", {"seed": seed}, right=150, best_accuracy=0.9)
    assert best_two(*ranked(store), "best/accuracy").sentences == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("ab", "abc", "B has the label 'c'"), ("abc", "ab", "A has the label 'c'"), ("ab", "ba", "order")],
)
def test_the_difference_of_labels_is_named(record, monkeypatch, capsys, first, second, expected):
    """A label that only one model has, or else the order."""
    runs = [record(name, right=150, config=ACCURACY) for name in ("one", "two")]
    monkeypatch.setattr(Run, "label_names", property(lambda run: [*(first if run.label == "A" else second)]))
    dispatch(["compare", *runs])
    assert expected in capsys.readouterr().out


@pytest.fixture
def trials(own_directory):
    """Trials of a sweep, of which some were retrained."""

    def make(count, *retrained):
        sweep = own_directory / "multirun" / "s"
        for number in range(count):
            (sweep / str(number)).mkdir(parents=True)
        (sweep / "sweep.json").write_text("{}")
        for number in retrained:
            folder = sweep / "best" / f"trial={number}" / "seed=7"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text("{}")
        return [
            SimpleNamespace(label=f"T{i}", id=f"id{i}", rows=(), directory=sweep / str(i), sweep=sweep)
            for i in range(count)
        ]

    return make


def commands(lines):
    """The commands in sentences."""
    return [line.partition("hydratune ")[2] for line in lines]


@pytest.mark.parametrize(
    ("retrained", "expected"),
    [
        ((), ["sweep finish multirun/s --trial 0", "sweep finish multirun/s --trial 1"]),
        ((1,), ["sweep finish multirun/s --trial 0"]),
        ((0, 1), []),
    ],
)
def test_trials_name_the_commands_that_test_them(trials, retrained, expected):
    """Each trial that was not retrained is, and then the retrainings are compared."""
    compare = "compare multirun/s/best/trial=0/* multirun/s/best/trial=1/*"
    assert commands(next_steps(trials(2, *retrained))) == [*expected, compare]


def test_many_trials_name_the_best_one(trials):
    """Nobody retrains all trials of a sweep."""
    assert commands(next_steps(trials(9))) == ["sweep finish multirun/s"]


def test_runs_are_compared_with_retrainings_as_they_are(trials):
    """A run with predictions is not trained again."""
    (trial,) = trials(1, 0)
    run = SimpleNamespace(label="R", id="id", rows=[1], directory=Path("outputs/a").absolute(), sweep=None)
    assert commands(next_steps([trial, run])) == ["compare multirun/s/best/trial=0/* outputs/a"]
    assert next_steps([run]) == []


@pytest.mark.parametrize(
    ("retrained", "command"),
    [((), "sweep finish multirun/s"), ((2, 10), "compare multirun/s/best/trial=2/* multirun/s/best/trial=10/*")],
)
def test_sweep_is_answered_with_the_command_that_compares_its_trials(trials, retrained, command):
    """A sweep is no run."""
    trials(1, *retrained)
    with pytest.raises(ConfigError) as caught:
        dispatch(["compare", "multirun/s", "latest"])
    assert commands(caught.value.problems[0].hints)[0] == command
