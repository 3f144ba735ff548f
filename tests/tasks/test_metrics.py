"""Definitions of metrics: names, directions, ranges, and metrics of the user."""

import json
import math
import random
import re
import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from rouge_score.tokenizers import DefaultTokenizer
from sklearn.metrics import cohen_kappa_score, log_loss
from transformers import EvalPrediction, get_scheduler

from conftest import predictions
from hydratune.config import allowlist
from hydratune.config.composition import Request, without_hydra
from hydratune.config.instantiate import build
from hydratune.config.validate import check_config
from hydratune.sweep.plan import make_plan
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.causal_lm import CausalLm
from hydratune.tasks.image_classification import ImageClassification
from hydratune.tasks.masked_lm import MaskedLm
from hydratune.tasks.metrics.generation import GENERATION, UnicodeTokenizer
from hydratune.tasks.metrics.metric import Metric
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.multiple_choice import MultipleChoice
from hydratune.tasks.question_answering import QuestionAnswering
from hydratune.tasks.regression import Regression
from hydratune.tasks.seq2seq import Seq2Seq
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.tasks.supervised_fine_tuning import SupervisedFineTuning
from hydratune.tasks.token_classification import TokenClassification
from hydratune.training.job import Job, TrialContext, more_is_better
from hydratune.training.run import run
from hydratune.training.setup import training_arguments
from hydratune.utils.errors import ConfigError

TASKS = (
    CausalLm,
    ImageClassification,
    MaskedLm,
    MultiLabelClassification,
    MultipleChoice,
    QuestionAnswering,
    Regression,
    Seq2Seq,
    SequenceClassification,
    SupervisedFineTuning,
    TokenClassification,
)
PAGE = Path(__file__).parents[2] / "docs" / "adding_a_task.md"
NODE = {"_target_": "hydratune.tasks.Metric", "higher_is_better": False}


# --- directions and ranges -------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_metric_direction_is_that_of_its_kind(task):
    """Losses and errors are minimized, all else is maximized, and every range has a lower end."""
    lower = {"loss", "perplexity", "bits_per_byte", "mse", "mae", "log_loss", "brier", "ece", "mean_cost"}
    definitions = task().definitions()
    assert {name for name, metric in definitions.items() if not metric.higher_is_better} == lower & {*definitions}
    assert all(-math.inf < metric.low < metric.high for metric in definitions.values())


@pytest.mark.parametrize(
    ("task", "name", "whole"),
    [(TokenClassification, "f1_person", "f1"), (QuestionAnswering, "exact_match_no_answer", "exact_match")],
)
def test_metric_of_a_part_has_the_direction_of_the_whole(task, name, whole):
    """The score of one type of entity, or of one kind of question, is found by its beginning."""
    assert task().metric(name) == task().metric(whole)


def test_metric_that_is_not_a_score_has_no_definition():
    """A tuned threshold or a running time is neither maximized nor minimized."""
    assert QuestionAnswering().metric("null_threshold") is None
    assert Regression().metric("runtime") is None


@pytest.mark.parametrize(("value", "clipped"), [(-0.2, 0), (0.3, 0.3), (1.4, 1)])
def test_metric_clip(value, clipped):
    """Values beyond the range become its ends."""
    assert SequenceClassification().metric("accuracy").clip(value) == clipped


@pytest.mark.parametrize("scheduler", ["reduce_lr_on_plateau", "greedy"])
@pytest.mark.parametrize(
    ("more", "mode"),
    [
        (["objective=eval_accuracy"], "max"),
        (["objective=eval_loss"], "min"),
        (["objective=eval_accuracy", "trainer.args.greater_is_better=false"], "min"),
        (["objective=eval_accuracy", "+trainer.args.greater_is_better=null"], "max"),
        (["objective=eval_accuracy", "+trainer.args.lr_scheduler_kwargs={mode:min,patience:2}"], "min"),
    ],
)
def test_schedule_follows_the_objective(compose, own_directory, scheduler, more, mode):
    """A schedule that reads the objective takes its direction, unless the user sets the mode."""
    cfg = compose(f"trainer.args.lr_scheduler_type={scheduler}", "hardware=cpu", *more)
    args = training_arguments(cfg, build(cfg.task), build(cfg.hardware), own_directory)
    assert args.lr_scheduler_kwargs["mode"] == mode


def test_plateau_keeps_the_rate_while_accuracy_rises(compose, own_directory):
    """Trainer hands the objective to the schedule after each evaluation."""
    plateau = ["trainer.args.lr_scheduler_type=reduce_lr_on_plateau", "+trainer.args.lr_scheduler_kwargs={patience:0}"]
    cfg = compose(*plateau, "hardware=cpu")
    args = training_arguments(cfg, build(cfg.task), build(cfg.hardware), own_directory)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = get_scheduler(args.lr_scheduler_type, optimizer, scheduler_specific_kwargs=args.lr_scheduler_kwargs)
    for accuracy in (0.1, 0.3, 0.5, 0.8):
        schedule.step(accuracy)
    assert optimizer.param_groups[0]["lr"] == 0.1
    schedule.step(0.7)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


# --- F1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "name", "other"), [(2, "f1", "macro_f1"), (3, "macro_f1", "f1")])
def test_default_metrics_follow_the_number_of_labels(count, name, other):
    """Two labels have the F1 of the second, more have the mean of all."""
    ids = np.arange(6) % count
    said = EvalPrediction({"predictions": ids, "confidences": np.ones(6)}, ids)
    head = {"num_labels": count, "id2label": dict(enumerate("abc"[:count]))}
    scores = SequenceClassification().compute_metrics(said, EvalSplit(None, head))
    assert scores[name] == 1
    assert other not in scores


@pytest.mark.parametrize(
    ("options", "objective", "key"),
    [({"metrics": ["f1"]}, "eval_f1", "task.metrics"), ({}, "eval_f1", "objective"), ({}, "eval_f2", "objective")],
)
def test_f1_of_three_labels_is_refused(options, objective, key):
    """No metric changes its meaning with the data."""
    with pytest.raises(ConfigError) as caught:
        SequenceClassification(**options).check_head({"num_labels": 3}, objective)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_f1_of_three_labels_ends_a_run_before_training(train, tiny, own_directory):
    """The labels are only known once the data is read."""
    for split in ("train", "validation", "test"):
        rows = [{"text": f"t {i}", "label": "abc"[i % 3]} for i in range(6)]
        (own_directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    with pytest.raises(ConfigError) as caught:
        train("dataset=local", *files, *tiny, "objective=eval_f1")
    assert [problem.key for problem in caught.value.problems] == ["objective"]


def test_objective_of_a_sweep_is_checked_before_training(compose, toy, own_directory):
    """Two labels have no macro F1 unless the config names it: the sweep would miss its number after the training."""
    cfg = without_hydra(compose(*toy, "tracking=none"))
    with pytest.raises(ConfigError) as caught:
        run(cfg, Job(own_directory, trial=TrialContext("a trial", objectives=["eval_macro_f1"])))
    assert [problem.key for problem in caught.value.problems] == ["objective"]


# --- texts -----------------------------------------------------------------------------------------------

SENTENCES = {
    "Cyrillic": "быстрая лиса прыгает",
    "Greek": "η γρήγορη αλεπού πηδάει",
    "Arabic": "الثعلب السريع يقفز",
    "Hebrew": "השועל המהיר קופץ",
    "Hindi": "तेज़ लोमड़ी कूदती है",
    "Chinese": "敏捷的狐狸跳了",
    "Japanese": "素早いキツネが跳ぶ",
    "Korean": "빠른 여우가 뛴다",
    "Thai": "สุนัขจิ้งจอกกระโดด",
    "French": "été à la forêt",
}


@pytest.mark.parametrize("script", SENTENCES)
@pytest.mark.parametrize("metric", [one for one in GENERATION if one.name.startswith("rouge")], ids=lambda m: m.name)
def test_rouge_of_a_perfect_text_is_one(script, metric):
    """In any script the words are found."""
    text = SENTENCES[script]
    assert metric.compute({"predictions": [text], "references": [text]}) == 1
    assert metric.compute({"predictions": ["?"], "references": [text]}) == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("तेज़ लोमड़ी", ["तेज़", "लोमड़ी"]),  # marks belong to their letters
        ("狐狸 abc跳", ["狐", "狸", "abc", "跳"]),
        ("ÉTÉ e\u0301te\u0301", ["été", "été"]),
        ("snake_case", ["snake", "case"]),
    ],
)
def test_rouge_tokens(text, tokens):
    """Words keep their marks and lose their case; scripts without spaces are read by the character."""
    assert UnicodeTokenizer().tokenize(text) == [unicodedata.normalize("NFC", token) for token in tokens]


def test_rouge_tokens_of_ascii_are_the_standard_ones():
    """English scores are those of papers, without stemming."""
    draw = random.Random(0)
    ours, standard = UnicodeTokenizer(), DefaultTokenizer(use_stemmer=False)
    for _ in range(2000):
        text = "".join(draw.choices(string.printable, k=draw.randrange(40)))
        assert ours.tokenize(text) == standard.tokenize(text)


@pytest.mark.parametrize(("tokenizer", "bleu", "warnings"), [("13a", 0, 1), ("zh", 100, 0)])
def test_bleu_of_chinese_needs_its_tokenizer(tokenizer, bleu, warnings):
    """With the default one a perfect sentence has no four words, which is told before training."""
    task = Seq2Seq(metrics=["bleu"], bleu_tokenizer=tokenizer)
    text = SENTENCES["Chinese"]
    assert task.metrics_from_predictions([{"label": text, "prediction": text}], ())["bleu"] == pytest.approx(bleu)
    splits = DatasetDict({split: Dataset.from_dict({"target": [text]}) for split in ("train", "test")})
    assert len(list(task.warnings(splits))) == warnings


# --- thresholds ------------------------------------------------------------------------------------------


def test_threshold_of_zero_is_taken_from_validation():
    """0.0 is a value like any other: test does not tune its own."""
    head = {"id2label": {0: "a", 1: "b"}}
    said = EvalPrediction({"scores": np.array([[0.9, 0.2], [0.1, 0.8]])}, np.array([[1.0, 0.0], [0.0, 1.0]]))
    task = MultiLabelClassification(tune_threshold=True)
    scores = task.compute_metrics(said, EvalSplit(None, head, {"threshold": 0.0}))
    assert scores == {"threshold": 0.0, "micro_f1": pytest.approx(2 / 3)}


# --- metrics of the user ---------------------------------------------------------------------------------


@pytest.fixture
def user_code(own_directory, monkeypatch):
    """Makes modules of the user that the allow-list has."""

    def add(**modules):
        for name, text in modules.items():
            (own_directory / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(own_directory)
        monkeypatch.setenv(allowlist.VARIABLE, ",".join(modules))

    return add


def test_documented_metric_is_reported_and_minimized(compose, toy, user_code, own_directory):
    """The example of the docs, as it is written there: lower costs are better."""
    code, config = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE.read_text(), re.DOTALL)[:2]
    user_code(my_metrics=code)
    folder = own_directory / "my_conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "cost.yaml").write_text(config)
    overrides = ["experiment=cost", *toy, "tracking=none"]
    cfg = compose(*overrides, config_dir=own_directory / "my_conf")
    check_config(cfg)
    cfg = without_hydra(cfg)
    assert not training_arguments(cfg, build(cfg.task), build(cfg.hardware), own_directory).greater_is_better
    assert not more_is_better(cfg)
    (own_directory / "run").mkdir()
    result = run(cfg, Job(own_directory / "run", overrides))
    true, said = ([["neg", "pos"].index(row[key]) for row in predictions(result)] for key in ("label", "prediction"))
    from my_metrics import cost

    assert result.objective == result.metrics["eval_cost"]
    assert result.metrics["test_cost"] == pytest.approx(cost(said, true, miss=10.0))


COST = "def cost(predictions, references, factor):\n    return factor * sum(a != b for a, b in zip(predictions, references))\ndef none(): return 0\n"


def extra(function="{_target_:costs.cost,_partial_:true,factor:2}", more=""):
    """An override that adds a metric of the user."""
    return (
        f"task.extra_metrics.cost={{_target_:hydratune.tasks.Metric,function:{function},higher_is_better:false{more}}}"
    )


def test_extra_metric_is_minimized_by_sweeps(user_code, toy):
    """The study of a sweep has the direction of the metric."""
    user_code(costs=COST)
    plan, _ = make_plan(Request((*toy, extra(), "objective=eval_cost", "trainer.args.learning_rate=0.1,0.2")))
    assert plan.objectives == {"eval_cost": "minimize"}


def test_task_of_the_user_is_minimized(user_code, compose):
    """A metric of a task's own class has its direction there."""
    user_code(
        my_tasks="from dataclasses import dataclass\n"
        "from hydratune.tasks.metrics.metric import Metric\n"
        "from hydratune.tasks.regression import Regression\n"
        "@dataclass(kw_only=True)\n"
        "class Mine(Regression):\n"
        "    known_metrics = (Metric(name='rmse', higher_is_better=False, low=0),)\n"
    )
    cfg = compose("task=regression", "task._target_=my_tasks.Mine", "task.metrics=[rmse]", "objective=eval_rmse")
    assert not more_is_better(cfg)


WRONG = {
    "not partial": (extra("{_target_:costs.none}"), "task.extra_metrics.cost.function._partial_"),
    "an argument is missing": (extra("{_target_:costs.cost,_partial_:true}"), "task.extra_metrics.cost.function.factor"),
    "no such input": (extra(more=",inputs:{predictions:predictions,references:truth}"), "task.extra_metrics.cost.inputs.references"),
    "no such parameter": (extra(more=",inputs:{y_pred:predictions}"), "task.extra_metrics.cost.inputs"),
    "no function": (extra("null"), "task.extra_metrics.cost.function"),
    "an empty range": (extra(more=",low:1,high:0"), "task.extra_metrics.cost.low"),
    "a typo": (extra(more=",higher_is_beter:true"), "task.extra_metrics.cost.higher_is_beter"),
    "not allowed": (extra("{_target_:os.system,_partial_:true}"), "task.extra_metrics.cost.function._target_"),
    "a name that is taken": (extra().replace(".cost=", ".accuracy="), "task.extra_metrics.accuracy"),
    "a name of Trainer's": (extra().replace(".cost=", ".runtime="), "task.extra_metrics.runtime"),
    "not a metric": ("task.extra_metrics.cost={_target_:costs.cost,_partial_:true}", "task.extra_metrics.cost"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_extra_metric_is_checked_before_loading(user_code, compose, case):
    """Each error is found in the config, under its key."""
    override, key = WRONG[case]
    user_code(costs=COST)
    with pytest.raises(ConfigError) as caught:
        check_config(compose(override))
    assert key in [problem.key for problem in caught.value.problems]


def test_extra_metric_of_a_language_model_is_refused(user_code, compose):
    """There are no rows of predictions to compute it from."""
    user_code(costs=COST)
    with pytest.raises(ConfigError) as caught:
        check_config(
            compose("task=causal_lm", "dataset=local", "dataset.files.train=a.txt", "model=gpt_tiny", f"+{extra()}")
        )
    assert "task.extra_metrics.cost" in [problem.key for problem in caught.value.problems]


def test_extra_metric_of_a_library(compose, monkeypatch):
    """Parameters of other names are mapped to the task's inputs."""
    monkeypatch.setenv(allowlist.VARIABLE, "sklearn.metrics.cohen_kappa_score")
    node = "{_target_:hydratune.tasks.Metric,function:{_target_:sklearn.metrics.cohen_kappa_score,_partial_:true}"
    cfg = compose(f"task.extra_metrics.kappa={node},inputs:{{y1:references,y2:predictions}}}}", "objective=eval_kappa")
    check_config(cfg)
    rows = [{"label": "ab"[i % 2], "prediction": "ab"[i % 3 % 2]} for i in range(9)]
    expected = cohen_kappa_score([row["label"] for row in rows], [row["prediction"] for row in rows])
    assert build(cfg.task).metrics_from_predictions(rows, ["a", "b"])["kappa"] == pytest.approx(expected)


def test_extra_metric_of_probabilities():
    """A metric that takes `scores` has them in evaluation, and from rows that list the probabilities of all labels."""
    metric = Metric(
        function=log_loss, higher_is_better=False, low=0, inputs={"y_true": "references", "y_proba": "scores"}
    )
    task = SequenceClassification(metrics=[], extra_metrics={"nll": metric})
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    labels = np.array([0, 1, 1])
    reduced = {name: values.numpy() for name, values in task.reduce_logits(logits, torch.from_numpy(labels)).items()}
    evaluated = EvalSplit(None, {"num_labels": 2, "id2label": {0: "a", 1: "b"}})
    prediction = EvalPrediction(reduced, labels)
    scores = task.compute_metrics(prediction, evaluated)
    assert scores["nll"] == pytest.approx(torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1])).item())
    assert [row["prediction"] for row in task.format_predictions(reduced, evaluated)] == ["a", "b", "a"]
    rows = list(task.predictions_with_labels(prediction, evaluated))
    assert task.metrics_from_predictions(rows, ["a", "b"]) == pytest.approx(scores)
    assert "nll" in task.row_metrics(["a", "b"])
    assert "nll" not in task.row_metrics([str(i) for i in range(100)])


def test_extra_metric_that_returns_no_number():
    """It is told which metric it is."""
    task = SequenceClassification(
        metrics=[], extra_metrics={"odd": Metric(function=lambda **_: "x", inputs={"predictions": "predictions"})}
    )
    with pytest.raises(ConfigError) as caught:
        task.metrics_from_predictions([{"label": "a", "prediction": "b"}], ["a", "b"])
    assert [problem.key for problem in caught.value.problems] == ["task.extra_metrics.odd.function"]
